"""Runs the Pulumi program for a stack file with a monitor that records every resource with its options."""

from __future__ import annotations

import asyncio
import json
import os
import runpy
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import yaml
from google.protobuf import json_format
from pulumi.runtime import mocks, set_all_config, settings, stack

from tests.infra.answers import GENERATED_KEY, SANDBOX_ENDPOINT, Cloud

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pulumi.runtime.proto import resource_pb2

ROOT = Path(__file__).resolve().parents[2]
STACKS = sorted(path.name.split(".")[1] for path in (ROOT / "stacks").glob("Pulumi.*.yaml"))
ENVIRONMENTS = ("dev", "local", "prod", "staging")
"""The stacks that differ in where they run; the others differ in what they serve, and in little else."""
_SECRET = "4dabf18193072939515e22adb298388d"
_SECRET_VALUE = "1b47061264138c4ac30d75fd1eb44270"


@dataclass(frozen=True)
class Recorded:
    """One resource as the program registered it."""

    urn: str
    type: str
    name: str
    custom: bool
    inputs: dict[str, Any]
    parent: str
    provider: str
    edges: frozenset[str]
    """What the engine deletes only after this: what it depends on, its provider and its parent."""
    outputs: dict[str, Any]
    request: resource_pb2.RegisterResourceRequest

    @property
    def timeouts(self) -> tuple[str, str, str]:
        given = self.request.customTimeouts
        return given.create, given.update, given.delete


@dataclass
class Graph:
    """All resources of one run, and the stack's outputs."""

    resources: dict[str, Recorded] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    completed: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What each component, and the stack, said that it offers when all in it was declared."""

    def __iter__(self) -> Iterator[Recorded]:
        return iter(self.resources.values())

    def of_type(self, *types: str) -> list[Recorded]:
        found = [item for item in self if item.type in types]
        assert found, f"no {' or '.join(types)}"
        return found

    def named(self, name: str) -> Recorded:
        (found,) = [item for item in self if item.name == name and item.custom]
        return found

    def needs(self, urn: str, *, without: frozenset[tuple[str, str]] = frozenset()) -> set[str]:
        """Return all that a resource depends on: what the engine deletes only after it."""
        seen: set[str] = set()
        waiting = [urn]
        while waiting:
            current = waiting.pop()
            for edge in self.resources[current].edges:
                if edge not in seen and (current, edge) not in without:
                    seen.add(edge)
                    waiting.append(edge)
        return seen


class _Monitor(mocks.MockMonitor):
    def __init__(self, answers: mocks.Mocks) -> None:
        super().__init__(answers)
        self.graph = Graph()

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802
        response = super().RegisterResource(request)  # type: ignore[no-untyped-call]
        _keep_secret(request, response)
        inputs = _plain(_struct(request.object))
        edges = set(request.dependencies)
        for dependencies in request.propertyDependencies.values():
            edges.update(dependencies.urns)
        provider = request.provider.rpartition("::")[0]
        edges.update(filter(None, (provider, request.parent, request.deletedWith, *request.replace_with)))
        if request.type != "pulumi:pulumi:Stack":
            assert response.urn not in self.graph.resources, f"two of {response.urn}"
        self.graph.resources[response.urn] = Recorded(
            urn=response.urn,
            type=request.type,
            name=request.name,
            custom=request.custom,
            inputs=inputs,
            parent=request.parent,
            provider=provider,
            edges=frozenset(edges),
            outputs=_plain(_struct(response.object)),
            request=request,
        )
        return response

    def RegisterResourceOutputs(self, request: Any) -> Any:  # noqa: N802
        self.graph.completed[request.urn] = _plain(_struct(request.outputs))
        if request.urn.split("::")[2] == "pulumi:pulumi:Stack":
            self.graph.outputs = self.graph.completed[request.urn]
        return super().RegisterResourceOutputs(request)  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Secret:
    """A value that the engine encrypts in the state and hides in its output."""

    value: Any


def _keep_secret(request: Any, response: Any) -> None:
    """Mark outputs as the engine does: those that the program says, and those whose input is a secret."""
    given = _struct(request.object)
    secrets = set(request.additionalSecretOutputs) | {
        key for key, value in given.items() if isinstance(value, dict) and _SECRET in value
    }
    found = _struct(response.object)
    for key in secrets & set(found):
        if not (isinstance(found[key], dict) and _SECRET in found[key]):
            found[key] = {_SECRET: _SECRET_VALUE, "value": found[key]}
    if secrets:
        response.object.Clear()
        json_format.ParseDict(found, response.object)


def _struct(message: Any) -> Any:
    return json_format.MessageToDict(message)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        if value.get(_SECRET) == _SECRET_VALUE:
            return Secret(_plain(value["value"]))
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def configuration(stack_name: str, **changes: Any) -> dict[str, Any]:
    """Return the configuration in a stack file, with `changes` to its sections."""
    document = yaml.safe_load((ROOT / "stacks" / f"Pulumi.{stack_name}.yaml").read_text())
    return {**document["config"], **{f"berth:{key}": value for key, value in changes.items()}}


def run(
    stack_name: str,
    *,
    preview: bool,
    aws_endpoint: str = SANDBOX_ENDPOINT,
    generated_key: str = GENERATED_KEY,
    called: str | None = None,
    **changes: Any,
) -> Graph:
    """Run the program for a stack file and return what it registered.

    Args:
        stack_name: whose file.
        preview: whether nothing is made, so that outputs are unknown.
        aws_endpoint: the endpoint of AWS that the environment names.
        generated_key: the API key where the program has one generated.
        called: another name for the stack.
        changes: sections of the file in the place of the file's own.
    """
    config = {
        key: value if isinstance(value, str) else json.dumps(value)
        for key, value in configuration(stack_name, **changes).items()
    }

    async def record() -> Graph:
        monitor = _Monitor(Cloud(preview, generated_key))
        mocks.set_mocks(monitor.mocks, "berth", called or stack_name, preview, monitor=monitor)
        set_all_config(config)
        await stack.run_pulumi_func(_program)
        return monitor.graph

    # A loop of its own for each run: nothing that one program left undone runs in the next.
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        with mock.patch.dict(os.environ, {"AWS_ENDPOINT_URL": aws_endpoint}):
            return loop.run_until_complete(record())
    finally:
        # A program that refused leaves its other resources waiting.
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.close()
        settings.reset_options()


def _program() -> None:
    runpy.run_path(str(ROOT / "infra"), run_name="__main__")
    root = settings.get_root_resource()
    assert isinstance(root, stack.Stack)
    root.register_outputs(root.outputs)
