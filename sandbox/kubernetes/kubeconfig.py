"""Writes and reads the kubeconfig files of the sandbox's clusters."""

from __future__ import annotations

import base64
import os
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
import yaml

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox.kubernetes.pki import KeyPair


@dataclass(frozen=True)
class Cluster:
    """Where a cluster's API is and which authority signs its certificate (PEM)."""

    server: str
    authority: str


def write(path: Path, cluster: Cluster, user: str, client: KeyPair) -> Path:
    """Write a kubeconfig that carries its certificates, readable by its owner alone; return its path."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "berth",
                "cluster": {
                    "server": cluster.server,
                    "certificate-authority-data": base64.b64encode(cluster.authority.encode()).decode(),
                },
            }
        ],
        "users": [
            {
                "name": user,
                "user": {
                    "client-certificate-data": base64.b64encode(client.certificate.read_bytes()).decode(),
                    "client-key-data": base64.b64encode(client.key.read_bytes()).decode(),
                },
            }
        ],
        "contexts": [{"name": "berth", "context": {"cluster": "berth", "user": user}}],
        "current-context": "berth",
    }
    unfinished = path.with_name(f"{path.name}.partial")
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        yaml.safe_dump(content, file)
    unfinished.replace(path)
    return path


def read_cluster(path: Path) -> Cluster:
    """Return the cluster of a kubeconfig that `write` made."""
    cluster = yaml.safe_load(path.read_text())["clusters"][0]["cluster"]
    return Cluster(cluster["server"], base64.b64decode(cluster["certificate-authority-data"]).decode())


def client(cluster: Cluster, identity: KeyPair) -> httpx.Client:
    """Return an HTTP client for a cluster's API; it may be used from several threads."""
    context = ssl.create_default_context(cadata=cluster.authority)
    context.load_cert_chain(identity.certificate, identity.key)
    return httpx.Client(
        base_url=cluster.server,
        verify=context,
        trust_env=False,
        timeout=httpx.Timeout(30),
        # A watch holds its connection, and a node has several.
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=20),
    )
