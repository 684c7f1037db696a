"""Fills a pod's volumes: folders below the pod's own."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from sandbox.kubernetes.node.api import Api, ApiError, Object
from sandbox.kubernetes.node.environment import ConfigError, field, read_data, resource

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

_DEFAULT_MODE = 0o644


class VolumeError(RuntimeError):
    """A volume cannot be filled yet; the message says which and why."""


class Volumes:
    """The volumes of one pod.

    Args:
        api: where their contents are read, once: a later change does not reach a running pod.
        pod: the pod.
        directory: where they lie, each in a folder of its name.
        fields: what `fieldRef` gives for the pod's status and node.
        allocatable: the node's resources.
    """

    def __init__(
        self,
        api: Api,
        pod: Object,
        directory: Path,
        fields: Mapping[str, str],
        allocatable: Mapping[str, str],
    ) -> None:
        self._api = api
        self._pod = pod
        self._directory = directory
        self._fields = fields
        self._allocatable = allocatable

    def prepare(self) -> dict[str, Path]:
        """Make every volume of the pod; return their folders by name.

        Raises:
            VolumeError: something that a volume refers to is not there.
        """
        return {volume["name"]: self._prepare(volume) for volume in self._pod["spec"].get("volumes") or ()}

    def _prepare(self, volume: Object) -> Path:
        name: str = volume["name"]
        folder = self._directory / name
        kind = next((key for key in volume if key != "name"), "emptyDir")
        if kind == "emptyDir":
            folder.mkdir(parents=True, exist_ok=True)
            return folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        source = volume[kind]
        mode = source.get("defaultMode") or _DEFAULT_MODE
        try:
            parts = source.get("sources") or () if kind == "projected" else ({kind: source},)
            for part in parts:
                ((part_kind, part_source),) = part.items()
                self._write(folder, self._files(part_kind, part_source), mode)
        except (ConfigError, ApiError, ValueError) as error:
            raise VolumeError(f'MountVolume.SetUp failed for volume "{name}" : {error}') from error
        return folder

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
                "expirationSeconds": source.get("expirationSeconds", 3600),
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
