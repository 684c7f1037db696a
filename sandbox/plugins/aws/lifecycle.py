"""Makes, awaits and deletes objects so that a call cut short can be made again.

Between the cloud's answer and the engine's note of it, anything can be killed. So every object that can
bear tags bears a mark: a hash of the resource's URN and one of its inputs. A create that finds an object with
its own mark, which is not one that state knows, takes it over; one with its URN's mark and other inputs is
deleted first. What does not bear the mark is never taken over.
"""

from __future__ import annotations

import hashlib
import json
import time
from typing import TYPE_CHECKING, Any, Final

import jmespath

from sandbox.plugins.aws import shapes
from sandbox.plugins.aws.cloud import CloudError
from sandbox.plugins.aws.types import MARKER, Context, Type
from sandbox.plugins.errors import NotReadyError, PluginError
from sandbox.plugins.schema import schema

if TYPE_CHECKING:
    from sandbox.engine.values import Properties

_SHORTEST_PAUSE_SECONDS: Final = 0.2
_LONGEST_PAUSE_SECONDS: Final = 5.0
# AWS says for a while after a role was made that nobody may assume it, and of other new objects that there
# are none.
_NOT_YET: Final = (
    "sts:AssumeRole",
    "cannot be assumed",
    "could not be assumed",
    "Unable to assume given IAM role",
    "nvalid principal",
    "Role is not authorized",
    "Retry your request",
)
_NOT_YET_SECONDS: Final = 30.0


def marker(urn: str, inputs: Properties) -> str:
    """Return the mark of one resource with one set of inputs."""
    text = json.dumps(inputs, sort_keys=True, default=str)
    return f"{_hash(urn, 16)}.{_hash(text, 12)}"


def _hash(text: str, length: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def create(type_: Type, context: Context, known: frozenset[str]) -> tuple[str, Properties]:
    """Make an object, or take over the one that an earlier try left; wait until it is ready.

    Args:
        type_: the type.
        context: the call.
        known: ids of this resource's objects that state knows, which are not to be taken over.

    Raises:
        CloudError: AWS refused to make it.
        NotReadyError: it was made, but did not become ready.
    """
    id_ = _left_over(type_, context, known) or _create(type_, context, known)
    try:
        type_.after_create(context, id_)
    except PluginError as error:
        raise NotReadyError([str(error)], id_, _described(type_, context, id_)) from error
    return id_, settle(type_, context, id_)


def _left_over(type_: Type, context: Context, known: frozenset[str]) -> str | None:
    for id_ in type_.orphans(context):
        if id_ in known:
            continue
        taken = _take_over(type_, context, id_)
        if taken is not None:
            return taken
    return None


def _create(type_: Type, context: Context, known: frozenset[str]) -> str:
    started = time.monotonic()
    while True:
        try:
            return type_.create(context)
        except CloudError as error:
            if _not_yet(error) and time.monotonic() - started < _NOT_YET_SECONDS:
                context.request.say(str(error))
                context.request.pause(1.0)
                continue
            id_ = type_.existing(context) if error.exists else None
            if id_ is None or id_ in known:
                raise
            taken = _take_over(type_, context, id_)
            if taken is not None:
                return taken


def _not_yet(error: CloudError) -> bool:
    return any(words in error.words for words in _NOT_YET)


def _take_over(type_: Type, context: Context, id_: str) -> str | None:
    """Return the id of an object that an earlier try of this create left; None once it is out of the way.

    Raises:
        PluginError: the object is not this resource's.
    """
    found = type_.read(context, id_)
    if found is None:
        return None
    if not type_.taggable:
        outputs = type_.outputs(context, id_, found)
        wanted = {key: value for key, value in context.inputs.items() if not key.startswith("__")}
        if not shapes.same(shapes.settle(wanted, outputs), wanted):
            raise PluginError(f"{id_} exists already, and is not as this resource wants it")
        return id_
    mark = type_.tags(context, id_, found).get(MARKER, "")
    if mark == context.marker:
        context.request.say(f"taking over {id_}, left by an update that was cut short")
        return id_
    if mark.partition(".")[0] != context.marker.partition(".")[0]:
        raise PluginError(
            f"{id_} exists already, and was not made by this resource; import it or choose another name"
        )
    context.request.say(f"deleting {id_}, left by an update that was cut short")
    delete(type_, context, id_)
    return None


def settle(type_: Type, context: Context, id_: str) -> Properties:
    """Wait until an object is ready; return its outputs.

    Raises:
        NotReadyError: it failed, disappeared, or the time is up.
    """
    deadline = time.monotonic() + context.request.timeout_seconds
    pause = _SHORTEST_PAUSE_SECONDS
    outputs: Properties = dict(context.inputs)
    while True:
        try:
            found = type_.read(context, id_)
            if found is not None:
                outputs = complete(type_, context, id_, found)
            reason = _unready(type_, found)
        except PluginError as error:
            raise NotReadyError([str(error)], id_, outputs) from error
        if reason is None:
            return outputs
        words, final = reason
        if final or time.monotonic() > deadline:
            late = "" if final else f" after {context.request.timeout_seconds:.0f} s"
            raise NotReadyError([f"{id_} is not ready{late}: {words}"], id_, outputs)
        context.request.say(words)
        try:
            context.request.pause(pause)
        except PluginError as error:
            raise NotReadyError([f"{error} while waiting: {words}"], id_, outputs) from error
        pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)


