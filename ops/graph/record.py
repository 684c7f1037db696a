"""Runs the Pulumi program with a monitor that makes nothing and records every resource with its options."""

from __future__ import annotations

import asyncio
import json
import os
import runpy
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from google.protobuf import json_format
from pulumi.runtime import mocks, set_all_config, settings, stack

from ops.graph.answers import SANDBOX_ENDPOINT, Cloud

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pulumi.runtime.proto import resource_pb2

_ROOT = Path(__file__).resolve().parents[2]
# By which Pulumi knows a secret among plain values.
_SECRET = "4dabf18193072939515e22adb298388d"  # noqa: S105
_SECRET_VALUE = "1b47061264138c4ac30d75fd1eb44270"  # noqa: S105


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
        """How long the engine waits for its creation, update and deletion."""
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
        """Return the resources of these types; there must be some."""
        found = [item for item in self if item.type in types]
        if not found:
            raise LookupError(f"no {' or '.join(types)}")
        return found

    def named(self, name: str) -> Recorded:
        """Return the one resource of a logical name."""
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


class Monitor(mocks.MockMonitor):
    """Takes what the program registers, and makes nothing.

    Args:
        answers: the cloud that the program asks.
    """

    def __init__(self, answers: mocks.Mocks) -> None:
        super().__init__(answers)
        self.graph = Graph()

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802
        """Write down a resource."""
        response = super().RegisterResource(request)  # type: ignore[no-untyped-call]
        _keep_secret(request, response)
        inputs = _plain(_struct(request.object))
        edges = set(request.dependencies)
        for dependencies in request.propertyDependencies.values():
            edges.update(dependencies.urns)
        provider = request.provider.rpartition("::")[0]
        edges.update(filter(None, (provider, request.parent, request.deletedWith, *request.replace_with)))
        if request.type != "pulumi:pulumi:Stack" and response.urn in self.graph.resources:
            raise ValueError(f"two of {response.urn}")
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
        """Write down what a component offers."""
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


def record(
    config: Mapping[str, Any],
    stack_name: str,
    *,
    cloud: Cloud,
    aws_endpoint: str = SANDBOX_ENDPOINT,
) -> Graph:
    """Run the program against a monitor that makes nothing, and return what it registered.

    Args:
        config: the configuration of a stack file.
        stack_name: the stack's name.
        cloud: what the program asks, and what says which outputs resources have.
        aws_endpoint: the endpoint of AWS that the environment names.
    """
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in config.items()}
    with mock.patch.dict(os.environ, {"AWS_ENDPOINT_URL": aws_endpoint}):
        return declared(_program, stack_name, cloud=cloud, config=texts)


def declared(
    program: Callable[[], None],
    stack_name: str,
    *,
    cloud: Cloud,
    config: Mapping[str, str] | None = None,
) -> Graph:
    """Run any program against a monitor that makes nothing, and return what it registered.

    Args:
        program: declares resources.
        stack_name: the stack's name.
        cloud: what the program asks, and what says which outputs resources have.
        config: what the program finds as its stack's configuration; nothing by default.
    """

    async def run() -> Graph:
        monitor = Monitor(cloud)
        mocks.set_mocks(monitor.mocks, "berth", stack_name, cloud.preview, monitor=monitor)
        set_all_config(dict(config or {}))
        await stack.run_pulumi_func(program)
        return monitor.graph

    # A loop of its own for each run: nothing that one program left undone runs in the next.
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(run())
    finally:
        # A program that refused leaves its other resources waiting.
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.close()
        settings.reset_options()


def _program() -> None:
    runpy.run_path(str(_ROOT / "infra"), run_name="__main__")
    root = settings.get_root_resource()
    if not isinstance(root, stack.Stack):
        raise TypeError(f"the program has no stack: {root}")
    root.register_outputs(root.outputs)
