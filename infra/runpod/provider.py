"""Endpoints and ECR delegations as dynamic resources, and the marker that says whose an object is.

The providers are stateless and live in this module, so that Pulumi pickles them by reference: the module's
path and the classes' names are in the state of every stack. Moving or renaming one makes it unusable.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from pulumi import Output, ResourceOptions
from pulumi.dynamic import (
    CheckFailure,
    CheckResult,
    CreateResult,
    DiffResult,
    ReadResult,
    Resource,
    UpdateResult,
)

from infra.runpod import body, objects
from infra.runpod.api import NotFoundError
from infra.runpod.connection import DEFAULT_OPTIONS, RunpodProvider
from infra.runpod.reasons import naming_settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pulumi import Input


class EndpointProvider(RunpodProvider):
    """Serverless endpoints; an endpoint is known by its marker, whatever its name."""

    def check(self, _olds: dict[str, Any], news: dict[str, Any]) -> CheckResult:
        """Refuse what RunPod would refuse, without asking it."""
        allowed = {"apiUrl", "marker", "type", *body.FIELDS, "__provider"}
        failures = [
            CheckFailure(key, "is not a property of an endpoint") for key in sorted(set(news) - allowed)
        ]
        failures += [CheckFailure(*problem) for problem in body.problems(news)]
        return CheckResult(news, failures)

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        """Compare settings, not their spelling; only the type and the kind of machine need a new endpoint."""
        if body.has_unknown({key: value for key, value in _news.items() if key != "__provider"}):
            _news = {key: _olds.get(key) if body.is_unknown(value) else value for key, value in _news.items()}
            changed = True
        else:
            changed = False
        old, new = body.comparable(_olds), body.comparable(_news)
        replaces = body.fixed_differences(old, new)
        same_place = all(_olds.get(key) == _news.get(key) for key in ("apiUrl", "marker"))
        # The old one goes first: both would count against the account's workers, and carry the same marker.
        return DiffResult(
            changes=changed or old != new or not same_place, replaces=replaces, delete_before_replace=True
        )

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Create the endpoint, or take over the one that an interrupted attempt has made."""
        wanted = body.create_body(props, props["marker"])
        with self._client(props) as client, naming_settings(props["marker"]):

            def find() -> dict[str, Any] | None:
                found = objects.find_endpoint(client, props["name"], props["marker"])
                if found is None or not body.fixed_differences(found, props):
                    return found
                # Since that attempt, the stack has come to want what it cannot become.
                objects.remove(client, f"/serverless/{found['id']}", what=f"endpoint {found['id']}")
                return None

            endpoint = objects.create_once(
                find=find,
                create=lambda: client.post("/serverless", wanted, action=f"create endpoint {props['name']}"),
            )
            endpoint = objects.bring_to(client, endpoint, props)
        return CreateResult(endpoint["id"], objects.endpoint_outputs(props, endpoint))

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        """Return what RunPod has now, drift included."""
        try:
            with self._client(props) as client:
                endpoint = client.get(f"/serverless/{id_}", action=f"read endpoint {id_}")
        except NotFoundError:
            return ReadResult(None, {})
        outputs = objects.endpoint_outputs(props, endpoint)
        inputs = {key: outputs[key] for key in ("apiUrl", "marker", "type", *body.FIELDS)}
        return ReadResult(id_, outputs, {key: value for key, value in inputs.items() if value is not None})

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        """PATCH what differs from what RunPod has at this moment."""
        with self._client(_news) as client, naming_settings(_news["marker"]):
            endpoint = client.get(f"/serverless/{_id}", action=f"update endpoint {_news['name']} ({_id})")
            endpoint = objects.bring_to(client, endpoint, _news)
        return UpdateResult(objects.endpoint_outputs(_news, endpoint))

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        """Delete the endpoint and wait until it is gone, its workers with it."""
        with self._client(_props) as client:
            objects.remove(client, f"/serverless/{_id}", what=f"endpoint {_id}")


