"""Provider plugins: starting them, and the ResourceProvider protocol as Pulumi's own engine speaks it.

What is sent, dropped, marked secret and assumed follows `sdk/go/common/resource/plugin/provider_plugin.go`.

The contract with providers about interrupted runs: a `Create` that was begun and not seen to end is called
again with the same inputs by the next run, so `Create` adopts an object that an earlier call left under the
same name or tags, and `Delete` of what is gone succeeds.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
from google.protobuf import empty_pb2, struct_pb2
from pulumi.runtime.proto import provider_pb2, provider_pb2_grpc, status_pb2

from sandbox.engine import values
from sandbox.engine.children import Child
from sandbox.engine.errors import EngineError
from sandbox.engine.state import Resource, name_of, type_of
from sandbox.engine.values import Properties, Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

DYNAMIC_PACKAGE = "pulumi-python"
_GRPC_OPTIONS = [
    ("grpc.max_receive_message_length", 400 * 1024 * 1024),
    ("grpc.max_send_message_length", 400 * 1024 * 1024),
]
# Providers of this project may lie here when they are not on PATH.
_OWN_PLUGINS = Path(__file__).resolve().parent.parent / "plugins" / "bin"


class ProviderError(EngineError):
    """A provider refused a call or failed in it."""


class InitializationError(ProviderError):
    """The object was made, or changed, but did not come up; it is to be recorded nevertheless."""

    def __init__(self, reasons: list[str], id_: str, outputs: Properties, inputs: Properties | None) -> None:
        super().__init__("; ".join(reasons))
        self.reasons, self.id, self.outputs, self.inputs = reasons, id_, outputs, inputs


@dataclass
class Diff:
    """What a provider says about the difference between what is and what is wanted.

    Args:
        changes: whether there is one; None where the provider cannot say.
        changed: the keys that differ.
        replaces: the keys whose change needs a new object.
        delete_before_replace: whether the old object must go before the new one can come.
        detailed: kind of change by property path, where the provider tells.
        unavailable: the provider's configuration is not known yet, so nothing could be asked.
    """

    changes: bool | None
    changed: list[str] = field(default_factory=list)
    replaces: list[str] = field(default_factory=list)
    delete_before_replace: bool = False
    detailed: dict[str, str] = field(default_factory=dict)
    unavailable: bool = False

    @property
    def replace(self) -> bool:
        """Whether a new object is needed."""
        return bool(self.replaces) or any("replace" in kind for kind in self.detailed.values())


@dataclass
class CheckResult:
    """Checked inputs, or why they were refused (property and reason)."""

    inputs: Properties
    failures: list[tuple[str, str]]


class Provider:
    """One configured instance of a provider plugin, in a process of its own.

    Args:
        package: the plugin's name, `aws` for `pulumi-resource-aws`.
        cwd: the program's folder.
        environment: the plugin's whole environment.
        engine_address: where it sends its log.
        say: called with the lines that it prints, and the URNs of the calls that it is busy with.
    """

    def __init__(
        self,
        package: str,
        *,
        cwd: Path,
        environment: Mapping[str, str],
        engine_address: str,
        say: Callable[[str, list[str]], None],
    ) -> None:
        self.package = package
        self._busy: list[str] = []
        self._ended: list[str] = []  # whose call ended last: a line of it may still be on its way
        self._busy_lock = threading.Lock()
        self._child = Child(
            [*_command(package, environment), engine_address],
            cwd=cwd,
            environment=environment,
            say=lambda line: say(line, list(self._busy) or self._ended),
        )
        port = self._child.first_line()
        if not port.isdigit():
            self._child.kill()
            raise EngineError(f"the provider plugin {package} ended before it was ready")
        self._child.read_output()
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=_GRPC_OPTIONS)
        self._stub = provider_pb2_grpc.ResourceProviderStub(self._channel)
        self._configuration: Properties | None = None
        self._wire = Wire()
        self._supports_preview = False

    @property
    def known(self) -> bool:
        """Whether the provider could be configured: all its configuration is known."""
        return self._configuration is not None

    @contextmanager
    def _call(self, urn: str) -> Iterator[None]:
        with self._busy_lock:
            self._busy.append(urn)
        try:
            yield
        except grpc.RpcError as error:
            self._raise(error)
        finally:
            with self._busy_lock:
                self._busy.remove(urn)
                self._ended = [urn]

    def _raise(self, error: Any) -> NoReturn:
        for key, value in error.trailing_metadata() or ():
            if key != "grpc-status-details-bin":
                continue
            for detail in status_pb2.Status.FromString(value).details:
                failed = provider_pb2.ErrorResourceInitFailed()
                if detail.Unpack(failed):
                    raise InitializationError(
                        list(failed.reasons),
                        failed.id,
                        values.from_struct(failed.properties),
                        values.from_struct(failed.inputs) if failed.HasField("inputs") else None,
                    ) from error
        if error.code() == grpc.StatusCode.UNAVAILABLE and self._child.popen.poll() is not None:
            raise ProviderError(
                f"the provider plugin {self.package} ended in the middle of the call "
                f"(status {self._child.popen.returncode})"
            ) from error
        raise ProviderError(_without_traceback(error.details() or str(error.code()))) from error

    def check_config(self, urn: str, olds: Properties, news: Properties) -> CheckResult:
        """Check the provider's own configuration."""
        wire = Wire(unknowns=True)
        try:
            response = self._stub.CheckConfig(
                provider_pb2.CheckRequest(
                    urn=urn,
                    name=name_of(urn),
                    type=type_of(urn),
                    olds=wire.struct(olds),
                    news=wire.struct(news),
                )
            )
        except grpc.RpcError as error:
            if _unimplemented(error):
                return CheckResult(news, [])
            self._raise(error)
        inputs = values.annotate_secrets(values.from_struct(response.inputs), news)
        return CheckResult(inputs, [(item.property, item.reason) for item in response.failures])

    def diff_config(
        self, urn: str, old_inputs: Properties, old_outputs: Properties, news: Properties
    ) -> Diff:
        """Compare the provider's own configuration."""
        wire = Wire(unknowns=True)
        try:
            response = self._stub.DiffConfig(
                provider_pb2.DiffRequest(
                    urn=urn,
                    name=name_of(urn),
                    type=type_of(urn),
                    old_inputs=wire.struct(old_inputs),
                    olds=wire.struct(old_outputs),
                    news=wire.struct(news),
                )
            )
        except grpc.RpcError as error:
            if _unimplemented(error):
                return Diff(changes=None)
            self._raise(error)
        return _diff(response)

    def configure(self, urn: str, id_: str, inputs: Properties) -> None:
        """Configure the provider, unless part of its configuration is unknown yet.

        Raises:
            ProviderError: it refuses this configuration.
        """
        if values.has_unknown(inputs):
            return
        variables = {
            f"{type_of(urn).rpartition(':')[2]}:config:{key}": _variable(values.reveal(value))
            for key, value in inputs.items()
            if key != "version"
        }
        with self._call(urn):
            response = self._stub.Configure(
                provider_pb2.ConfigureRequest(
                    urn=urn,
                    name=name_of(urn),
                    type=type_of(urn),
                    id=id_,
                    acceptSecrets=True,
                    acceptResources=True,
                    sends_old_inputs=True,
                    sends_old_inputs_to_delete=True,
                    variables=variables,
                    args=Wire(unknowns=True, secrets=True, references=True).struct(inputs),
                )
            )
        self._wire = Wire(secrets=response.acceptSecrets, references=response.acceptResources)
        self._supports_preview = response.supportsPreview
        self._configuration = inputs

    def _send(self, properties: Properties, *, unknowns: bool = False) -> struct_pb2.Struct:
        return Wire(unknowns, self._wire.secrets, self._wire.references).struct(properties)

    def _annotate(self, outputs: Properties, inputs: Properties) -> Properties:
        return outputs if self._wire.secrets else values.annotate_secrets(outputs, inputs)

    def check(
        self, urn: str, olds: Properties, news: Properties, *, preview: bool, seed: bytes
    ) -> CheckResult:
        """Check a resource's inputs and fill in defaults."""
        if not self.known:
            return CheckResult(news, [])
        with self._call(urn):
            response = self._stub.Check(
                provider_pb2.CheckRequest(
                    urn=urn,
                    name=name_of(urn),
                    type=type_of(urn),
                    olds=self._send(olds, unknowns=preview),
                    news=self._send(news, unknowns=preview),
                    randomSeed=seed,
                )
            )
        inputs = self._annotate(values.from_struct(response.inputs), news)
        return CheckResult(inputs, [(item.property, item.reason) for item in response.failures])

    def diff(self, old: Resource, news: Properties, *, preview: bool, ignore_changes: list[str]) -> Diff:
        """Ask what would have to happen to a resource to give it new inputs."""
        if not self.known:
            return Diff(changes=True, unavailable=True)
        with self._call(old.urn):
            response = self._stub.Diff(
                provider_pb2.DiffRequest(
                    id=old.id,
                    urn=old.urn,
                    name=old.name,
                    type=old.type,
                    old_inputs=self._send(old.inputs, unknowns=preview),
                    olds=self._send(old.outputs, unknowns=preview),
                    news=self._send(news, unknowns=preview),
                    ignoreChanges=ignore_changes,
                )
            )
        return _diff(response)

    def create(self, resource: Resource, *, preview: bool) -> tuple[str, Properties]:
        """Make the object; return its id and outputs.

        Raises:
            InitializationError: it was made but did not come up.
            ProviderError: it was not made.
        """
        if preview and not self.known:
            return "", {}
        if preview and not self._supports_preview:
            return "", resource.inputs
        try:
            with self._call(resource.urn):
                response = self._stub.Create(
                    provider_pb2.CreateRequest(
                        urn=resource.urn,
                        name=resource.name,
                        type=resource.type,
                        properties=self._send(resource.inputs, unknowns=preview),
                        timeout=resource.custom_timeouts.get("create", 0),
                        preview=preview,
                    )
                )
        except InitializationError as error:
            error.outputs = self._annotate(error.outputs, resource.inputs)
            raise
        if not response.id and not preview:
            raise ProviderError(f"the provider plugin {self.package} gave no id for what it made")
        outputs = values.from_struct(response.properties)
        return response.id, self._annotate(outputs, resource.inputs)

    def update(self, old: Resource, new: Resource, *, preview: bool) -> Properties:
        """Change the object to new inputs; return its outputs.

        Raises:
            InitializationError: it was changed but did not come up.
            ProviderError: it was not changed.
        """
        if preview and not self.known:
            return {}
        if preview and not self._supports_preview:
            return new.inputs
        try:
            with self._call(new.urn):
                response = self._stub.Update(
                    provider_pb2.UpdateRequest(
                        id=old.id,
                        urn=new.urn,
                        name=new.name,
                        type=new.type,
                        olds=self._send(old.outputs),
                        news=self._send(new.inputs, unknowns=preview),
                        old_inputs=self._send(old.inputs),
                        timeout=new.custom_timeouts.get("update", 0),
                        ignoreChanges=new.ignore_changes,
                        preview=preview,
                    )
                )
        except InitializationError as error:
            error.outputs = self._annotate(error.outputs, new.inputs)
            raise
        return self._annotate(values.from_struct(response.properties), new.inputs)

    def delete(self, old: Resource) -> None:
        """Delete the object.

        Raises:
            ProviderError: it could not be deleted.
        """
        with self._call(old.urn):
            self._stub.Delete(
                provider_pb2.DeleteRequest(
                    id=old.id,
                    urn=old.urn,
                    name=old.name,
                    type=old.type,
                    properties=self._send(old.outputs),
                    old_inputs=self._send(old.inputs),
                    timeout=old.custom_timeouts.get("delete", 0),
                )
            )

    def read(self, resource: Resource) -> tuple[str, Properties | None, Properties] | None:
        """Look the object up; return its id, its inputs where the provider tells them, and its outputs.

        Returns:
            None where it does not exist.

        Raises:
            InitializationError: it exists but is not healthy.
        """
        if not self.known:
            return resource.id, {}, {}
        try:
            with self._call(resource.urn):
                response = self._stub.Read(
                    provider_pb2.ReadRequest(
                        id=resource.id,
                        urn=resource.urn,
                        name=resource.name,
                        type=resource.type,
                        properties=self._send(resource.outputs),
                        inputs=self._send(resource.inputs),
                        timeout=resource.custom_timeouts.get("read", 0),
                    )
                )
        except InitializationError as error:
            error.outputs = self._annotate(error.outputs, resource.outputs)
            raise
        if not response.id:
            return None
        inputs = values.from_struct(response.inputs) if response.HasField("inputs") else None
        if inputs is not None:
            inputs = self._annotate(inputs, resource.inputs)
        return (
            response.id,
            inputs,
            self._annotate(values.from_struct(response.properties), resource.outputs),
        )

    def invoke(self, token: str, arguments: Properties, *, preview: bool) -> CheckResult:
        """Call a function of the provider."""
        if not self.known:
            return CheckResult({}, [])
        with self._call(token):
            response = self._stub.Invoke(
                provider_pb2.InvokeRequest(tok=token, args=self._send(arguments), preview=preview)
            )
        result = values.from_struct(getattr(response, "return"))
        if values.has_secret(arguments) and not self._wire.secrets:
            result = {key: values.Secret(values.reveal(value)) for key, value in result.items()}
        return CheckResult(result, [(item.property, item.reason) for item in response.failures])

    def cancel(self) -> None:
        """Ask the plugin to give up what it is doing."""
        try:
            self._stub.Cancel(empty_pb2.Empty(), timeout=1)
        except grpc.RpcError:
            return  # the call is a courtesy; the process is ended in any case

    def close(self) -> None:
        """End the plugin's process."""
        self._channel.close()
        self._child.kill()


