"""REST v2 from outside: what it takes, what it refuses and in which words, what it remembers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.runpod.conftest import (
    ACCOUNT,
    IMAGE,
    OTHER_IMAGE,
    POLICY,
    REPOSITORY,
    REPOSITORY_ARN,
    Platform,
    body,
    start_platform,
    wait_until,
)

if TYPE_CHECKING:
    from pathlib import Path

CPU = [{"id": "cpu5c", "vcpuCount": 4}]
QUEUE = {"type": "QUEUE", "scaling": {"type": "QUEUE_DELAY", "queueDelay": 4}}


def _post(platform: Platform, document: Any) -> httpx.Response:
    return platform.api.post("/serverless", json=document)


@pytest.mark.parametrize(
    ("changes", "errors"),
    [
        ({"name": None}, ["$: missing property 'name'"]),
        ({"image": None}, ["$: missing property 'image'"]),
        ({"scaling": None}, ["$: missing property 'scaling'"]),
        ({"dataCenterId": "US-TX-1"}, ["$: additional properties 'dataCenterId' not allowed"]),
        ({"workersMin": 1}, ["$: additional properties 'workersMin' not allowed"]),
        ({"name": ""}, ["$.name: string should have at least 1 character"]),
        ({"type": "LB"}, ["$.type: input should be 'QUEUE' or 'LOAD_BALANCER'"]),
        ({"flashboot": True}, ["$.flashboot: input should be 'OFF', 'FLASHBOOT' or 'PRIORITY_FLASHBOOT'"]),
        ({"disk": "20"}, ["$.disk: input should be a valid integer"]),
        ({"disk": 0}, ["$.disk: input should be greater than or equal to 1"]),
        ({"env": {"PORT": 8000}}, ["$.env.PORT: input should be a valid string"]),
        ({"gpu": {"count": 1}}, ["$.gpu: missing property 'pools'"]),
        ({"gpu": {"pools": []}}, ["$.gpu.pools: list should have at least 1 item after validation, not 0"]),
        (
            {"gpu": {"pools": ["AMPERE_24"], "gpuTypeIds": []}},
            ["$.gpu: additional properties 'gpuTypeIds' not allowed"],
        ),
        (
            {"gpu": {"pools": ["AMPERE_24"], "excludedTypes": ["NVIDIA L4", "NVIDIA L4"]}},
            ["$.gpu.excludedTypes: items must be unique"],
        ),
        (
            {"workers": {"idleTimeout": 3601}},
            ["$.workers.idleTimeout: input should be less than or equal to 3600"],
        ),
        ({"scaling": {"type": "REQUEST_COUNT"}}, ["$.scaling: missing property 'requestCount'"]),
        (
            {"scaling": {"type": "QUEUE_DELAY", "queueDelay": 4}},
            ["$.scaling.type: value must be 'REQUEST_COUNT' for type 'LOAD_BALANCER'"],
        ),
        (
            {"name": None, "extra": 1, "disk": 1.5},
            [
                "$: missing property 'name'",
                "$.disk: input should be a valid integer",
                "$: additional properties 'extra' not allowed",
            ],
        ),
    ],
)
def test_a_body_that_does_not_fit_is_refused_field_by_field(
    platform: Platform, changes: dict[str, Any], errors: list[str]
) -> None:
    response = _post(platform, body(**changes))
    assert response.headers["content-type"] == "application/problem+json"
    document = response.json()
    assert sorted(document.pop("errors")) == sorted(errors)
    assert document == {
        "title": "Unprocessable Entity"
        if document["title"] != "Unprocessable Content"
        else document["title"],
        "status": 422,
        "detail": "Request validation failed.",
    }
    assert platform.api.get("/serverless").json() == {"endpoints": []}


def test_null_is_only_taken_where_the_document_says_so(platform: Platform) -> None:
    assert platform.create(registry=None)["registry"] is None
    assert _post(platform, {**body(), "registry": None}).status_code == 201
    for field in ("env", "gpu", "ports", "workers", "cpu"):
        assert _post(platform, {**body(), field: None}).status_code == 422, field


@pytest.mark.parametrize(
    ("changes", "status", "detail"),
    [
        ({"gpu": None}, 400, "exactly one of gpu and cpu must be given"),
        ({"cpu": CPU}, 400, "exactly one of gpu and cpu must be given"),
        ({"gpu": {"pools": ["NVIDIA L4"]}}, 400, "unknown GPU pool 'NVIDIA L4'"),
        (
            {"gpu": {"pools": ["AMPERE_24"], "excludedTypes": ["NVIDIA A40"]}},
            400,
            "excluded GPU type 'NVIDIA A40' is not in the pools AMPERE_24",
        ),
        (
            {"gpu": {"pools": ["AMPERE_24"], "allowedCudaVersions": ["12.8"], "minCudaVersion": "12.8"}},
            400,
            "allowedCudaVersions and minCudaVersion are mutually exclusive",
        ),
        ({"gpu": None, "cpu": [{"id": "cpu5c", "vcpuCount": 3}]}, 400, "vcpuCount 3 is not a power of two"),
        ({"workers": {"min": 2, "max": 1}}, 400, "workers.min 2 is greater than workers.max 1"),
        ({"workers": {"max": 6}}, 400, "workers.max of all endpoints would be 6"),
        ({"dataCenterIds": ["MOON-1"]}, 400, "unknown data center 'MOON-1'"),
        ({"args": "model 'unclosed"}, 400, "args cannot be split into words"),
        ({"templateId": "tpl"}, 404, "template 'tpl' not found"),
        ({"networkVolumes": ["vol"]}, 404, "network volume 'vol' not found"),
        ({"registry": "reg"}, 404, "registry 'reg' not found"),
        ({"image": f"{REPOSITORY}:none"}, 422, "manifest unknown"),
        ({"image": f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com/other:v1"}, 422, "no delegation of the ECR"),
        ({"image": "vllm/vllm-openai:v0.1"}, 422, "could not be resolved"),
        (
            {"type": "QUEUE", "workers": {"max": 1, "idleTimeout": 5}},
            422,
            "Request validation failed.",
        ),
    ],
)
def test_a_body_that_breaks_a_rule_is_refused(
    platform: Platform, changes: dict[str, Any], status: int, detail: str
) -> None:
    response = _post(platform, body(**changes))
    assert (response.status_code, response.json()["status"]) == (status, status)
    assert detail in response.json()["detail"]


def test_defaults_are_the_documents(platform: Platform) -> None:
    made = platform.create(
        env=None, ports=None, args=None, workers=None, gpu={"pools": ["ADA_24"]}, image=f"{REPOSITORY}:v1"
    )
    assert made.pop("id")
    assert made.pop("createdAt")
    assert made.pop("requestUrls")
    assert made == {
        "name": "llm",
        "type": "LOAD_BALANCER",
        "image": f"{REPOSITORY}:v1",
        "args": "",
        "disk": 20,
        "env": {},
        "ports": [],
        "registry": None,
        "gpu": {"pools": ["ADA_24"], "count": 1, "allowedCudaVersions": [], "minCudaVersion": None},
        "workers": {"min": 0, "max": 3, "idleTimeout": 10},
        "scaling": {"type": "REQUEST_COUNT", "requestCount": 4},
        "dataCenterIds": [],
        "networkVolumes": [],
        "timeout": 300000,
        "flashboot": "OFF",
    }


def test_a_queue_endpoint_has_its_own_urls_and_no_idle_timeout_by_request_count(platform: Platform) -> None:
    made = platform.create(type="QUEUE", workers={"max": 1})
    assert "idleTimeout" not in made["workers"]
    assert made["requestUrls"]["status"].endswith(f"/v2/{made['id']}/status/{{job_id}}")
    assert len(made["requestUrls"]) == 8
    assert platform.create(**QUEUE, workers={"max": 1})["workers"]["idleTimeout"] == 10


def test_names_are_not_unique_and_ids_are(platform: Platform) -> None:
    first, second = platform.create(), platform.create()
    assert first["id"] != second["id"]
    listed = platform.api.get("/serverless").json()["endpoints"]
    assert [item["id"] for item in listed] == [first["id"], second["id"]]
    assert platform.api.get(f"/serverless/{second['id']}").json() == second


def test_the_quota_counts_all_endpoints(platform: Platform) -> None:
    first = platform.create(workers={"max": 3})
    platform.create(workers={"max": 2})
    assert _post(platform, body()).status_code == 400
    url = f"/serverless/{first['id']}"
    assert platform.api.patch(url, json={"workers": {"max": 4}}).status_code == 400
    assert platform.api.patch(url, json={"workers": {"max": 2}}).status_code == 200
    assert _post(platform, body()).status_code == 201


def test_patch_changes_what_is_sent_and_only_that(platform: Platform) -> None:
    made = platform.create(
        gpu={"pools": ["AMPERE_24"], "excludedTypes": ["NVIDIA L4"], "minCudaVersion": "12.8"}
    )
    url = f"/serverless/{made['id']}"

    def patch(**change: Any) -> dict[str, Any]:
        response = platform.api.patch(url, json=change)
        assert response.status_code == 200, response.text
        changed: dict[str, Any] = response.json()
        assert platform.api.get(url).json() == changed
        return changed

    assert patch(name="other") == {**made, "name": "other"}
    assert patch(workers={"max": 2})["workers"] == {"min": 0, "max": 2, "idleTimeout": 60}
    assert patch(env={"PORT": "1"})["env"] == {"PORT": "1"}
    assert patch(gpu={"count": 2})["gpu"]["excludedTypes"] == ["NVIDIA L4"]
    assert "excludedTypes" not in patch(gpu={"pools": ["AMPERE_24"]})["gpu"]
    assert patch(gpu={"minCudaVersion": ""})["gpu"]["minCudaVersion"] is None


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"type": "QUEUE"}, 422),
        ({"gpu": {"excludedTypes": ["NVIDIA L4"]}}, 422),
        ({"cpu": CPU}, 400),
        ({"scaling": {"type": "QUEUE_DELAY", "queueDelay": 1}}, 400),
        ({"image": f"{REPOSITORY}:none"}, 422),
    ],
)
def test_patch_refuses(platform: Platform, change: dict[str, Any], status: int) -> None:
    made = platform.create()
    assert platform.api.patch(f"/serverless/{made['id']}", json=change).status_code == status
    assert platform.api.get(f"/serverless/{made['id']}").json() == made


def test_releases_are_made_by_what_runs_and_say_the_difference(platform: Platform) -> None:
    made = platform.create()
    url = f"/serverless/{made['id']}"
    platform.api.patch(url, json={"workers": {"max": 2}, "name": "other"})
    platform.api.patch(url, json={"image": OTHER_IMAGE, "args": made["args"]})
    answer = platform.api.get(f"{url}/releases").json()
    assert answer["endpointVersion"] == 2
    assert answer["rollout"] == {
        "inProgress": False,
        "workersOnLatest": 0,
        "workersTotal": 0,
        "percentOnLatest": 0,
    }
    newest, first = answer["releases"]
    assert newest["diff"] == [{"field": "template.imageName", "old": IMAGE, "new": OTHER_IMAGE}]
    assert first["diff"] == []


def test_workers_without_a_machine_or_without_health_are_listed_and_counted(tmp_path: Path) -> None:
    platform = start_platform(tmp_path, speed=10)
    try:
        platform.delegate()
        throttled = platform.create(dataCenterIds=["US-WA-1", "US-TX-3"])
        platform.worker_fault(throttled, "no_capacity")
        platform.api.patch(f"/serverless/{throttled['id']}", json={"workers": {"min": 1}})
        wait_until(lambda: platform.states(throttled) == ["THROTTLED"], "the worker waits for a machine")
        answer = platform.api.get(f"/serverless/{throttled['id']}/workers").json()
        assert (answer["summary"]["throttled"], answer["summary"]["total"]) == (1, 1)
        (worker,) = answer["workers"]
        placed = ("gpuTypeId", "dataCenterId", "uptimeSeconds", "startedAt")
        assert [worker[field] for field in placed] == [None] * 4
        # What waits for a machine costs nothing.
        assert platform.api.get("/billing/serverless").json()["records"] == []
        platform.forget_faults()
        wait_until(lambda: platform.states(throttled) == ["IDLE"], "the worker has a machine")
        (worker,) = platform.workers(throttled)
        assert (worker["gpuTypeId"], worker["dataCenterId"]) == ("NVIDIA RTX A5000", "US-TX-3")
        platform.launcher.refusal = "no such image"
        broken = platform.create(workers={"min": 1, "max": 1})
        wait_until(lambda: platform.states(broken) == ["UNHEALTHY"], "the worker has given up")
        answer = platform.api.get(f"/serverless/{broken['id']}/workers").json()
        assert (answer["summary"]["unhealthy"], answer["summary"]["total"]) == (1, 1)
        assert answer["workers"][0]["gpuTypeId"] == "NVIDIA RTX A5000"
    finally:
        platform.cloud.stop()


def test_a_roll_out_goes_on_while_a_worker_of_an_older_release_is_busy(platform: Platform) -> None:
    made = platform.create(workers={"max": 2})
    url = f"/serverless/{made['id']}"
    with platform.edge(made).stream("GET", "/stream?n=1000&every=0.01") as busy:
        assert busy.status_code == 200
        platform.api.patch(url, json={"image": OTHER_IMAGE})
        (old,) = platform.workers(made)
        assert (old["status"], old["isStale"], old["version"]) == ("RUNNING", True, 1)
        answer = platform.api.get(f"{url}/releases").json()
        assert answer["rollout"] == {
            "inProgress": True,
            "workersOnLatest": 0,
            "workersTotal": 1,
            "percentOnLatest": 0,
        }
        assert [release["workerCount"] for release in answer["releases"]] == [0, 1]
        assert platform.edge(made).get("/v1/models").status_code == 200
        rollout = platform.api.get(f"{url}/releases").json()["rollout"]
        assert (rollout["workersOnLatest"], rollout["percentOnLatest"]) == (1, 50)
    wait_until(lambda: len(platform.workers(made)) == 1, "the older worker is gone")
    rollout = platform.api.get(f"{url}/releases").json()["rollout"]
    assert (rollout["inProgress"], rollout["percentOnLatest"]) == (False, 100)


def test_a_release_says_each_setting_that_differs_by_the_platforms_name(platform: Platform) -> None:
    made = platform.create()
    url = f"/serverless/{made['id']}"
    change = {"env": {"PORT": "9000"}, "disk": 30, "gpu": {"pools": ["ADA_24"], "count": 2}, "timeout": 1000}
    assert platform.api.patch(url, json=change).status_code == 200
    newest = platform.api.get(f"{url}/releases").json()["releases"][0]
    assert newest["diff"] == [
        {"field": "template.containerDiskInGb", "old": 20, "new": 30},
        {"field": "template.env", "old": made["env"], "new": {"PORT": "9000"}},
        {"field": "gpuIds", "old": ["AMPERE_24"], "new": ["ADA_24"]},
        {"field": "gpuCount", "old": 1, "new": 2},
    ]


def test_delete_answers_204_once_and_404_then(platform: Platform) -> None:
    made = platform.create()
    response = platform.api.delete(f"/serverless/{made['id']}")
    assert (response.status_code, response.content) == (204, b"")
    for method in ("GET", "PATCH", "DELETE"):
        response = platform.api.request(method, f"/serverless/{made['id']}", json={})
        assert response.status_code == 404
        assert response.json()["detail"] == f"endpoint '{made['id']}' not found"


@pytest.mark.parametrize("header", [None, "Bearer wrong", "rpa_test_0123456789", "Basic x"])
def test_only_the_key_opens_the_api(platform: Platform, header: str | None) -> None:
    headers = {"Authorization": header} if header else {}
    response = httpx.get(f"{platform.cloud.endpoint}/serverless", headers=headers, trust_env=False)
    assert response.status_code == 401
    assert response.json()["title"] == "Unauthorized"


def test_what_is_not_json_or_no_operation_is_refused_as_a_problem(platform: Platform) -> None:
    assert platform.api.post("/serverless", content=b"{").status_code == 400
    assert platform.api.get("/endpoints").status_code == 404
    response = platform.api.put("/serverless")
    assert response.status_code == 405
    assert response.headers["content-type"] == "application/problem+json"
    assert set(response.headers["allow"].split(", ")) == {"GET", "HEAD", "POST"}
    response = platform.api.get("/serverless/a%0Ab")
    assert (response.status_code, response.headers["content-type"]) == (404, "application/problem+json")


def test_delegation_needs_the_repositorys_policy(bare_platform: Platform) -> None:
    def post(resource: str = REPOSITORY_ARN) -> httpx.Response:
        return bare_platform.api.post("/registries/delegations", json={"resource": resource, "name": "ours"})

    assert post("arn:aws:s3:::bucket").status_code == 400
    bare_platform.registry.policy_text = None
    assert post().status_code == 400
    only_one = json.dumps(POLICY).replace("prod-us-west-2", "someone-else")
    bare_platform.registry.policy_text = only_one
    assert "does not allow" in post().json()["detail"]
    bare_platform.registry.policy_text = json.dumps(POLICY)
    made = post()
    assert made.status_code == 201
    assert made.json()["repository"] == "berth/vllm"
    assert bare_platform.api.get("/registries/delegations").json() == {"delegations": [made.json()]}
    url = f"/registries/delegations/{made.json()['id']}"
    assert [bare_platform.api.delete(url).status_code for _ in range(2)] == [204, 404]
    assert "no delegation" in _post(bare_platform, body()).json()["detail"]


def test_a_restart_knows_everything_again(own_platform: Platform, tmp_path: Path) -> None:
    own_platform.delegate()
    made = own_platform.create()
    own_platform.api.patch(f"/serverless/{made['id']}", json={"image": OTHER_IMAGE})
    own_platform.cloud.stop()
    again = start_platform(tmp_path / "runpod")
    try:
        found = again.api.get(f"/serverless/{made['id']}").json()
        assert (found["image"], found["createdAt"]) == (OTHER_IMAGE, made["createdAt"])
        releases = again.api.get(f"/serverless/{made['id']}/releases").json()
        assert releases["endpointVersion"] == 2
        assert len(again.api.get("/registries/delegations").json()["delegations"]) == 1
        assert again.edge(found).get("/v1/models").status_code == 200
    finally:
        again.cloud.stop()


def test_catalogue_lists_pools(platform: Platform) -> None:
    gpus = platform.api.get("/catalog/gpus").json()["gpus"]
    assert {"NVIDIA L4", "NVIDIA H200"} <= {gpu["id"] for gpu in gpus}
    assert all(gpu["memory"] >= 16 and gpu["price"]["serverless"] > 0 for gpu in gpus)


def test_faults_ask_for_their_own_secret(platform: Platform) -> None:
    url = f"{platform.cloud.base_url}/_sandbox/faults"
    headers = {"Authorization": platform.api.headers["Authorization"]}
    assert httpx.get(url, headers=headers, trust_env=False).status_code == 401
    headers = {"x-sandbox-secret": platform.cloud.admin_secret}
    wrong = {"method": "GET", "path": "/v2/.*", "kind": "explode"}
    assert httpx.post(url, headers=headers, json=wrong, trust_env=False).status_code == 422
    platform.fault("GET", "/v2/serverless", "status", status=429, retry_after_seconds=7)
    response = platform.api.get("/serverless")
    assert (response.status_code, response.headers["retry-after"]) == (429, "7")
    assert platform.api.get("/serverless").status_code == 200
