"""Runs one node of a cluster until SIGTERM: `python -m sandbox.kubernetes.node --name N ...`."""

from __future__ import annotations

import argparse
import ipaddress
import logging
import os
import sys
from pathlib import Path

import httpx
from filelock import FileLock, Timeout

from sandbox.images import ImageError
from sandbox.kubernetes import kubeconfig
from sandbox.kubernetes.node.api import ApiError
from sandbox.kubernetes.node.node import Node
from sandbox.kubernetes.node.registration import Description
from sandbox.processes import announce, stop_event

_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def main() -> int:
    """Register the node, announce it, and run its pods; return the exit status."""
    arguments = _parse()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    stop = stop_event()
    directory: Path = arguments.dir.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(directory / "lock", timeout=0):
            node = Node(
                Description(
                    name=arguments.name,
                    address=arguments.address,
                    provider_id=arguments.provider_id,
                    labels=arguments.labels,
                    taints=arguments.taints,
                ),
                directory=directory,
                cluster=kubeconfig.read_cluster(arguments.kubeconfig),
                authority_directory=arguments.ca_dir or arguments.kubeconfig.parent / "pki",
                pod_network=arguments.pod_network,
                registry=arguments.registry,
                region=arguments.region,
                aws=arguments.aws_endpoint or arguments.registry,
                cluster_name=arguments.cluster,
                gpus=arguments.gpus,
                builtin_device_plugin=arguments.device_plugin == "builtin",
                network_policy=arguments.network_policy == "on",
            )
            node.start()
            announce({"name": arguments.name, "address": arguments.address})
            stop.wait()
            node.stop()
    except Timeout:
        print(f"sandbox.kubernetes.node: another node runs on {directory}", file=sys.stderr)
        return 1
    except (ApiError, ImageError, OSError) as error:
        print(f"sandbox.kubernetes.node: {arguments.name}: {error}", file=sys.stderr)
        return 1
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m sandbox.kubernetes.node", description="A node that runs pods as processes."
    )
    parser.add_argument("--dir", type=Path, required=True, help="pods' folders, logs and images")
    parser.add_argument("--kubeconfig", type=Path, required=True, help="names the cluster's API")
    parser.add_argument(
        "--ca-dir", type=Path, help="the cluster's authority (default: `pki` beside the kubeconfig)"
    )
    parser.add_argument("--name", required=True)
    parser.add_argument("--address", type=_loopback, required=True, help="the node's loopback address")
    parser.add_argument("--pod-network", type=_network, required=True, help='of the pods, as "127.77.2"')
    parser.add_argument("--registry", required=True, help="URL of the registry and of its ECR")
    parser.add_argument("--provider-id", default="", help='as "aws:///us-east-1a/i-0abc"')
    parser.add_argument("--labels", type=_labels, default={}, help="key=value,...")
    parser.add_argument("--taints", type=_taints, default=[], help="key=value:Effect,...")
    parser.add_argument("--gpus", type=int, default=0, help="how many nvidia.com/gpu it has")
    parser.add_argument(
        "--device-plugin",
        choices=("builtin", "pod"),
        default="builtin",
        help="whether its GPUs can be used at once, or while NVIDIA's device plugin runs on it as a pod",
    )
    parser.add_argument(
        "--network-policy", choices=("on", "off"), default="on", help="whether NetworkPolicies are enforced"
    )
    parser.add_argument("--cluster", default="", help="the cluster's name in EKS, for Pod Identity")
    parser.add_argument(
        "--aws-endpoint", type=_url, help="URL of the sandbox's AWS (default: the registry's)"
    )
    parser.add_argument(
        "--region",
        default=os.environ.get("AWS_DEFAULT_REGION", "us-east-1"),
        help="the region that pods are told (default: AWS_DEFAULT_REGION, else us-east-1)",
    )
    return parser.parse_args()


def _loopback(text: str) -> str:
    address = ipaddress.ip_address(text)
    if address.version != 4 or not address.is_loopback:
        raise argparse.ArgumentTypeError(f"{text} is not a loopback address (127.x.y.z)")
    return text


def _url(text: str) -> str:
    url = httpx.URL(text)
    if url.scheme not in {"http", "https"} or not url.host:
        raise argparse.ArgumentTypeError(f"{text} is not an http URL")
    return text


def _network(text: str) -> str:
    _loopback(f"{text}.1")
    return text


def _labels(text: str) -> dict[str, str]:
    return dict(pair.partition("=")[::2] for pair in text.split(",") if pair)


def _taints(text: str) -> list[dict[str, str]]:
    taints = []
    for part in filter(None, text.split(",")):
        pair, _, effect = part.rpartition(":")
        key, _, value = pair.partition("=")
        if not key or effect not in _EFFECTS:
            raise argparse.ArgumentTypeError(f"{part} is not key=value:Effect, with {', '.join(_EFFECTS)}")
        taints.append({"key": key, "value": value, "effect": effect})
    return taints


if __name__ == "__main__":
    sys.exit(main())
