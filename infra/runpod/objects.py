"""RunPod's objects behind the dynamic resources: found by our marker, made at most once, put into state."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import tenacity

from infra.runpod import body
from infra.runpod.api import (
    BadRequestError,
    ConflictError,
    NoAnswerError,
    NotFoundError,
    RunpodClient,
    RunpodError,
    ServerError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

ECR_ARN = re.compile(
    r"^arn:aws[a-z-]*:ecr:(?P<region>[a-z0-9-]+):(?P<account>\d{12}):repository/(?P<name>[^:@]+)$"
)
"""The name of an ECR repository, as RunPod takes it for a delegation."""

_CREATE_ATTEMPTS = 4
_BACK_OFF = tenacity.wait_exponential_jitter(multiplier=1.0, max=8.0, jitter=0.5)
_GONE_SECONDS = 180.0
_GONE_WAIT = tenacity.wait_exponential(multiplier=0.5, max=10.0)  # an account has 60 requests a minute


def create_once(
    *, find: Callable[[], dict[str, Any] | None], create: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """Create an object that has no idempotency key at most once: look for ours before every attempt."""
    for attempt in tenacity.Retrying(
        retry=tenacity.retry_if_exception_type((NoAnswerError, ServerError)),
        wait=_BACK_OFF,
        stop=tenacity.stop_after_attempt(_CREATE_ATTEMPTS),
        reraise=True,
    ):
        with attempt:
            return find() or create()
    raise AssertionError("unreachable: the last attempt returns or raises")


def endpoints(client: RunpodClient, *, action: str) -> Iterator[dict[str, Any]]:
    """Yield every endpoint of the account, with its container settings.

    The API's document does not promise those in lists.
    """
    for item in client.list_all("/serverless", "endpoints", action=action):
        whole = item
        if "env" not in item:
            try:
                whole = client.get(f"/serverless/{item['id']}", action=action)
            except NotFoundError:
                continue  # another stack's, which has gone since
        yield whole


def find_endpoint(client: RunpodClient, name: str, marker: str) -> dict[str, Any] | None:
    """Return the endpoint that carries our marker, whatever its name."""
    found = (
        item for item in endpoints(client, action=f"look for endpoint {name}") if _marker(item) == marker
    )
    return next(found, None)


def credential_name(marker: str, unique: str) -> str:
    """Return the name of a registry credential, which has nothing else to carry our marker."""
    return f"{marker}/{unique}"


def marked_credentials(client: RunpodClient, marker: str) -> list[dict[str, Any]]:
    """Return the registry credentials that carry our marker."""
    listed = client.list_all("/registries", "registries", action="list registry credentials")
    return [item for item in listed if item["name"].startswith(credential_name(marker, ""))]


def volume_name(name: str, marker: str) -> str:
    """Return the whole name of a network volume, which has nothing else to carry our marker."""
    return f"{name} {marker}"


def marked_volumes(client: RunpodClient, marker: str) -> list[dict[str, Any]]:
    """Return the network volumes that carry our marker."""
    listed = client.list_all("/network-volumes", "networkVolumes", action="list network volumes")
    return [item for item in listed if item["name"].endswith(volume_name("", marker))]


def remove_marked(client: RunpodClient, marker: str) -> None:
    """Delete all that carries a marker, endpoints before what they use."""
    for endpoint in list(endpoints(client, action="look for what is left")):
        if _marker(endpoint) == marker:
            remove(client, f"/serverless/{endpoint['id']}", what=f"endpoint {endpoint['id']}")
    for volume in marked_volumes(client, marker):
        remove(client, f"/network-volumes/{volume['id']}", what=f"network volume {volume['id']}")
    for credential in marked_credentials(client, marker):
        remove(client, f"/registries/{credential['id']}", what=f"registry credential {credential['id']}")
    for delegation in delegations(client):
        if delegation.get("name") == marker:
            path = f"/registries/delegations/{delegation['id']}"
            client.delete(path, action=f"delete ECR delegation {delegation['id']}")


def bring_to(client: RunpodClient, endpoint: dict[str, Any], props: Mapping[str, Any]) -> dict[str, Any]:
    """PATCH an endpoint to the wanted settings; return it as it then is."""
    current, marker = _without_marker(endpoint)
    change = body.patch_body(current, props, props["marker"], marker)
    if not change:
        return endpoint
    name, id_ = props["name"], endpoint["id"]
    return client.patch(f"/serverless/{id_}", change, action=f"update endpoint {name} ({id_})")


def _marker(endpoint: Mapping[str, Any]) -> str | None:
    return (endpoint.get("env") or {}).get(body.MARKER_VARIABLE)


def _without_marker(endpoint: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    env = dict(endpoint.get("env") or {})
    marker = env.pop(body.MARKER_VARIABLE, "")
    return {**endpoint, "env": env}, marker


def endpoint_outputs(props: Mapping[str, Any], endpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return what goes into state: what RunPod has, and where it is reached."""
    current, marker = _without_marker(endpoint)
    urls = endpoint.get("requestUrls") or {}
    return {
        "apiUrl": props["apiUrl"],
        "marker": marker,
        **body.shape({"type": props.get("type"), **current}),
        "requestUrls": urls,
        # A queue endpoint has a URL for each operation, under one base.
        "url": urls.get("base") or str(urls.get("run", "")).removesuffix("/run"),
        "health": urls.get("health", ""),
    }


