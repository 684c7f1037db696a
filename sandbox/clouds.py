"""The stack `local`'s clouds as a whole: made ready, started, restarted when dead, stopped without a trace.

Each cloud is a detached process that outlives the command that started it. What is known about it is in one
file, `.sandbox/clouds/clouds.json`; what it writes lies beside that file and goes with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from filelock import FileLock

from sandbox import cache, vllm
from sandbox import model as models
from sandbox.kubernetes import binaries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

REGION = "us-east-1"
PASSPHRASE = "berth-local"  # noqa: S105  # public: the state it encrypts only opens servers on loopback
AWS_PORT = 4566
RUNPOD_PORT = 4567
_START_TIMEOUT_SECONDS = 60.0
_STOP_TIMEOUT_SECONDS = 45.0


class CloudError(RuntimeError):
    """A cloud of the sandbox cannot be started or reached; the message says which one and why."""


@dataclass(frozen=True)
class Endpoints:
    """Where the sandbox's clouds listen."""

    aws: str
    runpod: str

    @classmethod
    def of(cls, block: int) -> Endpoints:
        """Return the endpoints of the sandbox on the loopback network 127.`block`.0.0/16."""
        return cls(
            f"http://{_address('aws', block)}:{AWS_PORT}",
            f"http://{_address('runpod', block)}:{RUNPOD_PORT}/v2",
        )


@dataclass(frozen=True)
class _Cloud:
    """One running cloud as recorded on disk; the start time tells it from a later owner of its pid."""

    name: str
    pid: int
    started: float

    def alive(self) -> bool:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(self.pid)
            return bool(process.create_time() == self.started and process.status() != psutil.STATUS_ZOMBIE)
        return False


def folder(project: Path) -> Path:
    """Return the folder that holds all that the sandbox of this project writes."""
    return project / ".sandbox"


