"""Drives a plugin over gRPC, in a process of its own, as an engine does."""

from __future__ import annotations

import os
import subprocess
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import empty_pb2
from pulumi.runtime.proto import engine_pb2_grpc, plugin_pb2, provider_pb2, provider_pb2_grpc, status_pb2

from sandbox.engine.values import Wire, from_struct

BIN = Path(__file__).parents[2] / "sandbox" / "plugins" / "bin"
_WIRE = Wire(unknowns=True, secrets=True)


class InitializationFailed(Exception):  # noqa: N818
    """The plugin made the object, but it did not become ready."""

    def __init__(self, failed: Any) -> None:
        super().__init__("; ".join(failed.reasons))
        self.id, self.outputs = failed.id, from_struct(failed.properties)


class Refused(Exception):  # noqa: N818
    """The plugin refused a call; the message is what a user reads."""


class _Engine(engine_pb2_grpc.EngineServicer):
    def __init__(self) -> None:
        self.messages: list[tuple[str, str]] = []

    def Log(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802
        self.messages.append((request.urn, request.message))
        return empty_pb2.Empty()


@dataclass
class Resource:
    """What an engine keeps of a resource."""

    type: str
    name: str
    id: str
    inputs: dict[str, Any]
    outputs: dict[str, Any]


@dataclass
class Difference:
    changes: bool
    paths: dict[str, str]
    replaces: list[str]
    delete_before_replace: bool


@dataclass
class Plugin:
    """A running plugin; `restart` is what a new run of the engine is to it."""

    package: str
    configuration: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.engine = _Engine()
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        engine_pb2_grpc.add_EngineServicer_to_server(self.engine, self._server)
        port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()
        self._address = f"127.0.0.1:{port}"
        self.start()

    @property
    def statuses(self) -> list[str]:
        return [message for _, message in self.engine.messages]

    def start(self) -> None:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
        self.popen = subprocess.Popen(
            [BIN / f"pulumi-resource-{self.package}", self._address], stdout=subprocess.PIPE, env=environment
        )
        assert self.popen.stdout is not None
        self.port = int(self.popen.stdout.readline())
        self._channel = grpc.insecure_channel(f"127.0.0.1:{self.port}")
        self.stub = provider_pb2_grpc.ResourceProviderStub(self._channel)
        if self.configuration:
            self.configure(self.configuration)

    def kill(self) -> None:
        self._channel.close()
        self.popen.kill()
        self.popen.wait()
        assert self.popen.stdout is not None
        self.popen.stdout.close()

    def restart(self) -> None:
        self.kill()
        self.start()

    def close(self) -> None:
        self.kill()
        self._server.stop(None).wait()

    def _call(self, method: str, request: Any) -> Any:
        try:
            return getattr(self.stub, method)(request, timeout=120)
        except grpc.RpcError as error:
            for key, value in error.trailing_metadata() or ():
                if key == "grpc-status-details-bin":
                    failed = provider_pb2.ErrorResourceInitFailed()
                    if status_pb2.Status.FromString(value).details[0].Unpack(failed):
                        raise InitializationFailed(failed) from None
            raise Refused(error.details()) from None

    def info(self) -> Any:
        return self._call("GetPluginInfo", empty_pb2.Empty())

    def attach(self, address: str) -> None:
        self._call("Attach", plugin_pb2.PluginAttach(address=address))

    def urn(self, type_: str, name: str) -> str:
        return f"urn:pulumi:local::berth::{type_}::{name}"

    def check_config(self, news: dict[str, Any]) -> dict[str, str]:
        urn = self.urn(f"pulumi:providers:{self.package}", "main")
        response = self._call("CheckConfig", provider_pb2.CheckRequest(urn=urn, news=_WIRE.struct(news)))
        return {item.property: item.reason for item in response.failures}

    def diff_config(self, olds: dict[str, Any], news: dict[str, Any]) -> Difference:
        urn = self.urn(f"pulumi:providers:{self.package}", "main")
        return _difference(
            self._call(
                "DiffConfig",
                provider_pb2.DiffRequest(
                    urn=urn, old_inputs=_WIRE.struct(olds), olds=_WIRE.struct(olds), news=_WIRE.struct(news)
                ),
            )
        )

    def configure(self, configuration: dict[str, Any]) -> Any:
        return self._call(
            "Configure", provider_pb2.ConfigureRequest(args=_WIRE.struct(configuration), acceptSecrets=True)
        )

    def check(
        self, type_: str, name: str, news: dict[str, Any], olds: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, str]]:
        response = self._call(
            "Check",
            provider_pb2.CheckRequest(
                urn=self.urn(type_, name), news=_WIRE.struct(news), olds=_WIRE.struct(olds or {})
            ),
        )
        return from_struct(response.inputs), {item.property: item.reason for item in response.failures}

    def preview(self, type_: str, name: str, inputs: dict[str, Any]) -> dict[str, Any]:
        checked, failures = self.check(type_, name, inputs)
        assert not failures, failures
        response = self._call(
            "Create",
            provider_pb2.CreateRequest(
                urn=self.urn(type_, name), properties=_WIRE.struct(checked), preview=True
            ),
        )
        return from_struct(response.properties)

    def create(
        self,
        type_: str,
        name: str,
        inputs: dict[str, Any],
        *,
        olds: dict[str, Any] | None = None,
        timeout: float = 30,
    ) -> Resource:
        checked, failures = self.check(type_, name, inputs, olds)
        assert not failures, failures
        response = self._call(
            "Create",
            provider_pb2.CreateRequest(
                urn=self.urn(type_, name), properties=_WIRE.struct(checked), timeout=timeout
            ),
        )
        assert response.id
        return Resource(type_, name, response.id, checked, from_struct(response.properties))

    def diff(self, old: Resource, news: dict[str, Any]) -> Difference:
        checked, failures = self.check(old.type, old.name, news, old.inputs)
        assert not failures, failures
        return self.diff_checked(old, checked)

    def diff_checked(self, old: Resource, checked: dict[str, Any]) -> Difference:
        return _difference(
            self._call(
                "Diff",
                provider_pb2.DiffRequest(
                    id=old.id,
                    urn=self.urn(old.type, old.name),
                    old_inputs=_WIRE.struct(old.inputs),
                    olds=_WIRE.struct(old.outputs),
                    news=_WIRE.struct(checked),
                ),
            )
        )

    def update(
        self,
        old: Resource,
        news: dict[str, Any],
        *,
        preview: bool = False,
        timeout: float = 30,
        ignore_changes: list[str] | None = None,
    ) -> Resource:
        checked, failures = self.check(old.type, old.name, news, old.inputs)
        assert not failures, failures
        response = self._call(
            "Update",
            provider_pb2.UpdateRequest(
                id=old.id,
                urn=self.urn(old.type, old.name),
                olds=_WIRE.struct(old.outputs),
                old_inputs=_WIRE.struct(old.inputs),
                news=_WIRE.struct(checked),
                preview=preview,
                timeout=timeout,
                ignoreChanges=ignore_changes,
            ),
        )
        return Resource(old.type, old.name, old.id, checked, from_struct(response.properties))

    def read(self, old: Resource) -> Resource | None:
        response = self._call(
            "Read",
            provider_pb2.ReadRequest(
                id=old.id,
                urn=self.urn(old.type, old.name),
                inputs=_WIRE.struct(old.inputs),
                properties=_WIRE.struct(old.outputs),
            ),
        )
        if not response.id:
            return None
        return Resource(
            old.type, old.name, response.id, from_struct(response.inputs), from_struct(response.properties)
        )

    def delete(self, old: Resource, *, timeout: float = 30) -> None:
        self._call(
            "Delete",
            provider_pb2.DeleteRequest(
                id=old.id,
                urn=self.urn(old.type, old.name),
                properties=_WIRE.struct(old.outputs),
                old_inputs=_WIRE.struct(old.inputs),
                timeout=timeout,
            ),
        )

    def invoke(self, token: str, arguments: dict[str, Any]) -> dict[str, Any]:
        response = self._call("Invoke", provider_pb2.InvokeRequest(tok=token, args=_WIRE.struct(arguments)))
        return from_struct(getattr(response, "return"))


def _difference(response: Any) -> Difference:
    kinds = provider_pb2.PropertyDiff.Kind
    paths = {path: kinds.Name(item.kind) for path, item in response.detailedDiff.items()}
    changed = response.changes == provider_pb2.DiffResponse.DIFF_SOME
    return Difference(changed, paths, sorted(response.replaces), response.deleteBeforeReplace)
