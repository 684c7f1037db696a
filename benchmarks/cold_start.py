"""Times starts of vLLM from the start of the process to the first token: its own command, and the image's.

    python -m benchmarks.cold_start --python PYTHON --output FILE -- MODEL ARGUMENTS

PYTHON is one that has vLLM (its folder also has the command `vllm`), MODEL and ARGUMENTS are those of
`vllm serve`. Each way starts `first` with empty caches of compiled code, then `later` with what it has left
there. FlashInfer's kernels are the exception: they are in the image, so they must have been built before.
What each stage took is read from when the lines of vLLM's log arrive; the logs are kept beside the output,
each line with its second.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = Path(__file__).resolve().parent.parent
_ENTRYPOINT = _ROOT / "image" / "entrypoint.py"
# vLLM's command. It looks up the version of the package `vllm`, which has another name on a CPU. The platform
# is recognized by just that, so it comes first.
_COMMAND = """
import importlib.metadata
import vllm.entrypoints.cli.main as command
from vllm.platforms import current_platform
if current_platform.is_cpu():
    own = importlib.metadata.version
    importlib.metadata.version = lambda name: "" if name == "vllm" else own(name)
command.main()
"""
# The line that ends each stage. Where vLLM does not write it, the stage is part of the next.
_STAGES = {
    "server imports": r"version \d+\.\d+\.\d+",
    "engine process": r"Initializing a V1 LLM engine",
    "weights": r"Model loading took",
    "compile": r"torch\.compile took",
    "memory profile": r"Available KV cache memory",
    "graphs": r"Graph capturing finished",
    "warm-up": r"init engine \(",
    "routes": r"Application startup complete",
}
_FEW_GRAPHS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
# Nothing is compiled by torch.compile; what is captured are whole batches of decoding.
_NOT_COMPILED = '{"mode": 0, "cudagraph_mode": "FULL_DECODE_ONLY"}'
# vLLM's image has no compiled bytecode and its user may write none (vllm-project/vllm#55422).
_NO_BYTECODE = (("PYTHONPYCACHEPREFIX", "/nonexistent"), ("PYTHONDONTWRITEBYTECODE", "1"))


@dataclass(frozen=True)
class Way:
    """One way to start a server: what comes before its arguments, what after them, and its environment."""

    command: tuple[str, ...]
    more: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()


def ways(python: str) -> dict[str, Way]:
    """Return the ways to start, by name."""
    plain = (python, "-c", _COMMAND, "serve")
    image = (python, str(_ENTRYPOINT))
    sizes = "--cudagraph-capture-sizes", *map(str, _FEW_GRAPHS)
    return {
        "vllm serve": Way(plain),
        "vllm serve, no bytecode": Way(plain, environment=_NO_BYTECODE),
        "vllm serve, forked": Way(plain, environment=(("VLLM_WORKER_MULTIPROC_METHOD", "fork"),)),
        "image": Way(image),
        "image, 10 graph sizes": Way(image, more=sizes),
        "image, not compiled": Way(image, more=("--compilation-config", _NOT_COMPILED)),
        "image, not compiled, 10 graph sizes": Way(
            image, more=(*sizes, "--compilation-config", _NOT_COMPILED)
        ),
    }


class Server:
    """A server that is starting."""

    def __init__(self, way: Way, arguments: list[str], environment: dict[str, str], log: Path) -> None:
        """Start it, and stamp the lines of its log."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = int(listener.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        model, *options = arguments
        command = [*way.command, model, "--served-model-name", "model", *options, *way.more]
        if str(_ENTRYPOINT) not in command:
            command += ["--host", "127.0.0.1", "--port", str(self.port)]
        own = {
            "BERTH_FAST_START": "1",
            "BERTH_HOST": "127.0.0.1",
            "PORT": str(self.port),
            "BERTH_TERMINATION_LOG": os.devnull,
        }
        self.lines: list[tuple[float, str]] = []
        self._log = log
        self._begun = time.monotonic()
        self.process = subprocess.Popen(
            command,
            env={**os.environ, **own, **environment, **dict(way.environment)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._stamp, daemon=True)
        self._reader.start()

    def _stamp(self) -> None:
        assert self.process.stdout is not None  # noqa: S101  # it was asked for
        for line in self.process.stdout:
            self.lines.append((time.monotonic() - self._begun, line.rstrip()))

    def first_token(self, limit_seconds: float) -> float:
        """Wait until it answers with a token, and return the seconds since its start."""
        body = json.dumps({"model": "model", "prompt": "hello", "max_tokens": 1}).encode()
        request = urllib.request.Request(  # noqa: S310  # a server started here
            f"{self.url}/v1/completions", body, {"content-type": "application/json"}
        )
        while time.monotonic() - self._begun < limit_seconds and self.process.poll() is None:
            with (
                contextlib.suppress(urllib.error.URLError, ConnectionError),
                urllib.request.urlopen(request, timeout=60) as response,  # noqa: S310
            ):
                response.read()
                return time.monotonic() - self._begun
            time.sleep(0.02)
        self.stop()
        sys.exit(
            "the server gives no token; its log ends:\n" + "\n".join(line for _, line in self.lines[-30:])
        )

    def stop(self) -> None:
        """End it and what it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(20)
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._reader.join(5)
        kept = [
            (at, line) for at, line in self.lines if line and "Capturing" not in line and "Route:" not in line
        ]
        self._log.write_text("".join(f"{at:8.2f} {line}\n" for at, line in kept))

    def processor_seconds(self) -> float:
        """Return what it and its processes have used: it tells more than the clock on a busy machine."""
        ticks = 0
        for status in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):  # it has ended
                fields = status.read_text().rpartition(")")[2].split()
                if int(fields[3]) == self.process.pid:  # the session
                    ticks += sum(map(int, fields[11:15]))
        return round(ticks / os.sysconf("SC_CLK_TCK"), 1)

    def stages(self, first_token: float) -> dict[str, float]:
        """Return what each stage took, in seconds."""
        taken, since = {}, 0.0
        for stage, pattern in _STAGES.items():
            at = next((at for at, line in self.lines if re.search(pattern, line)), None)
            if at is not None:
                taken[stage], since = round(at - since, 2), at
        return {**taken, "first token": round(first_token - since, 2)}


@contextlib.contextmanager
def started(
    way: Way, arguments: list[str], environment: dict[str, str], log: Path, limit_seconds: float
) -> Iterator[tuple[Server, float]]:
    """Start a server, give it and the seconds to its first token, and end it."""
    server = Server(way, arguments, environment, log)
    try:
        seconds = server.first_token(limit_seconds)
        if any("started by its own command" in line for _, line in server.lines):
            sys.exit(f"the image's start stood aside: {log}")
        yield server, seconds
    finally:
        server.stop()


def caches(folder: Path) -> dict[str, str]:
    """Return the environment that keeps a server's caches in a folder."""
    return {
        "VLLM_CACHE_ROOT": str(folder / "vllm"),
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
        "TRITON_CACHE_DIR": str(folder / "triton"),
    }


def machine(python: str) -> dict[str, Any]:
    """Say what the figures were taken on."""
    about: dict[str, Any] = {
        "machine": f"{platform.platform()}, {os.cpu_count()} cores",
        "load": os.getloadavg(),
    }
    if shutil.which("nvidia-smi"):
        names = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
        about["gpu"] = subprocess.check_output(names, text=True).strip()
    code = "import torch, vllm.version; print(torch.__version__, vllm.version.__version__)"
    about["torch"], about["vllm"] = subprocess.check_output([python, "-c", code], text=True).split()[-2:]
    return about


def scrub(logs: Path, model: str, folder: Path) -> None:
    """Take this machine's folders out of the logs."""
    names = {str(folder): "CACHES", model: "MODEL", str(_ROOT): "BERTH", str(Path.home()): "HOME"}
    for log in logs.glob("*.log"):
        text = log.read_text()
        for name, stand_in in names.items():
            text = text.replace(name, stand_in)
        log.write_text(text)


def table(rows: list[dict[str, Any]]) -> str:
    """Return rows as a table in Markdown."""
    stages = [stage for stage in (*_STAGES, "first token") if any(stage in row["stages"] for row in rows)]
    heads = ["started by", "start", *stages, "in all, s", "processor, s"]
    lines = [heads, ["---"] * len(heads)]
    for row in rows:
        taken = [f"{row['stages'][stage]:.1f}" if stage in row["stages"] else "" for stage in stages]
        lines.append(
            [row["way"], row["start"], *taken, f"{row['seconds']:.1f}", f"{row['processor_seconds']:.1f}"]
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Measure, show, and keep."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--python", default=sys.executable, help="a Python that has vLLM")
    parser.add_argument("--ways", nargs="+", choices=tuple(ways("")), default=["vllm serve", "image"])
    parser.add_argument("--starts", nargs="+", choices=("first", "later"), default=["first", "later"])
    parser.add_argument("--caches", type=Path, help="keep the caches here, for another run (default: do not)")
    parser.add_argument("--limit-seconds", type=float, default=600.0)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("arguments", nargs="+", help="a model and arguments, as for `vllm serve`")
    options = parser.parse_args()
    python = str(Path(options.python).absolute())
    logs = options.output.with_suffix("")
    logs.mkdir(parents=True, exist_ok=True)
    rows = []
    about = machine(python)
    with tempfile.TemporaryDirectory(prefix="cold-start-") as temporary:
        folder = options.caches or Path(temporary)
        for name in options.ways:
            for start in options.starts:
                label = f"{name}, {start}".replace(", ", "-").replace(" ", "-")
                environment = {
                    **caches(folder / re.sub(r"\W+", "-", name)),
                    "PATH": f"{Path(python).parent}:{os.environ['PATH']}",
                    "VLLM_NO_USAGE_STATS": "1",
                    "HF_HUB_OFFLINE": "1",
                }
                way, log = ways(python)[name], logs / f"{label}.log"
                with started(way, options.arguments, environment, log, options.limit_seconds) as (
                    server,
                    seconds,
                ):
                    stages, spent = server.stages(seconds), server.processor_seconds()
                row = {"way": name, "start": start, "seconds": round(seconds, 2), "stages": stages}
                rows.append({**row, "processor_seconds": spent})
                print(table(rows[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
        scrub(logs, options.arguments[0], folder)
    print(table(rows))
    command = [
        "python -m benchmarks.cold_start --python PYTHON --ways",
        *(f"'{way}'" for way in options.ways),
    ]
    command += ["--starts", *options.starts, "--output FILE -- MODEL", *options.arguments[1:]]
    kept = {**about, "command": " ".join(command), "rows": rows}
    options.output.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