def remove(client: RunpodClient, path: str, *, what: str) -> None:
    """Delete an object and wait until it is gone; one that is not there is gone.

    RunPod refuses to delete what workers still use, and those of an endpoint that is gone, or that has just
    been told to use another, end a little later.

    Args:
        client: of the account.
        path: the object's, which can be read.
        what: the object in words, for errors ("endpoint 4m7x2k9q").

    Raises:
        RunpodError: it cannot be deleted, or is still there after some minutes.
    """
    action = f"delete {what}"
    waiting: dict[str, Any] = {
        "wait": _GONE_WAIT,
        "stop": tenacity.stop_after_delay(_GONE_SECONDS),
        "reraise": True,
    }
    in_use = tenacity.retry_if_exception_type((BadRequestError, ConflictError))
    for attempt in tenacity.Retrying(retry=in_use, **waiting):
        with attempt:
            client.delete(path, action=action)
    for attempt in tenacity.Retrying(retry=tenacity.retry_if_exception_type(_StillThereError), **waiting):
        with attempt:
            try:
                client.get(path, action=action)
            except NotFoundError:
                return
            raise _StillThereError(action, detail=f"it is still there after {_GONE_SECONDS:.0f} s")


class _StillThereError(RunpodError):
    """RunPod took the deletion, and the object can still be read."""


def delegations(client: RunpodClient) -> list[dict[str, Any]]:
    """Return every ECR delegation of the account."""
    listed = client.list_all("/registries/delegations", "delegations", action="list ECR delegations")
    return [unwrapped(item) for item in listed]


def unwrapped(answer: dict[str, Any]) -> dict[str, Any]:
    """Take a delegation out of the envelope in which RunPod's own Terraform provider has met it."""
    data = answer.get("data")
    if isinstance(data, dict) and isinstance(data.get("delegation"), dict):
        return dict(data["delegation"])
    return answer


def find_delegation(client: RunpodClient, props: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the delegation of this repository that is named with our marker.

    While a delegation is replaced, the one of the old repository has the same name.
    """
    match = ECR_ARN.match(props["resource"])
    wanted = match.group("account", "region", "name") if match else None
    for item in delegations(client):
        repository = (item.get("awsUser"), item.get("awsRegion"), item.get("repository"))
        if item.get("name") == props["marker"] and repository == wanted:
            return item
    return None


def delegation_outputs(props: Mapping[str, Any]) -> dict[str, Any]:
    """Return what goes into state; the rest of a delegation follows from its repository."""
    return {key: props[key] for key in ("apiUrl", "marker", "resource")}
