"""Serves one provider over Pulumi's plugin protocol: the port on standard output, gRPC on loopback.

The protocol is `pulumirpc.ResourceProvider` of the Pulumi SDK (`proto/pulumi/provider.proto`); Pulumi's own
engine and `sandbox.engine` both speak it.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from concurrent import futures
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

import grpc
from google.protobuf import empty_pb2
from pulumi.runtime.proto import (
    engine_pb2,
    engine_pb2_grpc,
    plugin_pb2,
    provider_pb2,
    provider_pb2_grpc,
    status_pb2,
)

from sandbox.engine.errors import EngineError
from sandbox.engine.values import Properties, Wire, from_struct, has_secret, reveal
from sandbox.plugins.errors import NotReadyError, PluginError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_LARGEST_MESSAGE_BYTES: Final = 400 * 1024 * 1024
_GRPC_OPTIONS: Final = [
    ("grpc.max_receive_message_length", _LARGEST_MESSAGE_BYTES),
    ("grpc.max_send_message_length", _LARGEST_MESSAGE_BYTES),
]
# Waits hold a thread each, and an engine runs as many steps at once as the graph allows.
_WORKERS: Final = 64
_DEFAULT_TIMEOUT_SECONDS: Final = 600.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Failure:
    """A property that is refused, and why."""

    property: str
    reason: str


@dataclass(frozen=True)
class Difference:
    """What has to happen to an object to give it new inputs.

    Args:
        paths: kind of change (`add`, `delete`, `update`) by property path.
        replaces: the paths among them whose change needs a new object.
        delete_before_replace: whether the old object must go before the new one can come.
    """

    paths: Mapping[str, str]
    replaces: frozenset[str] = frozenset()
    delete_before_replace: bool = False


@dataclass(frozen=True)
class Request:
    """One call for one resource.

    Args:
        urn: the resource.
        type: its type token.
        name: its logical name.
        id: the object's id, "" where there is none yet.
        inputs: the inputs wanted (those in state where nothing new is wanted).
        old_inputs: the inputs in state.
        old_outputs: the outputs in state.
        ignore_changes: the property paths whose changes are ignored; the inputs have the old values there.
        timeout_seconds: how long the call may wait for the object.
        preview: whether nothing may be changed.
        say: shows a one-line status beside the resource.
        cancelled: set when the engine gives up.
    """

    urn: str
    type: str
    name: str
    id: str = ""
    inputs: Properties = field(default_factory=dict)
    old_inputs: Properties = field(default_factory=dict)
    old_outputs: Properties = field(default_factory=dict)
    ignore_changes: tuple[str, ...] = ()
    timeout_seconds: float = _DEFAULT_TIMEOUT_SECONDS
    preview: bool = False
    say: Callable[[str], None] = lambda _: None
    cancelled: threading.Event = field(default_factory=threading.Event)

    def pause(self, seconds: float) -> None:
        """Wait between two looks at an object.

        Raises:
            PluginError: the engine gave up.
        """
        if self.cancelled.wait(seconds):
            raise PluginError("cancelled")


class Provider(Protocol):
    """What a provider has to do; every method may raise `PluginError`."""

    name: str
    version: str
    accepts_secrets: bool

    def check_config(self, news: Properties) -> list[Failure]:
        """Check the provider's own configuration."""

    def diff_config(self, olds: Properties, news: Properties) -> Difference:
        """Compare two configurations of the provider."""

    def configure(self, configuration: Properties) -> None:
        """Take the configuration, all of it known."""

    def check(self, request: Request) -> tuple[Properties, list[Failure]]:
        """Check a resource's inputs and fill in defaults."""

    def diff(self, request: Request) -> Difference:
        """Compare the inputs in state with new ones."""

    def create(self, request: Request) -> tuple[str, Properties]:
        """Make the object, or say what it would be; return its id and outputs."""

    def read(self, request: Request) -> tuple[str, Properties, Properties] | None:
        """Return an object's id, inputs and outputs, or None where it does not exist."""

    def update(self, request: Request) -> Properties:
        """Change the object, or say what it would be; return its outputs."""

    def delete(self, request: Request) -> None:
        """Delete the object; one that does not exist is deleted."""

    def invoke(self, token: str, arguments: Properties) -> Properties:
        """Call a function."""


