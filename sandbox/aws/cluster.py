"""The one place that knows how a Kubernetes control plane and its nodes are started and stopped."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from sandbox import processes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

KUBERNETES_COMMAND: list[str] = [sys.executable, "-m", "sandbox.kubernetes"]
NODE_COMMAND: list[str] = [sys.executable, "-m", "sandbox.kubernetes.node"]

_CONTROL_PLANE_TIMEOUT_SECONDS = 1800.0  # the first start on a machine builds the binaries
_NODE_TIMEOUT_SECONDS = 60.0
_DRAIN_SECONDS = 120.0
_STOP_SECONDS = 30.0


@dataclass(frozen=True)
class ControlPlane:
    """A running control plane.

    Args:
        process: its process.
        endpoint: the URL of the Kubernetes API.
        certificate_authority_data: its CA, in base64.
        kubeconfig: a kubeconfig with an administrator's certificate.
    """

    process: processes.Process
    endpoint: str
    certificate_authority_data: str
    kubeconfig: str


@dataclass(frozen=True)
class NodeSpec:
    """What a node is started with.

    Args:
        name: its name in Kubernetes.
        address: its own loopback address.
        pod_network: the first three octets of pod addresses.
        registry: URL of the image registry.
        provider_id: `aws:///<zone>/<instance id>`.
        labels: labels it registers with.
        taints: taints it registers with, as `key=value:Effect`.
        gpus: how many GPUs it has.
        environment: credentials for the registry.
    """

    name: str
    address: str
    pod_network: str
    registry: str
    provider_id: str
    labels: Mapping[str, str]
    taints: tuple[str, ...]
    gpus: int
    environment: Mapping[str, str]


class CancelledError(Exception):
    """What was being waited for is no longer wanted."""


def start_control_plane(
    directory: Path, host: str, token_webhook: str, cancelled: Callable[[], bool]
) -> ControlPlane:
    """Start a control plane and wait until it answers.

    Args:
        directory: where it keeps its state; the one it kept before, to start it again.
        host: the address it listens on.
        token_webhook: URL that reviews tokens.
        cancelled: says whether it is no longer wanted.

    Raises:
        CancelledError: it is no longer wanted.
        processes.ProcessError: it did not come up.
    """
    directory.mkdir(parents=True, exist_ok=True)
    argv = [*KUBERNETES_COMMAND, "--dir", str(directory), "--host", host, "--token-webhook", token_webhook]
    process, ready = _start(argv, "the Kubernetes control plane", directory.parent / "kubernetes.log", None)
    try:
        said = _wait(process, ready, _CONTROL_PLANE_TIMEOUT_SECONDS, cancelled)
    except (CancelledError, processes.ProcessError):
        process.stop()
        raise
    return ControlPlane(
        process, said["endpoint"], said["certificate_authority_data"], said["admin_kubeconfig"]
    )


def start_node(
    directory: Path, control_plane: ControlPlane, spec: NodeSpec, cancelled: Callable[[], bool]
) -> processes.Process:
    """Start a node and wait until it has registered.

    Raises:
        CancelledError: it is no longer wanted.
        processes.ProcessError: it did not come up.
    """
    directory.mkdir(parents=True, exist_ok=True)
    argv = [
        *NODE_COMMAND,
        *("--dir", str(directory)),
        *("--kubeconfig", control_plane.kubeconfig),
        *("--name", spec.name),
        *("--address", spec.address),
        *("--pod-network", spec.pod_network),
        *("--registry", spec.registry),
        *("--provider-id", spec.provider_id),
        *("--labels", ",".join(f"{key}={value}" for key, value in spec.labels.items())),
        *("--taints", ",".join(spec.taints)),
        *("--gpus", str(spec.gpus)),
    ]
    process, ready = _start(argv, f"node {spec.name}", directory / "node.log", dict(spec.environment))
    try:
        _wait(process, ready, _NODE_TIMEOUT_SECONDS, cancelled)
    except (CancelledError, processes.ProcessError):
        process.stop()
        raise
    return process


def _start(
    argv: list[str], name: str, log_path: Path, environment: dict[str, str] | None
) -> tuple[processes.Process, int]:
    offset = log_path.stat().st_size if log_path.exists() else 0
    return processes.spawn(argv, name=name, log_path=log_path, env=environment), offset


def _wait(
    process: processes.Process, offset: int, timeout_seconds: float, cancelled: Callable[[], bool]
) -> dict[str, Any]:
    said: dict[str, Any] = {}

    def ready() -> bool:
        if cancelled():
            raise CancelledError
        with process.log_path.open("rb") as log:
            log.seek(offset)
            for line in log:
                if line.startswith(b"{") and line.endswith(b"}\n"):
                    try:
                        said.update(json.loads(line))
                    except ValueError:
                        continue
                    return True
        return False

    process.wait_until(ready, timeout_seconds=timeout_seconds)
    return said


def stop(process: processes.Process) -> None:
    """Stop a control plane or a node and all below it."""
    process.stop(_STOP_SECONDS)


def _core(control_plane: ControlPlane) -> client.CoreV1Api:
    return client.CoreV1Api(config.new_client_from_config(control_plane.kubeconfig))


def drain(control_plane: ControlPlane, node: str, cancelled: Callable[[], bool]) -> None:
    """Cordon a node, evict its pods as a managed node group does, and wait until they are gone.

    Pods that are still there after two minutes are deleted.

    Raises:
        CancelledError: the sandbox stops.
    """
    core = _core(control_plane)
    try:
        core.patch_node(node, {"spec": {"unschedulable": True}})
    except ApiException as error:
        if error.status == 404:
            return
        raise

    @retry(
        retry=retry_if_exception_type(_PodsLeftError),
        wait=wait_fixed(0.5),
        stop=stop_after_delay(_DRAIN_SECONDS),
        reraise=True,
    )
    def evict() -> None:
        if cancelled():
            raise CancelledError
        left = core.list_pod_for_all_namespaces(field_selector=f"spec.nodeName={node}").items
        for pod in left:
            if pod.metadata.deletion_timestamp is None:
                _evict(core, pod)
        if left:
            raise _PodsLeftError

    try:
        evict()
    except _PodsLeftError:
        for pod in core.list_pod_for_all_namespaces(field_selector=f"spec.nodeName={node}").items:
            core.delete_namespaced_pod(pod.metadata.name, pod.metadata.namespace)


def _evict(core: client.CoreV1Api, pod: Any) -> None:
    body = client.V1Eviction(
        metadata=client.V1ObjectMeta(name=pod.metadata.name, namespace=pod.metadata.namespace)
    )
    try:
        core.create_namespaced_pod_eviction(pod.metadata.name, pod.metadata.namespace, body)
    except ApiException as error:
        # 404: gone already. 429: a disruption budget does not allow it yet.
        if error.status not in {404, 429}:
            raise


class _PodsLeftError(Exception):
    """A node still has pods."""


def remove_node(control_plane: ControlPlane, node: str) -> None:
    """Delete a node's object, as EKS does when its instance is gone."""
    try:
        _core(control_plane).delete_node(node)
    except ApiException as error:
        if error.status != 404:
            raise


def set_node(
    control_plane: ControlPlane,
    node: str,
    labels: Mapping[str, str | None],
    taints: list[dict[str, str]],
) -> None:
    """Give a running node labels (None removes one) and taints."""
    _core(control_plane).patch_node(node, {"metadata": {"labels": dict(labels)}, "spec": {"taints": taints}})
