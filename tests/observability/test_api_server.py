"""A real API server, with the definitions of the charts' own versions, accepts what the program makes."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sandbox import cache, promtool
from sandbox.kubernetes import binaries
from tests.containers.conftest import free_port, random_address
from tests.infra import variants
from tests.infra.graph import Secret
from tests.sandbox_kubernetes.conftest import Service

if TYPE_CHECKING:
    from collections.abc import Iterator

# Go modules that hold the definitions, of the versions of the charts in infra/eks/charts.py: the hash of
# their contents, and where in them the definitions are.
_DEFINITIONS = {
    "github.com/prometheus-operator/prometheus-operator@v0.93.1": (
        "h1:4Juk8v93RdG1DSGD/mGp+SeQKPmnlLIj2iq3blLZgFY=",
        "example/prometheus-operator-crd",
    ),
    "github.com/kedacore/keda/v2@v2.20.2": (
        "h1:SR60v8uIcelbveS8n/1jcl8tLdBBIbHMxmdOHw8tKqA=",
        "config/crd/bases",
    ),
}
_NEEDED = ("*_podmonitors.yaml", "*_prometheusrules.yaml", "*_scaledobjects.yaml")


@pytest.fixture(scope="module")
def definitions() -> list[Path]:
    work = cache.directory() / "definitions"
    work.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ,
        "GOPATH": str(work / "path"),
        "GOMODCACHE": str(work / "modules"),
        "GOENV": "off",
        "GOFLAGS": "-modcacherw",
        "GOTOOLCHAIN": "local",
        "GONOSUMDB": "*",  # the hashes are here
    }
    result = subprocess.run(
        [promtool.find_go(work), "mod", "download", "-json", *_DEFINITIONS],
        cwd=work,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    found, decoder, rest = [], json.JSONDecoder(), result.stdout
    while rest.strip():
        module, end = decoder.raw_decode(rest.lstrip())
        rest = rest.lstrip()[end:]
        pinned, folder = _DEFINITIONS[f"{module['Path']}@{module['Version']}"]
        assert module["Sum"] == pinned, module["Path"]
        found += [path for pattern in _NEEDED for path in (Path(module["Dir"]) / folder).glob(pattern)]
    assert len(found) == len(_NEEDED)
    return found


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("plane")
    address = random_address()
    service = Service(
        "sandbox.kubernetes",
        *("--dir", folder / "plane", "--host", address, "--port", free_port(address)),
        log=folder / "log",
    )
    yield service
    service.stop()


def _kubectl(plane: Service, *arguments: str, objects: list[Any] | None = None) -> str:
    result = subprocess.run(
        [binaries.directory() / "kubectl", "--kubeconfig", plane.ready["admin_kubeconfig"], *arguments],
        input=None if objects is None else json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def _open(value: Any) -> Any:
    """Return a recorded value as the provider gets it: secrets too."""
    if isinstance(value, Secret):
        return _open(value.value)
    if isinstance(value, dict):
        return {key: _open(item) for key, item in value.items()}
    return [_open(item) for item in value] if isinstance(value, list) else value


def test_it_accepts_every_object(plane: Service, definitions: list[Path]) -> None:
    made = [
        _open(item.inputs)
        for item in variants.recorded("prod", False)
        if item.name.startswith(("monitoring-", "scaling-"))
        and item.type.startswith("kubernetes:")
        and "Release" not in item.type
    ]
    kinds = {item["kind"] for item in made}
    assert {"PodMonitor", "PrometheusRule", "ScaledObject", "DaemonSet", "ConfigMap", "Secret"} <= kinds
    for path in definitions:
        _kubectl(plane, "apply", "--server-side", "-f", str(path))
    _kubectl(plane, "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    namespaces = {item["metadata"]["namespace"] for item in made if "namespace" in item["metadata"]}
    for name in sorted(namespaces):
        _kubectl(plane, "create", "namespace", name)
    others = [item for item in made if item["kind"] != "Namespace"]
    # Strictly: what the definition does not know is refused, rather than dropped in silence.
    said = _kubectl(plane, "apply", "--dry-run=server", "--validate=strict", "-f", "-", objects=others)
    assert len(said.splitlines()) == len(others)
