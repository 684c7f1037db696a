"""Reads a kubeconfig: where the cluster is, whom to trust, and as whom to call.

Credentials may come from a program (`exec`), which is run again when they expire.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import os
import ssl
import subprocess
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from sandbox.plugins.errors import PluginError

if TYPE_CHECKING:
    from collections.abc import Mapping

_EXEC_TIMEOUT_SECONDS: Final = 60
# Credentials are taken anew a little before they expire, so that none expires on its way.
_SKEW: Final = dt.timedelta(seconds=30)


@dataclass(frozen=True)
class Kubeconfig:
    """One context of a kubeconfig.

    Args:
        server: the API's URL.
        namespace: the namespace of objects that do not say theirs.
        cluster: the cluster's settings, as they are in the file.
        user: the user's settings, as they are in the file.
    """

    server: str
    namespace: str
    cluster: Mapping[str, Any]
    user: Mapping[str, Any]

    def tls(self) -> ssl.SSLContext:
        """Return the TLS settings: the trusted authority, and a client certificate where there is one."""
        context = ssl.create_default_context(cafile=self.cluster.get("certificate-authority"))
        if data := self.cluster.get("certificate-authority-data"):
            context.load_verify_locations(cadata=base64.b64decode(data).decode())
        if self.cluster.get("insecure-skip-tls-verify"):
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        self._load_certificate(context)
        return context

    def _load_certificate(self, context: ssl.SSLContext) -> None:
        if "client-certificate" in self.user:
            context.load_cert_chain(self.user["client-certificate"], self.user.get("client-key"))
        elif "client-certificate-data" in self.user:
            # OpenSSL reads certificates from files only.
            with tempfile.TemporaryDirectory(prefix="berth-plugin-") as folder:
                certificate, key = Path(folder, "certificate"), Path(folder, "key")
                for path, name in ((certificate, "client-certificate-data"), (key, "client-key-data")):
                    path.touch(mode=0o600)
                    path.write_bytes(base64.b64decode(self.user[name]))
                context.load_cert_chain(certificate, key)


def parse(text: str, *, context: str | None = None, cluster: str | None = None) -> Kubeconfig:
    """Read a kubeconfig.

    Args:
        text: its content, or the path of a file that has it.
        context: the context to use; the file's current one by default.
        cluster: the cluster to use; the context's by default.

    Raises:
        PluginError: it is no kubeconfig, or lacks what it names.
    """
    if "\n" not in text and not text.lstrip().startswith("{"):
        try:
            text = Path(text).expanduser().read_text()
        except OSError as error:
            raise PluginError(f"kubeconfig: {error.strerror}: {text}") from error
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError:
        raise PluginError("kubeconfig: neither YAML nor JSON") from None
    if not isinstance(document, dict):
        raise PluginError("kubeconfig: not an object with clusters, users and contexts")
    chosen = _named(document, "contexts", context or document.get("current-context"))["context"]
    settings = _named(document, "clusters", cluster or chosen.get("cluster"))["cluster"]
    user = _named(document, "users", chosen.get("user")).get("user") or {}
    return Kubeconfig(settings["server"].rstrip("/"), chosen.get("namespace") or "default", settings, user)


def _named(document: Mapping[str, Any], section: str, name: str | None) -> dict[str, Any]:
    for item in document.get(section) or ():
        if item.get("name") == name:
            return dict(item)
    raise PluginError(f"kubeconfig: {name!r} is not among its {section}")


class Token:
    """The bearer token of a user, from wherever the kubeconfig has it.

    Args:
        user: the user's settings.
        server: the API that the token is for, for messages.
    """

    def __init__(self, user: Mapping[str, Any], server: str) -> None:
        self._user, self._server = user, server
        self._lock = threading.Lock()
        self._value: str | None = None
        self._expires: dt.datetime | None = None

    def get(self) -> str | None:
        """Return a token that is valid now, or None where the user has none.

        Raises:
            PluginError: the program that makes it failed.
        """
        if "exec" not in self._user:
            if "tokenFile" in self._user:
                return Path(self._user["tokenFile"]).read_text().strip()
            token = self._user.get("token")
            return str(token) if token else None
        with self._lock:
            now = dt.datetime.now(dt.UTC)
            if self._value is None or (self._expires is not None and self._expires - _SKEW < now):
                self._run(self._user["exec"])
            return self._value

    def forget(self) -> None:
        """Take the token anew at the next call."""
        with self._lock:
            self._value = None

    def _run(self, settings: Mapping[str, Any]) -> None:
        command = [settings["command"], *(settings.get("args") or ())]
        given = {item["name"]: item["value"] for item in settings.get("env") or ()}
        info = {
            "kind": "ExecCredential",
            "apiVersion": settings["apiVersion"],
            "spec": {"interactive": False},
        }
        environment = {**os.environ, **given, "KUBERNETES_EXEC_INFO": json.dumps(info)}
        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, timeout=_EXEC_TIMEOUT_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise PluginError(f"kubeconfig: {settings['command']} gave no token: {error}") from error
        if done.returncode != 0:
            words = " ".join(done.stderr.decode(errors="replace").split())
            raise PluginError(f"kubeconfig: {settings['command']} gave no token for {self._server}: {words}")
        try:
            status = json.loads(done.stdout)["status"]
            self._value = status["token"]
            expiry = status.get("expirationTimestamp")
        except (ValueError, KeyError) as error:
            raise PluginError(f"kubeconfig: {settings['command']} printed no ExecCredential") from error
        self._expires = dt.datetime.fromisoformat(expiry) if expiry else None