class EcrDelegationProvider(RunpodProvider):
    """RunPod's right to pull from one ECR repository; the API has no update and no read of a single one."""

    def check(self, _olds: dict[str, Any], news: dict[str, Any]) -> CheckResult:
        """Refuse what is not the ARN of an ECR repository."""
        resource = news.get("resource")
        failures = []
        if not resource:
            failures.append(CheckFailure("resource", "is missing"))
        elif not body.is_unknown(resource) and not objects.ECR_ARN.match(str(resource)):
            failures.append(CheckFailure("resource", f"= {resource!r} must be the ARN of an ECR repository"))
        return CheckResult(news, failures)

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        """Replace it when the repository or the marker, which is its name, changes."""
        replaces = [key for key in ("resource", "marker") if _olds.get(key) != _news.get(key)]
        moved = _olds.get("apiUrl") != _news.get("apiUrl")
        return DiffResult(changes=bool(replaces) or moved, replaces=replaces, delete_before_replace=False)

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Register the repository, or take over what an interrupted attempt has registered."""
        wanted = {"resource": props["resource"], "name": props["marker"]}
        with self._client(props) as client:
            made = objects.create_once(
                find=lambda: objects.find_delegation(client, props),
                create=lambda: objects.unwrapped(
                    client.post(
                        "/registries/delegations", wanted, action=f"register {props['resource']} with RunPod"
                    )
                ),
            )
        return CreateResult(made["id"], objects.delegation_outputs(props))

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        """Look for it in the list."""
        with self._client(props) as client:
            listed = objects.delegations(client)
        if all(item["id"] != id_ for item in listed):
            return ReadResult(None, {})
        return ReadResult(id_, objects.delegation_outputs(props))

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        """Keep it; only the address of the API can change without a replacement."""
        return UpdateResult(objects.delegation_outputs(_news))

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        """Withdraw it; one that is gone is done."""
        with self._client(_props) as client:
            client.delete(f"/registries/delegations/{_id}", action=f"delete ECR delegation {_id}")


class MarkerProvider(RunpodProvider):
    """A text that no other stack has; in state before anything is asked of RunPod, so it outlives a crash."""

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Draw the unique part."""
        return CreateResult(secrets.token_hex(8), self._outputs(props, secrets.token_hex(8)))

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        """Replace nothing: whose an endpoint is does not change."""
        return DiffResult(changes=_olds.get("apiUrl") != _news.get("apiUrl"))

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        """Return what is in state: it is nowhere else."""
        return ReadResult(id_, dict(props))

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        """Keep it; only the address of the API can change."""
        return UpdateResult({"owner": _olds["owner"], "value": _olds["value"], "apiUrl": _news["apiUrl"]})

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        """Delete what still carries it: made by an engine that was killed before it could write that down.

        Nothing else of the stack is left then, as all of it depends on the marker.
        """
        if _props.get("apiUrl"):  # the state of an older version has none
            with self._client(_props) as client:
                objects.remove_marked(client, _props["value"])

    @staticmethod
    def _outputs(props: Mapping[str, Any], unique: str) -> dict[str, Any]:
        return {"owner": props["owner"], "value": f"{props['owner']}/{unique}", "apiUrl": props["apiUrl"]}


