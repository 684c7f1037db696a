"""Every operation of REST v2 that the platform serves against RunPod's own OpenAPI document, by schemathesis.

`contract/rest-v2.json` is that document of August 2026 with its names, types, bounds and choices, and without
its sentences.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import schemathesis
from hypothesis import HealthCheck, seed, settings
from schemathesis import GenerationMode
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import negative_data_rejection

from tests.runpod.conftest import IMAGE, KEY, REPOSITORY_ARN, body, start_platform, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schemathesis import Case

    from tests.runpod.conftest import Platform

SEED = 20260818
CONFIG = SchemathesisConfig.from_dict(
    {
        "generation": {
            # Every request carries the key; that none is served without it is a check of its own.
            "with-security-parameters": False,
        },
        "checks": {
            # 400 is for rules between fields, which the document has in words only.
            "positive_data_acceptance": {
                "expected-statuses": ["2xx", "400", "401", "403", "404", "409", "5xx"]
            },
        },
    }
)
DOCUMENT = json.loads(Path(__file__).with_name("contract").joinpath("rest-v2.json").read_text())
for template in ("cancel", "retry", "status", "stream"):
    # The document says URI, and its own examples end in {job_id}, which none may.
    del DOCUMENT["components"]["schemas"]["QueueBasedRequestUrls"]["properties"][template]["format"]
# The document says a string of the whole stream, and in words what each of its events has.
LOGS = DOCUMENT["paths"]["/v2/serverless/{id}/workers/{workerId}/logs"]["get"]
LOGS["responses"]["200"]["content"]["text/event-stream"]["schema"] = {
    "type": "object",
    "required": ["id", "data"],
    "properties": {
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {
                "type": "object",
                "required": ["source", "line", "ts"],
                "properties": {
                    "source": {"$ref": "#/components/schemas/LogSource"},
                    "line": {"type": "string"},
                    "ts": {"type": "string", "format": "date-time"},
                },
            },
        }
    },
}
CONTRACT = schemathesis.openapi.from_dict(DOCUMENT, config=CONFIG)
CREATED_BY: dict[str, tuple[str, dict[str, Any]]] = {
    "/v2/serverless": ("/serverless", body()),
    "/v2/network-volumes": ("/network-volumes", {"name": "weights", "size": 10, "dataCenter": "EU-RO-1"}),
    "/v2/registries/delegations": ("/registries/delegations", {"resource": REPOSITORY_ARN}),
    "/v2/registries": ("/registries", {"name": "ours", "username": "AWS", "password": "token"}),
}
KNOWN: dict[str, Any] = {
    "dataCenter": "EU-RO-1",
    "resource": REPOSITORY_ARN,
    "image": IMAGE,
    "args": "model",
    "dataCenterIds": [],
    "networkVolumes": [],
}
KNOWN_GPU = {"pools": ["AMPERE_24"]}
CATALOGUE_IDS = {"gpus": "NVIDIA L4", "cpus": "cpu5c", "datacenters": "EU-RO-1"}


class Account:
    """An account with one of everything, made again when a request has deleted it."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.tried: set[str] = set()
        self.succeeded: set[str] = set()
        self._ids: dict[str, str] = {}
        platform.delegate()
        running = platform.create(workers={"min": 1, "max": 1})
        self.running_id = running["id"]
        wait_until(lambda: platform.states(running) == ["IDLE"], "a worker is ready")
        # A log that ends: that of a worker which is gone.
        endpoint = platform.create(env={"PORT": "8000", "PORT_HEALTH": "8001"})
        assert platform.edge(endpoint).get("/v1/models").status_code == 200
        (worker_id,) = (worker["id"] for worker in platform.workers(endpoint))
        platform.api.patch(f"/serverless/{endpoint['id']}", json={"workers": {"max": 0}})
        wait_until(lambda: not platform.workers(endpoint), "the worker is gone")
        self.logged = {"id": endpoint["id"], "workerId": worker_id}

    def id_for(self, path: str) -> str:
        """Return the id of something that is there and that a path of the document is about."""
        if path.startswith("/v2/catalog"):
            return CATALOGUE_IDS[path.split("/")[3]]
        collection = next(key for key in CREATED_BY if path.startswith(f"{key}/{{id}}"))
        url, document = CREATED_BY[collection]
        listed = next(iter(self.platform.api.get(url).json().values()))
        if self._ids.get(collection) not in [item["id"] for item in listed]:
            response = self.platform.api.post(url, json=document)
            assert response.status_code == 201, response.text
            self._ids[collection] = response.json()["id"]
        return self._ids[collection]

    def make_room(self) -> None:
        """Delete the endpoints that requests have made: the quota of workers is small."""
        for endpoint in self.platform.api.get("/serverless").json()["endpoints"]:
            kept = (self.running_id, self.logged["id"], self._ids.get("/v2/serverless"))
            if endpoint["id"] not in kept:
                self.platform.api.delete(f"/serverless/{endpoint['id']}")


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    print(f"seed {SEED}")
    platform = start_platform(tmp_path_factory.mktemp("contract"), wait_seconds=10.0)
    account = Account(platform)
    yield account
    platform.cloud.stop()
    # What is only ever refused is not tested.
    assert account.tried == account.succeeded