def credentials(project: Path) -> dict[str, str]:
    """Return the keys that open this project's sandbox, made on first use and kept for their owner's eyes."""
    path = folder(project) / "credentials.json"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if not path.exists():
            keys = {
                "aws_access_key_id": "AKIA"
                + "".join(secrets.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") for _ in range(16)),
                "aws_secret_access_key": secrets.token_urlsafe(30),
                "runpod_api_key": "rpa_" + secrets.token_hex(20),
            }
            unfinished = path.with_suffix(".partial")
            with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                json.dump(keys, file)
            unfinished.replace(path)
    loaded: dict[str, str] = json.loads(path.read_text())
    return loaded


def environment(project: Path, block: int) -> dict[str, str]:
    """Return the variables under which the engine, the Pulumi CLI, `aws` and `kubectl` work on this sandbox.

    Args:
        project: the project's folder.
        block: the sandbox's loopback block, 0 to 250.
    """
    keys = credentials(project)
    path = [
        str(project / "sandbox" / "plugins" / "bin"),
        str(Path(sys.executable).parent),
        os.environ.get("PATH", ""),
    ]
    return {
        "PATH": os.pathsep.join(path),
        "PULUMI_BACKEND_URL": f"file://{folder(project) / 'state'}",
        "PULUMI_CONFIG_PASSPHRASE": PASSPHRASE,
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "AWS_ENDPOINT_URL": Endpoints.of(block).aws,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": keys["aws_access_key_id"],
        "AWS_SECRET_ACCESS_KEY": keys["aws_secret_access_key"],
        "AWS_EC2_METADATA_DISABLED": "true",
        "RUNPOD_API_KEY": keys["runpod_api_key"],
        # The Pulumi CLI starts plugins in `infra/`, whose sandbox.py would be taken for the package.
        "PYTHONSAFEPATH": "1",
    }


def prepare(targets: Iterable[str], model: models.Model, report: Callable[[str, str], None]) -> None:
    """Install what the sandbox runs, in parallel: vLLM and the model, for EKS also the control plane.

    Args:
        targets: the platforms of the stack: `eks`, `runpod` or both.
        model: what the stack serves.
        report: called with the part's name and one line of progress.

    Raises:
        CloudError: a part could not be made ready; the other parts are finished first.
    """
    parts: dict[str, Callable[[Callable[[str], None]], Path]] = {"vllm": partial(_prepare_vllm, model)}
    if "eks" in targets:
        parts["kubernetes"] = binaries.ensure
    _refuse_small_disk(needed_gib(targets))
    with ThreadPoolExecutor(len(parts)) as pool:
        futures = {name: pool.submit(part, partial(report, name)) for name, part in parts.items()}
    for name, future in futures.items():
        error = future.exception()
        if error is not None:
            raise CloudError(f"{name} cannot be made ready: {error}") from error


def needed_gib(targets: Iterable[str]) -> float:
    """Return the disk space in GiB that `prepare` may use at once in the cache; 0 when all is there."""
    return vllm.needed_gib() + (binaries.needed_gib() if "eks" in targets else 0.0)


def _refuse_small_disk(needed: float) -> None:
    """Refuse before the parts, which know only of themselves, fill the disk together."""
    home = cache.directory()
    home.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(home).free / 2**30
    if free < needed:
        raise CloudError(
            f"{needed:.1f} GiB of disk are needed in {home}, where {free:.1f} GiB are free: make room, or "
            "set BERTH_CACHE_DIR to a folder with more"
        )


def _prepare_vllm(model: models.Model, report: Callable[[str], None]) -> Path:
    path = vllm.ensure(report)
    model.ensure(report)
    return path


def start(project: Path, block: int, targets: Iterable[str]) -> Endpoints:
    """Start the clouds that are not running yet, each on its own address; wait until they answer.

    Args:
        project: the project's folder.
        block: the sandbox's loopback block, 0 to 250.
        targets: the platforms of the stack; RunPod is only started for `runpod`, AWS always (its registry
            holds the image of both).

    Raises:
        CloudError: a port is in use, or a cloud ended or did not answer in time.
    """
    names = ["aws", *(["runpod"] if "runpod" in targets else [])]
    home = folder(project) / "clouds"
    home.mkdir(parents=True, exist_ok=True)
    with FileLock(folder(project) / "clouds.lock"):
        running = {cloud.name: cloud for cloud in _recorded(project) if cloud.alive()}
        missing = [name for name in names if name not in running]
        for name in missing:
            _refuse_taken_port(name, block)
        for name in missing:
            running[name] = _launch(project, name, block)
            _record(project, block, running.values())
        for name in missing:
            _await_answer(project, running[name], block)
    return Endpoints.of(block)


def dead(project: Path) -> list[str]:
    """Name the clouds that were started, not stopped, and do not run any more."""
    return [cloud.name for cloud in _recorded(project) if not cloud.alive()]


def running(project: Path) -> list[str]:
    """Name the clouds that run."""
    return [cloud.name for cloud in _recorded(project) if cloud.alive()]


def ensure_running(project: Path) -> list[str]:
    """Start again, on the state they kept, the clouds that died; return their names.

    Raises:
        CloudError: one cannot be started again.
    """
    lost = dead(project)
    if lost:
        state = json.loads(_record_path(project).read_text())
        names = {cloud["name"] for cloud in state["clouds"]}
        start(project, state["block"], ["runpod"] if "runpod" in names else [])
    return lost


def left(project: Path) -> str:
    """Say what the clouds that run still hold, see `sandbox.leftovers`."""
    # boto3 takes a quarter of a second, which no other command is to wait for.
    from sandbox import leftovers  # noqa: PLC0415

    there = running(project)
    if not there:
        return "not known, as they do not run"
    keys = credentials(project)
    endpoints = Endpoints.of(json.loads(_record_path(project).read_text())["block"])
    found = []
    try:
        if "aws" in there:
            found += leftovers.on_aws(
                endpoint=endpoints.aws,
                region=REGION,
                access_key_id=keys["aws_access_key_id"],
                secret_access_key=keys["aws_secret_access_key"],
            )
        if "runpod" in there:
            found += leftovers.on_runpod(url=endpoints.runpod, key=keys["runpod_api_key"])
    except leftovers.NO_ANSWER as error:
        return f"not known: {error}"
    return ", ".join(found) or "nothing"


def stop(project: Path) -> None:
    """Stop every cloud, with all it started, and remove what they wrote."""
    with FileLock(folder(project) / "clouds.lock"):
        clouds = [cloud for cloud in _recorded(project) if cloud.alive()]
        for cloud in clouds:
            os.kill(cloud.pid, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_TIMEOUT_SECONDS
        while any(cloud.alive() for cloud in clouds) and time.monotonic() < deadline:
            time.sleep(0.1)
        for cloud in clouds:
            if cloud.alive():
                os.killpg(cloud.pid, signal.SIGKILL)
        shutil.rmtree(folder(project) / "clouds", ignore_errors=True)
    (folder(project) / "clouds.lock").unlink(missing_ok=True)


def _address(name: str, block: int) -> str:
    return f"127.{block}.0.{1 if name == 'aws' else 2}"


def _port(name: str) -> int:
    return AWS_PORT if name == "aws" else RUNPOD_PORT


def _record_path(project: Path) -> Path:
    return folder(project) / "clouds" / "clouds.json"


def _recorded(project: Path) -> list[_Cloud]:
    path = _record_path(project)
    if not path.exists():
        return []
    return [_Cloud(**cloud) for cloud in json.loads(path.read_text())["clouds"]]


def _record(project: Path, block: int, clouds: Iterable[_Cloud]) -> None:
    path = _record_path(project)
    unfinished = path.with_suffix(".partial")
    unfinished.write_text(json.dumps({"block": block, "clouds": [asdict(cloud) for cloud in clouds]}))
    unfinished.replace(path)


def _launch(project: Path, name: str, block: int) -> _Cloud:
    home = folder(project) / "clouds"
    keys = environment(project, block)
    argv = [sys.executable, "-m", f"sandbox.{name}", "--port", str(_port(name)), "--block", str(block)]
    argv += ["--dir", str(home / name)]
    if name == "runpod":
        argv += ["--registry", Endpoints.of(block).aws]
    with (home / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            argv,
            cwd=project,
            env={**os.environ, **keys, "PYTHONPATH": str(project)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return _Cloud(name, process.pid, psutil.Process(process.pid).create_time())


def _await_answer(project: Path, cloud: _Cloud, block: int) -> None:
    log = folder(project) / "clouds" / f"{cloud.name}.log"
    deadline = time.monotonic() + _START_TIMEOUT_SECONDS
    while True:
        with (
            contextlib.suppress(OSError),
            socket.create_connection((_address(cloud.name, block), _port(cloud.name)), 1),
        ):
            return
        ended = not cloud.alive()
        if ended or time.monotonic() > deadline:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            what = (
                "ended before it was ready" if ended else f"did not answer in {_START_TIMEOUT_SECONDS:.0f} s"
            )
            raise CloudError(f"the sandbox's {cloud.name} cloud {what}; its log ({log}) ends:\n{tail}")
        time.sleep(0.1)


def _refuse_taken_port(name: str, block: int) -> None:
    address, port = _address(name, block), _port(name)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            raise CloudError(
                f"{address}:{port}, where the sandbox's {name} cloud listens, is in use{_owner(port)}: stop "
                "that program, or choose another berth:sandbox.loopback_block in stacks/Pulumi.local.yaml"
            ) from error


def _owner(port: int) -> str:
    for connection in psutil.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
            return f" by process {connection.pid} ({psutil.Process(connection.pid).name()})"
    return ""
