"""RunPod's objects behind the dynamic resources: found by our marker, made at most once, put into state."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import tenacity

from infra.runpod import body
from infra.runpod.api import NoAnswerError, NotFoundError, RunpodClient, ServerError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ECR_ARN = re.compile(
    r"^arn:aws[a-z-]*:ecr:(?P<region>[a-z0-9-]+):(?P<account>\d{12}):repository/(?P<name>[^:@]+)$"
)
"""The name of an ECR repository, as RunPod takes it for a delegation."""

_CREATE_ATTEMPTS = 4
_BACK_OFF = tenacity.wait_exponential_jitter(multiplier=1.0, max=8.0, jitter=0.5)


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


def find_endpoint(client: RunpodClient, name: str, marker: str) -> dict[str, Any] | None:
    """Return the endpoint that carries our marker, whatever its name."""
    action = f"look for endpoint {name}"
    for item in client.get("/serverless", action=action)["endpoints"]:
        # The API's document does not promise `env` in lists.
        if "env" not in item and item["name"] == name:
            found = client.get(f"/serverless/{item['id']}", action=action)
        else:
            found = item
        if (found.get("env") or {}).get(body.MARKER_VARIABLE) == marker:
            return dict(found)
    return None


def bring_to(client: RunpodClient, endpoint: dict[str, Any], props: Mapping[str, Any]) -> dict[str, Any]:
    """PATCH an endpoint to the wanted settings; return it as it then is."""
    current, marker = _without_marker(endpoint)
    change = body.patch_body(current, props, props["marker"], marker)
    if not change:
        return endpoint
    name, id_ = props["name"], endpoint["id"]
    return client.patch(f"/serverless/{id_}", change, action=f"update endpoint {name} ({id_})")


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


def endpoint_exists(client: RunpodClient, id_: str) -> bool:
    """Say whether an endpoint is still there."""
    try:
        client.get(f"/serverless/{id_}", action=f"see endpoint {id_} deleted")
    except NotFoundError:
        return False
    return True


def delegations(client: RunpodClient) -> list[dict[str, Any]]:
    """Return every ECR delegation of the account."""
    listed = client.get("/registries/delegations", action="list ECR delegations")["delegations"]
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
