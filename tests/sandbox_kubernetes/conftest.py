"""What the tests share: one real control plane, one GPU node and a registry for each test process."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import yaml

from sandbox.kubernetes import binaries
from tests.blocks import free_block
from tests.containers.registry import Registry
from tests.sandbox_kubernetes.aws import Aws

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROJECT = Path(__file__).resolve().parents[2]
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/berth:test"
GPU_TAINT = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
TOLERATION = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}


def wait_for(condition: Callable[[], object], seconds: float = 90) -> Any:
    """Wait until a condition holds and return what it returned, or fail."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.1)
    return value


class Service:
    """One of the programs under test, with the JSON line it prints when it is ready."""

    def __init__(self, module: str, *arguments: object, log: Path, env: dict[str, str] | None = None) -> None:
        self.log = log
        with log.open("ab") as file:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", module, *map(str, arguments)],
                cwd=PROJECT,
                env={**os.environ, **(env or {})},
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                start_new_session=True,
            )
        assert self.popen.stdout is not None
        line = self.popen.stdout.readline()
        if not line:
            pytest.fail(f"{module} did not start:\n{log.read_text()[-4000:]}")
        self.ready: dict[str, str] = json.loads(line)

    def stop(self, seconds: float = 30) -> int:
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(seconds)

    def below(self) -> list[psutil.Process]:
        found: list[psutil.Process] = psutil.Process(self.popen.pid).children(recursive=True)
        return found


@dataclass
class Cluster:
    """A control plane, a node, AWS as they see it, and kubectl."""

    directory: Path
    block: int
    registry: Registry
    plane: Service
    aws: Aws
    nodes: dict[str, Service] = field(default_factory=dict)

    @property
    def kubeconfig(self) -> str:
        return self.plane.ready["admin_kubeconfig"]

    def add_node(self, name: str, number: int, *arguments: object) -> Service:
        self.nodes[name] = Service(
            "sandbox.kubernetes.node",
            *("--dir", self.directory / name, "--kubeconfig", self.kubeconfig, "--name", name),
            *("--address", f"127.{self.block}.1.{number}", "--pod-network", f"127.{self.block}.2"),
            *("--registry", self.registry.url, "--aws-endpoint", self.aws.url, "--cluster", "test"),
            *arguments,
            log=self.directory / f"{name}.log",
            env={
                "AWS_ACCESS_KEY_ID": "AKIATEST",
                "AWS_SECRET_ACCESS_KEY": "test",
                "BERTH_SANDBOX_VLLM": str(self.directory / "bin"),
            },
        )
        return self.nodes[name]

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        result = subprocess.run(
            [binaries.directory() / "kubectl", "--kubeconfig", self.kubeconfig, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert not check or result.returncode == 0, result.stderr
        return result.stdout + ("" if check else result.stderr)

    def apply(self, *objects: dict[str, Any]) -> None:
        self.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(objects))

    def get(self, kind: str, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.kubectl("get", kind, name, "-o", "json"))
        return found

    def pod(self, name: str) -> dict[str, Any]:
        return self.get("pod", name)

    def ready(self, name: str) -> bool:
        conditions = self.pod(name)["status"].get("conditions", [])
        return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)

    def container(self, name: str) -> dict[str, Any]:
        statuses = self.pod(name)["status"].get("containerStatuses") or [{}]
        found: dict[str, Any] = statuses[0]
        return found

    def local(self, name: str) -> str:
        return "127" + str(self.pod(name)["status"]["podIP"]).removeprefix("10")


def pod(name: str, *, container: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    """Return a pod that runs the test image on the GPU node."""
    main = {"name": "app", "image": IMAGE, "args": ["8000"], **(container or {})}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "tolerations": [TOLERATION],
            "terminationGracePeriodSeconds": 5,
            "automountServiceAccountToken": False,
            "containers": [main],
            **spec,
        },
    }


def push_image(registry: Registry) -> None:
    """Put an image into the registry whose ENTRYPOINT is a Python script."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w:gz") as tar:
        tar.add(Path(__file__).with_name("app.py"), "app/app.py")
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Entrypoint": ["python3", "/app/app.py"], "Env": ["FROM_IMAGE=yes"], "User": "2000"},
            "rootfs": {"type": "layers", "diff_ids": []},
        }
    ).encode()
    descriptors = []
    for content in (config, layer.getvalue()):
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        registry.blobs[digest] = content
        descriptors.append({"digest": digest, "size": len(content)})
    manifest = {
        "schemaVersion": 2,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **descriptors[0]},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", **descriptors[1]}],
    }
    registry.manifests["berth", "test"] = json.dumps(manifest).encode()


@pytest.fixture(scope="session")
def block() -> int:
    return free_block()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory, block: int) -> Iterator[Cluster]:
    directory = tmp_path_factory.mktemp("cluster")
    tools = directory / "bin"
    tools.mkdir()
    (tools / "python3").symlink_to(sys.executable)
    registry = Registry()
    push_image(registry)
    aws = Aws()
    plane = Service(
        "sandbox.kubernetes",
        *("--dir", directory / "plane", "--host", f"127.{block}.0.3"),
        log=directory / "plane.log",
    )
    made = Cluster(directory, block, registry, plane, aws)
    try:
        made.add_node(
            "gpu-1",
            1,
            *("--labels", "nvidia.com/gpu.present=true,role=gpu", "--gpus", "2"),
            *("--taints", "nvidia.com/gpu=present:NoSchedule"),
            *("--provider-id", "aws:///us-east-1a/i-0123456789abcdef0"),
        )
        yield made
    finally:
        for service in [*made.nodes.values(), plane]:
            service.stop()
        aws.stop()
        registry.shutdown()
        registry.server_close()