def _unready(type_: Type, found: dict[str, Any] | None) -> tuple[str, bool] | None:
    """Return why an object is not ready and whether that is final, or None where it is ready."""
    if found is None:
        return "does not show up", False
    if type_.status is None:
        return None
    status = jmespath.search(type_.status.path, found)
    if status in type_.status.ready:
        return None
    reasons = jmespath.search(type_.status.reason, found) if type_.status.reason else None
    words = "; ".join(map(str, reasons)) if isinstance(reasons, list) else str(reasons or "")
    return f"{status}{': ' if words else ''}{words}", status in type_.status.failed


def _described(type_: Type, context: Context, id_: str) -> Properties:
    try:
        found = type_.read(context, id_)
    except PluginError:
        found = None
    return dict(context.inputs) if found is None else complete(type_, context, id_, found)


def complete(type_: Type, context: Context, id_: str, found: dict[str, Any]) -> Properties:
    """Return all outputs of a described object.

    Inputs that the API does not report stay as they were given, and so do those it reports in another form.
    """
    outputs = type_.outputs(context, id_, found)
    result = {**outputs, "id": id_}
    for key, value in context.inputs.items():
        if key not in {"tags", "tagsAll"}:
            given = outputs.get(key)
            result[key] = _overlay(value, given)
    if "region" in schema(type_.pulumi_type).outputs:
        result["region"] = context.region
    if type_.taggable:
        result["tags"] = context.inputs.get("tags") or {}
        result["tagsAll"] = context.tags_all()
    return result


def _overlay(given: Any, actual: Any) -> Any:
    """Return an input's value among the outputs: as given, with what the object has beyond it."""
    if isinstance(given, dict) and isinstance(actual, dict):
        merged = dict(actual)
        merged.update({key: _overlay(value, actual.get(key)) for key, value in given.items()})
        return merged
    return given


def delete(type_: Type, context: Context, id_: str) -> None:
    """Delete an object and wait until it is gone; what keeps it is waited for too.

    Raises:
        PluginError: it is not gone when the time is up.
    """
    deadline = time.monotonic() + context.request.timeout_seconds
    pause = _SHORTEST_PAUSE_SECONDS
    asked = False
    while True:
        try:
            if not asked:
                type_.before_delete(context, id_)
                type_.delete(context, id_)
                asked = True
            if type_.remains or type_.read(context, id_) is None:
                return
            words = "waiting until it is gone"
        except CloudError as error:
            if error.not_found:
                return
            if not error.in_use or time.monotonic() > deadline:
                raise
            words = str(error)
        if time.monotonic() > deadline:
            raise PluginError(f"{id_} is not gone after {context.request.timeout_seconds:.0f} s")
        context.request.say(words)
        context.request.pause(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)
