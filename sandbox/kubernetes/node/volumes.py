"""Fills a pod's volumes: folders below the pod's own."""

from __future__ import annotations

import logging
import shutil
import time
from typing import TYPE_CHECKING, Any

from sandbox.kubernetes.node.api import Api, ApiError, Object
from sandbox.kubernetes.node.environment import ConfigError, field, read_data, resource

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

_LOG = logging.getLogger(__name__)
_DEFAULT_MODE = 0o644
_DEFAULT_TOKEN_SECONDS = 3600
# As the kubelet does, a token is renewed when this much of its life is over.
_RENEWED_AFTER = 0.8
_RETRY_SECONDS = 10.0


class VolumeError(RuntimeError):
    """A volume cannot be filled yet; the message says which and why."""


class Volumes:
    """The volumes of one pod.

    Args:
        api: where their contents are read, once: a later change does not reach a running pod. Only tokens are
            renewed, by `renew`.
        pod: the pod.
        directory: where they lie, each in a folder of its name.
        host: the folder that stands for the node's file system.
        fields: what `fieldRef` gives for the pod's status and node.
        allocatable: the node's resources.
    """

    def __init__(
        self,
        api: Api,
        pod: Object,
        directory: Path,
        host: Path,
        fields: Mapping[str, str],
        allocatable: Mapping[str, str],
    ) -> None:
        self._api = api
        self._host = host
        self._pod = pod
        self._directory = directory
        self._fields = fields
        self._allocatable = allocatable
        self._tokens: dict[Path, tuple[Mapping[str, Any], float]] = {}

    def prepare(self) -> dict[str, Path]:
        """Make every volume of the pod; return their folders by name.

        Raises:
            VolumeError: something that a volume refers to is not there.
        """
        return {volume["name"]: self._prepare(volume) for volume in self._pod["spec"].get("volumes") or ()}

    def renew(self) -> None:
        """Replace the service account tokens that will not be valid for long."""
        for path, (source, due) in list(self._tokens.items()):
            if time.monotonic() < due:
                continue
            try:
                token = self._token(source)
            except ApiError as error:
                _LOG.warning("the token %s is not renewed: %s", path.name, error)
                self._tokens[path] = (source, time.monotonic() + _RETRY_SECONDS)
                continue
            unfinished = path.with_name(f"{path.name}.partial")
            unfinished.write_bytes(token)
            unfinished.chmod(path.stat().st_mode)
            unfinished.replace(path)
            self._keep_renewed(path, source)

    def _keep_renewed(self, path: Path, source: Mapping[str, Any]) -> None:
        seconds = source.get("expirationSeconds", _DEFAULT_TOKEN_SECONDS) * _RENEWED_AFTER
        self._tokens[path] = (source, time.monotonic() + seconds)

    def _prepare(self, volume: Object) -> Path:
        name: str = volume["name"]
        folder = self._directory / name
        kind = next((key for key in volume if key != "name"), "emptyDir")
        if kind == "emptyDir":
            folder.mkdir(parents=True, exist_ok=True)
            return folder
        if kind == "hostPath":
            return self._host_path(name, volume[kind])
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        source = volume[kind]
        mode = source.get("defaultMode") or _DEFAULT_MODE
        try:
            parts = source.get("sources") or () if kind == "projected" else ({kind: source},)
            for part in parts:
                ((part_kind, part_source),) = part.items()
                self._write(folder, self._files(part_kind, part_source), mode)
                if part_kind == "serviceAccountToken":
                    self._keep_renewed(folder / part_source["path"], part_source)
        except (ConfigError, ApiError, ValueError) as error:
            raise VolumeError(f'MountVolume.SetUp failed for volume "{name}" : {error}') from error
        return folder

    def _host_path(self, volume: str, source: Mapping[str, Any]) -> Path:
        """Return a folder of the node, not of this machine; what may be made is made."""
        path = self._host / str(source["path"]).lstrip("/")
        kind = source.get("type") or ""
        if kind in {"", "DirectoryOrCreate"}:
            path.mkdir(parents=True, exist_ok=True)
        if kind not in {"", "DirectoryOrCreate", "Directory"} or not path.is_dir():
            raise VolumeError(
                f'MountVolume.SetUp failed for volume "{volume}" : hostPath type check failed: '
                f"{source['path']} is not a {kind or 'directory'}"
            )
        return path

    def _files(self, kind: str, source: Mapping[str, Any]) -> Iterable[tuple[str, bytes, int | None]]:
        if kind == "serviceAccountToken":
            return [(source["path"], self._token(source), None)]
        if kind == "downwardAPI":
            return [
                (item["path"], self._downward(item).encode(), item.get("mode"))
                for item in source.get("items") or ()
            ]
        name = source.get("secretName") or source["name"]
        namespace = self._pod["metadata"]["namespace"]
        resource_name = "secrets" if kind == "secret" else "configmaps"
        data = read_data(self._api, namespace, resource_name, name)
        if data is None:
            if source.get("optional"):
                return []
            raise ConfigError(f'{resource_name.removesuffix("s")} "{name}" not found')
        items = source.get("items")
        if not items:
            return [(key, value, None) for key, value in data.items()]
        missing = [item["key"] for item in items if item["key"] not in data]
        if missing and not source.get("optional"):
            raise ConfigError(f"references non-existent {resource_name.removesuffix('s')} key: {missing[0]}")
        return [(item["path"], data[item["key"]], item.get("mode")) for item in items if item["key"] in data]

    def _token(self, source: Mapping[str, Any]) -> bytes:
        metadata = self._pod["metadata"]
        account = self._pod["spec"].get("serviceAccountName", "default")
        request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "audiences": [source["audience"]] if source.get("audience") else [],
                "expirationSeconds": source.get("expirationSeconds", _DEFAULT_TOKEN_SECONDS),
                "boundObjectRef": {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "name": metadata["name"],
                    "uid": metadata["uid"],
                },
            },
        }
        path = f"/api/v1/namespaces/{metadata['namespace']}/serviceaccounts/{account}/token"
        return str(self._api.create(path, request)["status"]["token"]).encode()

    def _downward(self, item: Mapping[str, Any]) -> str:
        if item.get("fieldRef"):
            return field(self._pod, item["fieldRef"]["fieldPath"], self._fields)
        reference = item["resourceFieldRef"]
        containers = {container["name"]: container for container in self._pod["spec"]["containers"]}
        return resource(reference, containers[reference["containerName"]], self._allocatable)

    def _write(self, folder: Path, files: Iterable[tuple[str, bytes, int | None]], mode: int) -> None:
        for path, content, own_mode in files:
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch(mode=0o600)
            target.write_bytes(content)
            target.chmod(own_mode or mode)