class _Servicer(provider_pb2_grpc.ResourceProviderServicer):
    def __init__(self, provider: Provider, engine_address: str) -> None:
        self._provider = provider
        self.cancelled = threading.Event()
        self._engine: engine_pb2_grpc.EngineStub | None = None
        if engine_address:
            self._attach(engine_address)
        self._wire = Wire(unknowns=True, secrets=provider.accepts_secrets)

    def _attach(self, address: str) -> None:
        self._engine = engine_pb2_grpc.EngineStub(grpc.insecure_channel(address, options=_GRPC_OPTIONS))

    def _say(self, urn: str) -> Callable[[str], None]:
        last = ""

        def say(message: str) -> None:
            nonlocal last
            if self._engine is None or message == last:
                return
            last = message
            try:
                self._engine.Log(
                    engine_pb2.LogRequest(severity=engine_pb2.INFO, message=message, urn=urn, ephemeral=True),
                    timeout=5,
                )
            except grpc.RpcError as error:
                # A status line that cannot be shown must not fail the work that it is about.
                _log.debug("the engine took no status: %s", error)

        return say

    def _request(self, request: Any, **more: Any) -> Request:
        name = getattr(request, "name", "") or request.urn.rpartition("::")[2]
        type_ = getattr(request, "type", "") or request.urn.split("::")[2].rpartition("$")[2]
        timeout = getattr(request, "timeout", 0) or _DEFAULT_TIMEOUT_SECONDS
        return Request(
            urn=request.urn,
            type=type_,
            name=name,
            id=getattr(request, "id", ""),
            ignore_changes=tuple(getattr(request, "ignoreChanges", ())),
            timeout_seconds=timeout,
            preview=getattr(request, "preview", False),
            say=self._say(request.urn),
            cancelled=self.cancelled,
            **more,
        )

    def GetPluginInfo(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802
        return plugin_pb2.PluginInfo(version=self._provider.version)

    def GetSchema(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802
        schema = {"name": self._provider.name, "version": self._provider.version}
        return provider_pb2.GetSchemaResponse(schema=json.dumps(schema))

    def Attach(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802
        self._attach(request.address)
        return empty_pb2.Empty()

    def CheckConfig(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802
        failures = self._provider.check_config(from_struct(request.news))
        return provider_pb2.CheckResponse(inputs=request.news, failures=_failures(failures))

    def DiffConfig(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802
        olds = from_struct(request.old_inputs if request.old_inputs.fields else request.olds)
        return _difference(self._provider.diff_config(olds, from_struct(request.news)))

    def Configure(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802
        if request.args.fields:
            configuration = reveal(from_struct(request.args))
        else:
            configuration = {key.rpartition(":")[2]: value for key, value in request.variables.items()}
        self._provider.configure(configuration)
        return provider_pb2.ConfigureResponse(
            acceptSecrets=self._provider.accepts_secrets, supportsPreview=True
        )

    def Check(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802
        inputs, failures = self._provider.check(
            self._request(request, inputs=from_struct(request.news), old_inputs=from_struct(request.olds))
        )
        return provider_pb2.CheckResponse(inputs=self._wire.struct(inputs), failures=_failures(failures))

    def Diff(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802
        return _difference(
            self._provider.diff(
                self._request(
                    request,
                    inputs=from_struct(request.news),
                    old_inputs=from_struct(request.old_inputs),
                    old_outputs=from_struct(request.olds),
                )
            )
        )

    def Create(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802
        id_, outputs = self._provider.create(self._request(request, inputs=from_struct(request.properties)))
        return provider_pb2.CreateResponse(id=id_, properties=self._wire.struct(outputs))

    def Read(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802
        inputs = from_struct(request.inputs)
        found = self._provider.read(
            self._request(
                request, inputs=inputs, old_inputs=inputs, old_outputs=from_struct(request.properties)
            )
        )
        if found is None:
            return provider_pb2.ReadResponse()
        id_, read_inputs, outputs = found
        return provider_pb2.ReadResponse(
            id=id_, inputs=self._wire.struct(read_inputs), properties=self._wire.struct(outputs)
        )

    def Update(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802
        outputs = self._provider.update(
            self._request(
                request,
                inputs=from_struct(request.news),
                old_inputs=from_struct(request.old_inputs),
                old_outputs=from_struct(request.olds),
            )
        )
        return provider_pb2.UpdateResponse(properties=self._wire.struct(outputs))

    def Delete(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802
        inputs = from_struct(request.old_inputs)
        self._provider.delete(
            self._request(
                request, inputs=inputs, old_inputs=inputs, old_outputs=from_struct(request.properties)
            )
        )
        return empty_pb2.Empty()

    def Invoke(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802
        arguments = from_struct(request.args)
        result = self._provider.invoke(request.tok, reveal(arguments) if has_secret(arguments) else arguments)
        return provider_pb2.InvokeResponse(**{"return": self._wire.struct(result)})

    def Cancel(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802
        self.cancelled.set()
        return empty_pb2.Empty()


class _Errors(grpc.ServerInterceptor):  # type: ignore[misc]
    """Turns exceptions into gRPC errors that carry one line, and what state must keep."""

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler = continuation(details)
        if handler is None or not handler.unary_unary:
            return handler

        def call(request: Any, context: Any) -> Any:
            try:
                return handler.unary_unary(request, context)
            except NotReadyError as error:
                context.abort_with_status(_not_ready(error))
            except (PluginError, EngineError) as error:
                context.abort(grpc.StatusCode.UNKNOWN, str(error))
            except NotImplementedError:
                raise
            except Exception as error:  # noqa: BLE001  # a plugin must answer; what went wrong is logged
                _log.exception("%s failed", details.method)
                context.abort(grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}")
            raise AssertionError("abort raises")

        return grpc.unary_unary_rpc_method_handler(
            call,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


@dataclass(frozen=True)
class _Status(grpc.Status):  # type: ignore[misc]
    code: grpc.StatusCode
    details: str
    trailing_metadata: tuple[tuple[str, bytes], ...]


def _not_ready(error: NotReadyError) -> _Status:
    status = status_pb2.Status(code=grpc.StatusCode.UNKNOWN.value[0], message=str(error))
    wire = Wire(secrets=True)
    status.details.add().Pack(
        provider_pb2.ErrorResourceInitFailed(
            id=error.id, properties=wire.struct(error.outputs), reasons=error.reasons
        )
    )
    metadata = (("grpc-status-details-bin", status.SerializeToString()),)
    return _Status(grpc.StatusCode.UNKNOWN, str(error), metadata)


def _failures(failures: list[Failure]) -> list[Any]:
    return [provider_pb2.CheckFailure(property=item.property, reason=item.reason) for item in failures]


def _difference(difference: Difference) -> Any:
    kinds = provider_pb2.PropertyDiff.Kind
    detailed = {}
    for path, kind in difference.paths.items():
        suffix = "_REPLACE" if path in difference.replaces else ""
        detailed[path] = provider_pb2.PropertyDiff(kind=kinds.Value(kind.upper() + suffix), inputDiff=True)
    changed = provider_pb2.DiffResponse.DIFF_SOME if detailed else provider_pb2.DiffResponse.DIFF_NONE
    return provider_pb2.DiffResponse(
        changes=changed,
        diffs=sorted(difference.paths),
        replaces=sorted(difference.replaces),
        deleteBeforeReplace=difference.delete_before_replace and bool(difference.replaces),
        detailedDiff=detailed,
        hasDetailedDiff=True,
    )


def serve(provider: Provider, arguments: list[str]) -> None:
    """Serve until SIGTERM, SIGINT or the end of the engine.

    Args:
        provider: what to serve.
        arguments: the command line; its last word that is no option is the engine's address.
    """
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(message)s")
    parent = os.getppid()
    addresses = [argument for argument in arguments if not argument.startswith("-")]
    server = grpc.server(
        futures.ThreadPoolExecutor(_WORKERS), options=_GRPC_OPTIONS, interceptors=(_Errors(),)
    )
    servicer = _Servicer(provider, addresses[-1] if addresses else "")
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        print(port, flush=True)
    except BrokenPipeError:
        os._exit(1)  # the engine died meanwhile
    while not stop.wait(1.0):
        if os.getppid() != parent:
            break  # the engine died without a word
    servicer.cancelled.set()
    server.stop(grace=None)
    # A call that hangs in a connection must not keep the process.
    os._exit(0)
