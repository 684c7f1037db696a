"""The one place that knows how a Kubernetes control plane and its nodes are started and stopped."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandbox import processes
from sandbox.aws.kubernetes_api import ApiError, KubernetesApi

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

KUBERNETES_COMMAND: list[str] = [sys.executable, "-m", "sandbox.kubernetes"]
NODE_COMMAND: list[str] = [sys.executable, "-m", "sandbox.kubernetes.node"]

_CONTROL_PLANE_TIMEOUT_SECONDS = 1800.0  # the first start on a machine builds the binaries
_NODE_TIMEOUT_SECONDS = 60.0
_DRAIN_SECONDS = 120.0
_GRACE_SECONDS = 780.0  # with the above 15 minutes, after which EKS gives a drain up
_LOOK_SECONDS = 0.5
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
        device_plugin: `builtin` where its image has NVIDIA's device plugin, `pod` where a DaemonSet does.
        network_policy: whether network policies are enforced.
        cluster: the cluster's name in EKS.
        region: where it is.
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
    device_plugin: str
    network_policy: bool
    cluster: str
    region: str
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
        *("--device-plugin", spec.device_plugin),
        *("--network-policy", "on" if spec.network_policy else "off"),
        *("--cluster", spec.cluster),
        *("--region", spec.region),
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


def _api(control_plane: ControlPlane) -> KubernetesApi:
    return KubernetesApi(Path(control_plane.kubeconfig))


def drain(
    control_plane: ControlPlane,
    node: str,
    cancelled: Callable[[], bool],
    *,
    seconds: float = _DRAIN_SECONDS,
    force: bool = True,
) -> None:
    """Cordon a node, evict its pods as a managed node group does, and wait until they are gone.

    Pods of a DaemonSet stay: they would come back.

    Args:
        control_plane: the cluster's.
        node: the node's name.
        cancelled: says whether the sandbox stops.
        seconds: how long pods may be kept by a disruption budget.
        force: whether pods that are still kept then are deleted, and waited for; else they are left.

    Raises:
        CancelledError: the sandbox stops.
    """
    with _api(control_plane) as api:
        try:
            api.call("PATCH", f"/api/v1/nodes/{node}", {"spec": {"unschedulable": True}})
        except ApiError as error:
            if error.status == 404:
                return
            raise
        kept_until = time.monotonic() + seconds
        given_up = kept_until + (_GRACE_SECONDS if force else 0.0)
        while left := _drainable(api, node):
            if cancelled():
                raise CancelledError
            if time.monotonic() > given_up:
                return
            for metadata in left:
                if not metadata.get("deletionTimestamp"):
                    _evict(api, metadata, delete=force and time.monotonic() > kept_until)
            time.sleep(_LOOK_SECONDS)


def _drainable(api: KubernetesApi, node: str) -> list[dict[str, Any]]:
    """Return the metadata of the pods that a drain moves: all but DaemonSets' and those that have ended."""
    pods = api.call("GET", "/api/v1/pods", fieldSelector=f"spec.nodeName={node}")["items"]
    return [
        pod["metadata"]
        for pod in pods
        if pod.get("status", {}).get("phase") not in {"Succeeded", "Failed"}
        and not any(owner["kind"] == "DaemonSet" for owner in pod["metadata"].get("ownerReferences", []))
    ]


def _evict(api: KubernetesApi, metadata: dict[str, Any], *, delete: bool) -> None:
    name, namespace = metadata["name"], metadata["namespace"]
    path = f"/api/v1/namespaces/{namespace}/pods/{name}"
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name, "namespace": namespace},
    }
    try:
        if delete:
            api.call("DELETE", path)
        else:
            api.call("POST", f"{path}/eviction", body)
    except ApiError as error:
        # 404: gone already. 429: a disruption budget does not allow it yet.
        if error.status not in {404, 429}:
            raise


def remove_node(control_plane: ControlPlane, node: str) -> None:
    """Delete a node's object, as EKS does when its instance is gone."""
    with _api(control_plane) as api:
        try:
            api.call("DELETE", f"/api/v1/nodes/{node}")
        except ApiError as error:
            if error.status != 404:
                raise


def set_node(
    control_plane: ControlPlane,
    node: str,
    labels: Mapping[str, str | None],
    taints: list[dict[str, str]],
) -> None:
    """Give a running node labels (None removes one) and taints."""
    change = {"metadata": {"labels": dict(labels)}, "spec": {"taints": taints}}
    with _api(control_plane) as api:
        api.call("PATCH", f"/api/v1/nodes/{node}", change)


def review_token(control_plane: ControlPlane, token: str, audience: str) -> dict[str, Any] | None:
    """Return the user of a token as the API server's TokenReview has it, or None where it is not valid.

    Raises:
        ApiError: the API server cannot be asked.
    """
    review = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": token, "audiences": [audience]},
    }
    with _api(control_plane) as api:
        status = api.call("POST", "/apis/authentication.k8s.io/v1/tokenreviews", review)["status"]
    if not status.get("authenticated") or audience not in status.get("audiences", []):
        return None
    user: dict[str, Any] = status["user"]
    return user
