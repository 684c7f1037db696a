"""What the programs of these tests are made of; the programs import it from beside them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, ReadResult, Resource, ResourceProvider, UpdateResult


class Account(pulumi.ProviderResource):
    """An explicit provider of the package `probe`."""

    def __init__(self, name: str, opts: pulumi.ResourceOptions | None = None, /, **props: Any) -> None:
        super().__init__("probe", name, props, opts)


class Object(pulumi.CustomResource):
    """A `probe:index:Object`: see probe.py for what its inputs do."""

    token: pulumi.Output[str]

    def __init__(self, name: str, opts: pulumi.ResourceOptions | None = None, /, **props: Any) -> None:
        super().__init__("probe:index:Object", name, {"token": None, "account": None, **props}, opts)


class Group(pulumi.ComponentResource):
    """A component."""

    def __init__(self, name: str, opts: pulumi.ResourceOptions | None = None, /, **props: Any) -> None:
        super().__init__("kit:index:Group", name, props, opts)


class NoteProvider(ResourceProvider):
    """Keeps notes as files in the folder of the probe."""

    serialize_as_secret_always = False

    def _path(self, name: str) -> Path:
        return Path(os.environ["PROBE_HOME"]) / f"{name}.note"

    def create(self, props: dict[str, Any]) -> CreateResult:
        if props.get("fail"):
            raise ValueError(props["fail"])
        print(f"writing {props['name']}", flush=True)
        self._path(props["name"]).write_text(props["text"])
        return CreateResult(props["name"], {**props, "length": len(props["text"])})

    def diff(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> DiffResult:
        changed = [key for key in ("name", "text") if olds.get(key) != news.get(key)]
        return DiffResult(changes=bool(changed), replaces=["name"] if "name" in changed else [])

    def update(self, _id: str, _olds: dict[str, Any], news: dict[str, Any]) -> UpdateResult:
        self._path(news["name"]).write_text(news["text"])
        return UpdateResult({**news, "length": len(news["text"])})

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        if not self._path(id_).exists():
            return ReadResult("", {})
        text = self._path(id_).read_text()
        return ReadResult(id_, {**props, "text": text, "length": len(text)})

    def delete(self, id_: str, _props: dict[str, Any]) -> None:
        self._path(id_).unlink(missing_ok=True)


class Note(Resource, module="kit", name="Note"):
    """A dynamic resource."""

    length: pulumi.Output[int]

    def __init__(self, name: str, opts: pulumi.ResourceOptions | None = None, /, **props: Any) -> None:
        super().__init__(NoteProvider(), name, {"name": name, "length": None, **props}, opts)
