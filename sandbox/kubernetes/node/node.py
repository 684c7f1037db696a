"""Puts a node together: its registration, the pods bound to it, NodePorts and logs."""

from __future__ import annotations

import shutil
import threading
import time
from typing import TYPE_CHECKING

from sandbox.kubernetes import kubeconfig
from sandbox.kubernetes.node.agent import PolicyAgent
from sandbox.kubernetes.node.api import Api, Mirror, Object
from sandbox.kubernetes.node.context import NodeContext
from sandbox.kubernetes.node.devices import Devices
from sandbox.kubernetes.node.egress import EgressServer
from sandbox.kubernetes.node.events import Events
from sandbox.kubernetes.node.gates import Gates
from sandbox.kubernetes.node.images import NodeImages
from sandbox.kubernetes.node.nodeports import NodePorts
from sandbox.kubernetes.node.plugins import PluginServer
from sandbox.kubernetes.node.pod import PodWorker
from sandbox.kubernetes.node.pod_identity import PodIdentity
from sandbox.kubernetes.node.registration import KUBELET_PORT, Description, Registration
from sandbox.kubernetes.node.relay import Loop
from sandbox.kubernetes.node.server import KubeletServer
from sandbox.kubernetes.pki import Authority

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox.kubernetes.kubeconfig import Cluster
    from sandbox.kubernetes.node.container import Runner

# When the node itself is stopped nobody waits for requests to be served: no preStop hooks, little grace.
_SHUTDOWN_GRACE_SECONDS = 10.0


class Node:
    """One node of a cluster.

    Args:
        description: what it says of itself.
        directory: pods' folders and images.
        cluster: the API.
        authority_directory: the control plane's certificate authority.
        pod_network: the first three octets of pods' addresses, as "127.77.2".
        registry: where images are pulled.
        region: whose ECR gives out the registry's token, and what pods are told.
        aws: URL of the sandbox's AWS.
        cluster_name: the cluster's name in EKS; empty for one that is not of EKS.
        gpus: how many GPUs it has.
        builtin_device_plugin: whether its GPUs can be used without a device plugin's pod.
        network_policy: whether NetworkPolicies are enforced.
    """

    def __init__(
        self,
        description: Description,
        *,
        directory: Path,
        cluster: Cluster,
        authority_directory: Path,
        pod_network: str,
        registry: str,
        region: str,
        aws: str,
        cluster_name: str,
        gpus: int,
        builtin_device_plugin: bool,
        network_policy: bool,
    ) -> None:
        name = description.name
        authority = Authority(authority_directory)
        pair = authority.issue(
            f"node-{name}-{description.address}",
            common_name=f"system:node:{name}",
            groups=["system:nodes"],
            addresses=[description.address],
            hosts=[name],
        )
        self._api = Api(kubeconfig.client(cluster, pair))
        devices = Devices(gpus, announced=builtin_device_plugin)
        self._registration = Registration(self._api, description, devices)
        self._services = Mirror(self._api, "/api/v1/services", self._services_changed)
        self._slices = Mirror(
            self._api, "/apis/discovery.k8s.io/v1/endpointslices", lambda _slice, _exists: None
        )
        self._pods = Mirror(
            self._api, "/api/v1/pods", self._pod_changed, {"fieldSelector": f"spec.nodeName={name}"}
        )
        self._agent = PolicyAgent(cluster, authority, description.address, aws) if network_policy else None
        loop = Loop()
        self._ports = NodePorts(loop, description.address, name, self._services.objects, self._slices.objects)
        self._egress = EgressServer(name, self._may_leave)
        self._plugins = PluginServer(directory / "host", devices)
        self._server = KubeletServer(
            description.address, KUBELET_PORT, authority, pair, self._find, self._inside
        )
        server = cluster.server.removeprefix("https://").partition(":")
        self._context = NodeContext(
            name=name,
            address=description.address,
            pod_network=pod_network,
            api_server=(server[0], server[2]),
            directory=directory / "pods",
            host=directory / "host",
            allocatable=description.capacity(),
            api=self._api,
            events=Events(self._api, name),
            images=NodeImages(directory / "images", registry, region),
            devices=devices,
            gates=Gates(loop, self._may_enter),
            egress=self._egress,
            identity=PodIdentity(aws, cluster_name, region),
            services=self._services.objects,
        )
        self._workers: dict[str, PodWorker] = {}
        self._lock = threading.Lock()
        self._stopping = False

    def start(self) -> None:
        """Register, and begin to run what is bound to this node.

        Raises:
            ApiError: the API server refused or did not answer.
        """
        # No process of an earlier run is left: they end with the node's. Their folders are.
        shutil.rmtree(self._context.directory, ignore_errors=True)
        self._context.directory.mkdir(parents=True)
        self._server.start()
        self._egress.start()
        self._plugins.start()
        if self._agent is not None:
            self._agent.start()
        self._services.start()
        self._slices.start()
        for mirror in (self._services, self._slices):
            mirror.ready.wait(30)
        self._registration.register()
        self._pods.start()

    def stop(self) -> None:
        """Stop all pods' processes; the pods stay bound, for the node's next start."""
        self._registration.leave()
        deadline = time.monotonic() + _SHUTDOWN_GRACE_SECONDS
        with self._lock:
            self._stopping = True
            workers = list(self._workers.values())
        for worker in workers:
            worker.shut_down(deadline)
        for worker in workers:
            worker.join()
        self._server.shutdown()

    def _may_enter(self, uid: str, source: str, port: int) -> bool:
        return self._agent is None or self._agent.admits(uid, source, port)

    def _may_leave(self, uid: str, address: str, port: int, protocol: str) -> bool:
        return self._agent is None or self._agent.releases(uid, address, port, protocol)

    def _services_changed(self, _service: Object, _exists: bool) -> None:
        self._ports.services_changed()

    def _pod_changed(self, pod: Object, exists: bool) -> None:
        uid = pod["metadata"]["uid"]
        with self._lock:
            worker = self._workers.get(uid)
            if worker is None and exists and not self._stopping:
                worker = self._workers[uid] = PodWorker(self._context, pod, self._pod_gone)
                worker.start()
                return
        if worker is not None:
            worker.update(pod, exists=exists)

    def _pod_gone(self, worker: PodWorker) -> None:
        with self._lock:
            del self._workers[worker.uid]

    def _find(self, namespace: str, pod: str, container: str) -> Runner | None:
        worker = self._worker(namespace, pod)
        return None if worker is None else worker.runner(container)

    def _inside(self, namespace: str, pod: str) -> str | None:
        worker = self._worker(namespace, pod)
        return None if worker is None else worker.inside

    def _worker(self, namespace: str, pod: str) -> PodWorker | None:
        with self._lock:
            workers = list(self._workers.values())
        for worker in workers:
            metadata = worker.pod["metadata"]
            if (metadata["namespace"], metadata["name"]) == (namespace, pod):
                return worker
        return None