@CONTRACT.parametrize()
@seed(SEED)
@settings(
    max_examples=12,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
def test_every_operation_is_as_the_document_says(case: Case[Any], account: Account) -> None:
    """As generated, which is mostly about what does not exist; then about what does."""
    _check(case, account)
    account.make_room()
    _turn_to_what_is_there(case, account)
    _check(case, account)


def _check(case: Case[Any], account: Account) -> None:
    # Parameters that the platform does not know are ignored, as by the real one; and in a query an empty
    # list, which is allowed, looks the same as no list, which is not.
    known = {parameter.name for parameter in case.operation.query}
    lenient = any(name not in known or not value or value == [""] for name, value in case.query.items())
    response = case.call_and_validate(
        base_url=account.platform.cloud.base_url,
        headers={"Authorization": f"Bearer {KEY}"},
        excluded_checks=[negative_data_rejection] if lenient else [],
        timeout=20,
    )
    account.tried.add(case.operation.label)
    if response.status_code < 300:
        account.succeeded.add(case.operation.label)


def _turn_to_what_is_there(case: Case[Any], account: Account) -> None:
    """Give a case ids that exist, and what a body can only name if it exists; what is invalid stays so."""
    if "workerId" in case.path_parameters:
        case.path_parameters = account.logged
    elif case.path.endswith(("/workers", "/releases")):
        case.path_parameters = {"id": account.running_id}
    elif "id" in case.path_parameters:
        case.path_parameters = {"id": account.id_for(case.path)}
    if isinstance(case.body, dict):
        sent: dict[str, Any] = {
            key: KNOWN[key] if key in KNOWN and _is_text(value) else value for key, value in case.body.items()
        }
        if case.path.startswith("/v2/serverless"):
            positive = case.meta is None or case.meta.generation.mode is GenerationMode.POSITIVE
            sent = _deployable(sent, is_new=case.path == "/v2/serverless", is_valid=positive)
        case.body = sent


def _is_text(value: Any) -> bool:
    """Say whether a value is text, or a list of it, with something in it."""
    items = value if isinstance(value, list) else [value]
    return all(isinstance(item, str) for item in items) and bool(value)


def _deployable(generated: dict[str, Any], *, is_new: bool, is_valid: bool) -> dict[str, Any]:
    """Return the body of an endpoint without what contradicts the account or the rest of the body.

    Args:
        generated: with one or more fields that are invalid, unless `is_valid`.
        is_new: whether it is to create an endpoint.
        is_valid: whether every field is valid.
    """
    sent = {
        key: value
        for key, value in generated.items()
        if not (key in ("registry", "templateId") and _is_text(value))
        and not (key == "cpu" and _is_cpu(value))
    }
    if is_new and "cpu" not in sent:
        sent.setdefault("gpu", KNOWN_GPU)
    if is_new or "image" in sent:
        sent["image"] = IMAGE if isinstance(sent.get("image", ""), str) else sent["image"]
    if is_valid:
        account_has = {"gpu": KNOWN_GPU, "workers": {"min": 0, "max": 1}}
        return {**sent, **{key: value for key, value in account_has.items() if key in sent}}
    if isinstance(sent.get("gpu"), dict) and _is_text(sent["gpu"].get("pools")):
        sent["gpu"] = {**sent["gpu"], **KNOWN_GPU}
    return sent


def _is_cpu(value: Any) -> bool:
    return (
        isinstance(value, list)
        and all(
            isinstance(item, dict)
            and set(item) == {"id", "vcpuCount"}
            and _is_text(item["id"])
            and type(item["vcpuCount"]) is int
            and item["vcpuCount"] >= 2
            for item in value
        )
        and len(value) == 1
    )