class Endpoint(Resource, module="runpod", name="Endpoint"):
    """A serverless endpoint.

    Args:
        resource_name: the logical name.
        api_url: base URL of REST v2; it is kept in state, the key is not.
        marker: a `Marker`'s value, by which the endpoint is found again.
        name: its name in the console.
        type: "LOAD_BALANCER" or "QUEUE"; another one replaces the endpoint.
        image: linux/amd64, with its digest.
        args: the image's CMD, as one shell-quoted text.
        disk: container disk in GB.
        env: environment variables; texts only.
        ports: such as ["8000/http"]; a load balancer needs its own there.
        workers: {"min", "max", "idleTimeout" in seconds}.
        scaling: {"type": "REQUEST_COUNT", "requestCount"} or {"type": "QUEUE_DELAY", "queueDelay"} (seconds).
        gpu: {"pools", "excludedTypes", "count", "minCudaVersion" or "allowedCudaVersions"}.
        cpu: [{"id", "vcpuCount"}] in the place of `gpu`; changing between the two replaces the endpoint.
        data_center_ids: where it may run; anywhere if empty.
        network_volumes: ids, one for each data center.
        registry: id of a registry credential; an ECR delegation needs none.
        flashboot: "OFF", "FLASHBOOT" or "PRIORITY_FLASHBOOT".
        timeout: of one request, in milliseconds.
    """

    url: Output[str]
    """Where requests go."""
    health: Output[str]
    """Where its health is asked."""

    def __init__(
        self,
        resource_name: str,
        *,
        api_url: Input[str],
        marker: Input[str],
        name: Input[str],
        type: Input[str],  # noqa: A002  # the API's word
        image: Input[str],
        args: Input[str],
        disk: Input[int],
        env: Input[Mapping[str, Input[str]]],
        ports: Input[Sequence[Input[str]]],
        workers: Input[Mapping[str, Input[int]]],
        scaling: Input[Mapping[str, Any]],
        gpu: Input[Mapping[str, Any]] | None = None,
        cpu: Input[Sequence[Mapping[str, Any]]] | None = None,
        data_center_ids: Input[Sequence[Input[str]]] = (),
        network_volumes: Input[Sequence[Input[str]]] = (),
        registry: Input[str] | None = None,
        flashboot: Input[str] = "OFF",
        timeout: Input[int] = 300_000,
        opts: ResourceOptions | None = None,
    ) -> None:
        properties = {
            "apiUrl": api_url,
            "marker": marker,
            "name": name,
            "type": type,
            "image": image,
            "args": args,
            "disk": disk,
            "env": env,
            "ports": ports,
            "workers": workers,
            "scaling": scaling,
            "gpu": gpu,
            "cpu": cpu,
            "dataCenterIds": data_center_ids,
            "networkVolumes": network_volumes,
            "registry": registry,
            "flashboot": flashboot,
            "timeout": timeout,
            "url": None,
            "health": None,
        }
        opts = ResourceOptions.merge(DEFAULT_OPTIONS, opts)
        super().__init__(EndpointProvider(), resource_name, properties, opts)


class EcrDelegation(Resource, module="runpod", name="EcrDelegation"):
    """RunPod's right to pull from one ECR repository, whose policy must allow it already.

    Args:
        resource_name: the logical name.
        api_url: base URL of REST v2.
        marker: a `Marker`'s value; it is the delegation's name, by which it is found again.
        repository_arn: the repository; another one replaces the delegation.
    """

    def __init__(
        self,
        resource_name: str,
        *,
        api_url: Input[str],
        marker: Input[str],
        repository_arn: Input[str],
        opts: ResourceOptions | None = None,
    ) -> None:
        properties = {"apiUrl": api_url, "marker": marker, "resource": repository_arn}
        opts = ResourceOptions.merge(DEFAULT_OPTIONS, opts)
        super().__init__(EcrDelegationProvider(), resource_name, properties, opts)


class Marker(Resource, module="runpod", name="Marker"):
    """Says whose an object at RunPod is, where names are not unique and creation cannot be repeated safely.

    Args:
        resource_name: the logical name.
        api_url: base URL of REST v2.
        owner: "<project>/<stack>/<resource>", for people who find the object in the console.
    """

    value: Output[str]
    """The owner and a unique part."""

    def __init__(
        self, resource_name: str, *, api_url: Input[str], owner: str, opts: ResourceOptions | None = None
    ) -> None:
        properties = {"apiUrl": api_url, "owner": owner, "value": None}
        opts = ResourceOptions.merge(DEFAULT_OPTIONS, opts)
        super().__init__(MarkerProvider(), resource_name, properties, opts)
