"""Runs a Kubernetes control plane until SIGTERM: `python -m sandbox.kubernetes --dir D`."""

from __future__ import annotations

import argparse
import base64
import contextlib
import ipaddress
import sys
from pathlib import Path

import httpx

from sandbox.kubernetes import binaries
from sandbox.kubernetes.controlplane import ControlPlane, ControlPlaneError
from sandbox.processes import ProcessError, announce, stop_event


def main() -> int:
    """Start the control plane, announce it, and keep it running; return the exit status."""
    arguments = _parse()
    try:
        programs = binaries.ensure(lambda line: print(line, file=sys.stderr, flush=True))
        arguments.dir.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            plane = ControlPlane(
                arguments.dir.resolve(),
                programs,
                host=arguments.host,
                port=arguments.port,
                token_webhook=arguments.token_webhook,
            )
            stack.callback(plane.stop)
            # Until here SIGTERM simply ends this process, and with it all that it started.
            plane.start()
            stop = stop_event()
            announce(
                {
                    "endpoint": plane.endpoint,
                    "certificate_authority_data": base64.b64encode(plane.cluster.authority.encode()).decode(),
                    "admin_kubeconfig": str(plane.admin_kubeconfig),
                    "version": binaries.version(),
                }
            )
            plane.supervise(stop)
    except (ControlPlaneError, ProcessError, binaries.BinariesError, httpx.HTTPError) as error:
        print(f"sandbox.kubernetes: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m sandbox.kubernetes", description="A real Kubernetes control plane on this machine."
    )
    parser.add_argument("--dir", type=Path, required=True, help="data, certificates, kubeconfigs and logs")
    parser.add_argument("--host", type=_loopback, default="127.0.0.1", help="loopback address to listen on")
    parser.add_argument("--port", type=int, default=6443, help="the API's port (default: 6443)")
    parser.add_argument("--token-webhook", help="URL that answers TokenReviews for bearer tokens")
    return parser.parse_args()


def _loopback(text: str) -> str:
    address = ipaddress.ip_address(text)
    if address.version != 4 or not address.is_loopback:
        raise argparse.ArgumentTypeError(f"{text} is not a loopback address (127.x.y.z)")
    return text


if __name__ == "__main__":
    sys.exit(main())
