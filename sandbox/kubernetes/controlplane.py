"""Runs etcd, kube-apiserver, kube-scheduler and kube-controller-manager, and restarts the one that dies."""

from __future__ import annotations

import socket
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
import yaml

from sandbox.kubernetes import kubeconfig
from sandbox.kubernetes.bootstrap import ensure_access
from sandbox.kubernetes.pki import Authority, KeyPair, signing_key
from sandbox.processes import Process, spawn

if TYPE_CHECKING:
    import threading
    from pathlib import Path

ETCD_PORT = 2379
_ETCD_PEER_PORT = 2380
_SCHEDULER_PORT = 10259
_CONTROLLER_MANAGER_PORT = 10257
_SERVICE_NETWORK = "10.96.0.0/16"
_SERVICE_ADDRESS = "10.96.0.1"
_READY_TIMEOUT_SECONDS = 600.0
_RESTARTS_ALLOWED = 5
_RESTARTS_WINDOW_SECONDS = 120.0


class ControlPlaneError(RuntimeError):
    """The control plane cannot run; the message names the part and the reason."""


@dataclass(frozen=True)
class _Component:
    """One program of the control plane and where it says that it is well."""

    name: str
    argv: tuple[str, ...]
    health_url: str | None = None


class ControlPlane:
    """The four programs, their certificates and their data, in one folder.

    Args:
        directory: data, certificates and logs, from which the cluster comes back as it was.
        programs: the folder with the binaries.
        host: the loopback address that everything listens on.
        port: the API's port.
        token_webhook: URL that answers TokenReviews for the bearer tokens that the API server does not know.
    """

    def __init__(
        self, directory: Path, programs: Path, *, host: str, port: int, token_webhook: str | None
    ) -> None:
        self.directory = directory
        self.endpoint = f"https://{host}:{port}"
        self._programs = programs
        self._host = host
        self._port = port
        self._token_webhook = token_webhook
        self._authority = Authority(directory / "pki")
        self.cluster = kubeconfig.Cluster(self.endpoint, self._authority.pair.certificate.read_text())
        self._admin = self._authority.issue("admin", common_name="admin", groups=["system:masters"])
        self.admin_kubeconfig = kubeconfig.write(
            directory / "admin.kubeconfig", self.cluster, "admin", self._admin
        )
        self._components = (self._etcd(), self._api_server(), self._scheduler(), self._controller_manager())
        self._processes: dict[str, Process] = {}

    def start(self) -> None:
        """Start every part and wait until the cluster takes requests and schedules pods.

        Raises:
            ControlPlaneError: a port is taken.
            ProcessError: a part ended or did not become ready; the message holds its log's end.
        """
        ports = (ETCD_PORT, _ETCD_PEER_PORT, self._port, _SCHEDULER_PORT, _CONTROLLER_MANAGER_PORT)
        for port in ports:
            _refuse_taken(self._host, port)
        etcd, server, *clients = self._components
        self._launch(etcd)
        self._launch(server)
        with kubeconfig.client(self.cluster, self._admin) as client:
            self._processes[server.name].wait_until(
                lambda: _answers(client, "/readyz"), timeout_seconds=_READY_TIMEOUT_SECONDS
            )
            # These end at once where there is no API server to read their configuration from.
            for component in clients:
                self._launch(component)
            ensure_access(client)
            for component in clients:
                if component.health_url is not None:
                    url = component.health_url
                    self._processes[component.name].wait_until(
                        lambda url=url: _answers(client, url),  # type: ignore[misc]
                        timeout_seconds=_READY_TIMEOUT_SECONDS,
                    )
            # Pods are refused in a namespace until the controller manager has made its default account.
            self._processes["kube-controller-manager"].wait_until(
                lambda: _answers(client, "/api/v1/namespaces/default/serviceaccounts/default"),
                timeout_seconds=_READY_TIMEOUT_SECONDS,
            )

    def supervise(self, stop: threading.Event) -> None:
        """Start again the parts that end, until `stop` is set.

        Raises:
            ControlPlaneError: a part keeps ending; the message holds its log's end.
        """
        ended: dict[str, list[float]] = {component.name: [] for component in self._components}
        while not stop.wait(0.5):
            for component in self._components:
                process = self._processes[component.name]
                if process.alive():
                    continue
                now = time.monotonic()
                recent = [
                    moment for moment in ended[component.name] if now - moment < _RESTARTS_WINDOW_SECONDS
                ]
                ended[component.name] = [*recent, now]
                if len(recent) >= _RESTARTS_ALLOWED:
                    raise ControlPlaneError(
                        f"{component.name} ended {len(ended[component.name])} times in a short while; "
                        f"its log ({process.log_path}) ends:\n{process.log_tail()}"
                    )
                status = process.popen.returncode
                print(f"{component.name} ended with status {status}: starting it again", file=sys.stderr)
                stop.wait(2.0 ** len(recent) - 1)
                self._launch(component)

    def stop(self) -> None:
        """Stop every part, the ones that use the others first."""
        for component in reversed(self._components):
            process = self._processes.get(component.name)
            if process is not None:
                # The API server drains open watches for up to a minute, which nobody waits for here.
                process.stop(grace_seconds=3.0)

    def _launch(self, component: _Component) -> None:
        self._processes[component.name] = spawn(
            component.argv,
            name=component.name,
            log_path=self.directory / "logs" / f"{component.name}.log",
            cwd=self.directory,
        )

    def _server_pair(self, name: str) -> KeyPair:
        # The address is part of the name: started on another address, the folder gets another certificate.
        return self._authority.issue(
            f"{name}-{self._host}",
            common_name=name,
            addresses=[*dict.fromkeys(["127.0.0.1", self._host]), _SERVICE_ADDRESS],
            hosts=["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"],
        )

    def _client_kubeconfig(self, name: str) -> Path:
        pair = self._authority.issue(name, common_name=f"system:{name}")
        return kubeconfig.write(self.directory / f"{name}.kubeconfig", self.cluster, name, pair)

    def _etcd(self) -> _Component:
        server = self._server_pair("etcd")
        authority = self._authority.pair.certificate
        peers = f"https://{self._host}:{_ETCD_PEER_PORT}"
        clients = f"https://{self._host}:{ETCD_PORT}"
        return _Component(
            "etcd",
            (
                f"{self._programs / 'etcd'}",
                "--name=berth",
                f"--data-dir={self.directory / 'etcd'}",
                f"--listen-client-urls={clients}",
                f"--advertise-client-urls={clients}",
                f"--listen-peer-urls={peers}",
                f"--initial-advertise-peer-urls={peers}",
                f"--initial-cluster=berth={peers}",
                f"--cert-file={server.certificate}",
                f"--key-file={server.key}",
                f"--trusted-ca-file={authority}",
                "--client-cert-auth",
                f"--peer-cert-file={server.certificate}",
                f"--peer-key-file={server.key}",
                f"--peer-trusted-ca-file={authority}",
                "--peer-client-cert-auth",
                # What is lost when the whole machine stops at once is a sandbox's cluster.
                "--unsafe-no-fsync",
                "--log-level=warn",
            ),
        )

    def _api_server(self) -> _Component:
        server = self._server_pair("kube-apiserver")
        etcd_client = self._authority.issue("apiserver-etcd-client", common_name="kube-apiserver-etcd-client")
        kubelet_client = self._authority.issue(
            "apiserver-kubelet-client", common_name="kube-apiserver-kubelet-client"
        )
        accounts = signing_key(self.directory / "pki" / "service-accounts.key")
        authority = self._authority.pair.certificate
        argv = [
            f"{self._programs / 'kube-apiserver'}",
            f"--bind-address={self._host}",
            f"--secure-port={self._port}",
            f"--advertise-address={self._host}",
            # The Service `kubernetes` may not have a loopback address as its endpoint.
            "--endpoint-reconciler-type=none",
            f"--tls-cert-file={server.certificate}",
            f"--tls-private-key-file={server.key}",
            f"--client-ca-file={authority}",
            f"--etcd-servers=https://{self._host}:{ETCD_PORT}",
            f"--etcd-cafile={authority}",
            f"--etcd-certfile={etcd_client.certificate}",
            f"--etcd-keyfile={etcd_client.key}",
            f"--kubelet-certificate-authority={authority}",
            f"--kubelet-client-certificate={kubelet_client.certificate}",
            f"--kubelet-client-key={kubelet_client.key}",
            "--kubelet-preferred-address-types=InternalIP",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--anonymous-auth=false",
            f"--service-account-key-file={accounts}",
            f"--service-account-signing-key-file={accounts}",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-cluster-ip-range={_SERVICE_NETWORK}",
            "--profiling=false",
        ]
        if self._token_webhook is not None:
            argv += [
                f"--authentication-token-webhook-config-file={self._webhook_file(self._token_webhook)}",
                "--authentication-token-webhook-version=v1",
                # Short, so that a withdrawn access entry is felt at once.
                "--authentication-token-webhook-cache-ttl=5s",
            ]
        return _Component("kube-apiserver", tuple(argv))

    def _webhook_file(self, url: str) -> Path:
        path = self.directory / "token-webhook.yaml"
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "webhook", "cluster": {"server": url}}],
            "users": [{"name": "apiserver", "user": {}}],
            "contexts": [{"name": "webhook", "context": {"cluster": "webhook", "user": "apiserver"}}],
            "current-context": "webhook",
        }
        path.write_text(yaml.safe_dump(content))
        return path

    def _scheduler(self) -> _Component:
        config = self._client_kubeconfig("kube-scheduler")
        return _Component(
            "kube-scheduler",
            (
                f"{self._programs / 'kube-scheduler'}",
                *self._common_arguments(config, _SCHEDULER_PORT, "kube-scheduler"),
            ),
            f"https://{self._host}:{_SCHEDULER_PORT}/healthz",
        )

    def _controller_manager(self) -> _Component:
        config = self._client_kubeconfig("kube-controller-manager")
        return _Component(
            "kube-controller-manager",
            (
                f"{self._programs / 'kube-controller-manager'}",
                *self._common_arguments(config, _CONTROLLER_MANAGER_PORT, "kube-controller-manager"),
                "--use-service-account-credentials",
                f"--service-account-private-key-file={self.directory / 'pki' / 'service-accounts.key'}",
                f"--root-ca-file={self._authority.pair.certificate}",
                f"--service-cluster-ip-range={_SERVICE_NETWORK}",
            ),
            f"https://{self._host}:{_CONTROLLER_MANAGER_PORT}/healthz",
        )

    def _common_arguments(self, config: Path, port: int, name: str) -> tuple[str, ...]:
        server = self._server_pair(name)
        return (
            f"--kubeconfig={config}",
            f"--authentication-kubeconfig={config}",
            f"--authorization-kubeconfig={config}",
            f"--bind-address={self._host}",
            f"--secure-port={port}",
            f"--tls-cert-file={server.certificate}",
            f"--tls-private-key-file={server.key}",
            "--leader-elect=false",
            "--profiling=false",
        )


def _answers(client: httpx.Client, url: str) -> bool:
    try:
        return client.get(url, timeout=5).is_success
    except httpx.TransportError:
        return False


def _refuse_taken(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ControlPlaneError(
                f"{host}:{port} cannot be listened on ({error.strerror}): stop the program that does, or "
                "choose another --host"
            ) from error