def _command(package: str, environment: Mapping[str, str]) -> list[str]:
    if package == DYNAMIC_PACKAGE:
        # -P: the program's folder must not shadow installed packages with its own modules.
        return [sys.executable, "-P", "-u", "-m", "pulumi.dynamic"]
    name = f"pulumi-resource-{package}"
    path = os.pathsep.join([environment.get("PATH", ""), str(_OWN_PLUGINS)])
    executable = shutil.which(name, path=path)
    if executable is None:
        raise EngineError(f"the provider plugin {name} is neither on PATH nor in {_OWN_PLUGINS}")
    return [executable]


def _unimplemented(error: Any) -> bool:
    return bool(
        error.code() == grpc.StatusCode.UNIMPLEMENTED
        or (error.code() == grpc.StatusCode.UNKNOWN and "nimplemented" in (error.details() or ""))
    )


def _variable(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _diff(response: provider_pb2.DiffResponse) -> Diff:
    changes = {
        provider_pb2.DiffResponse.DIFF_SOME: True,
        provider_pb2.DiffResponse.DIFF_NONE: False,
    }.get(response.changes)
    detailed = {}
    if response.hasDetailedDiff:
        for path, item in response.detailedDiff.items():
            detailed[path] = provider_pb2.PropertyDiff.Kind.Name(item.kind).lower().replace("_", "-")
    return Diff(
        changes, list(response.diffs), list(response.replaces), response.deleteBeforeReplace, detailed
    )


def _without_traceback(message: str) -> str:
    """Reduce a Python traceback, which dynamic providers send as their error, to its exception."""
    marker = "Traceback (most recent call last):\n"
    if marker not in message:
        return message.strip()
    lines = message.rpartition(marker)[2].rstrip().splitlines()
    first = next((index for index, line in enumerate(lines) if line and not line.startswith(" ")), 0)
    text = "\n".join(lines[first:])
    # The class of a project's own exception says nothing to its user; that of a built-in one does.
    return re.sub(r"^(\w+\.)+\w+: ", "", text)
