"""Waits until an object is ready, or gone."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from sandbox.engine.values import annotate_secrets
from sandbox.plugins.errors import NotReadyError, PluginError
from sandbox.plugins.kubernetes import objects
from sandbox.plugins.kubernetes.readiness import CHECKS, Readiness
from sandbox.plugins.kubernetes.redaction import redacted

if TYPE_CHECKING:
    from sandbox.engine.values import Properties
    from sandbox.plugins.host import Request
    from sandbox.plugins.kubernetes.cluster import Cluster, Kind

_SHORTEST_PAUSE_SECONDS: Final = 0.2
_LONGEST_PAUSE_SECONDS: Final = 2.0


def outputs(found: dict[str, Any], inputs: Properties) -> Properties:
    """Return an object's properties; what was secret among the inputs is so here."""
    return annotate_secrets(objects.outputs(found), inputs)


def ready(
    cluster: Cluster,
    request: Request,
    kind: Kind,
    namespace: str | None,
    applied: dict[str, Any],
    id_: str,
) -> Properties:
    """Wait until an object is ready; return its outputs.

    Raises:
        NotReadyError: it cannot become ready, is gone, or the time is up.
    """
    found: dict[str, Any] | None = applied
    result = outputs(applied, request.inputs)
    check = CHECKS.get((kind.api_version, kind.kind))
    if check is None or objects.annotation(request.inputs, objects.SKIP_AWAIT) == "true":
        return result
    deadline = time.monotonic() + request.timeout_seconds
    pause = _SHORTEST_PAUSE_SECONDS
    try:
        while True:
            if found is None:
                raise NotReadyError([f"{kind.kind} {id_} has been deleted by somebody else"], id_, result)
            result = outputs(found, request.inputs)
            readiness = check(cluster, found)
            if readiness.ready:
                return result
            _give_up(readiness, kind, id_, result, request, deadline)
            request.say(readiness.waiting)
            request.pause(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)
            found = cluster.get(kind, namespace, applied["metadata"]["name"])
    except NotReadyError:
        raise
    except PluginError as error:
        raise NotReadyError([f"{kind.kind} {id_}: {error}"], id_, result) from error


def _give_up(
    readiness: Readiness, kind: Kind, id_: str, result: Properties, request: Request, deadline: float
) -> None:
    if readiness.failures:
        first, *rest = (redacted(reason, request.inputs) for reason in readiness.failures)
        raise NotReadyError([f"{kind.kind} {id_} cannot become ready: {first}", *rest], id_, result)
    if time.monotonic() > deadline:
        late = f"{kind.kind} {id_} is not ready after {request.timeout_seconds:.0f} s"
        raise NotReadyError([f"{late}: {readiness.waiting}"], id_, result)


def gone(
    cluster: Cluster, request: Request, kind: Kind, namespace: str | None, deleted: dict[str, Any]
) -> None:
    """Wait until an object that is being deleted is gone.

    Raises:
        PluginError: it is not when the time is up; says what holds it.
    """
    name, uid = deleted["metadata"]["name"], deleted["metadata"]["uid"]
    deadline = time.monotonic() + request.timeout_seconds
    pause = _SHORTEST_PAUSE_SECONDS
    while (found := cluster.get(kind, namespace, name)) and found["metadata"]["uid"] == uid:
        words = f"{kind.kind} {name}: {_holding(found)}"
        if time.monotonic() > deadline:
            raise PluginError(f"{words} after {request.timeout_seconds:.0f} s")
        request.say(words)
        request.pause(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)


def _holding(found: dict[str, Any]) -> str:
    """Say what keeps an object that is being deleted."""
    for condition in (found.get("status") or {}).get("conditions") or ():
        remains = condition["type"] in {"NamespaceContentRemaining", "NamespaceFinalizersRemaining"}
        if remains and condition["status"] == "True":
            return f"still there: {condition['message']}"
    finalizers = [
        *found["metadata"].get("finalizers", ()),
        *((found.get("spec") or {}).get("finalizers") or ()),
    ]
    return f"still there, held by {', '.join(finalizers)}" if finalizers else "still there"
