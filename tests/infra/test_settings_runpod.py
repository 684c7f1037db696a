# ruff: noqa: E501  # a table reads better than its lines broken
"""The section `runpod`: both types of endpoints, and every combination that RunPod would refuse."""

from __future__ import annotations

from typing import Any

import pytest

from tests.infra.graph import configuration
from tests.infra.stack_files import FILE, loaded, problems

DIGEST = "registry.example.com/team/vllm@sha256:" + "b" * 64
QUEUE = {"endpoint_type": "QUEUE", "request_count": None, "idle_timeout_seconds": None}
VOLUME = {"data_center_id": "EU-RO-1", "size_gib": 50}


def _config(**changes: Any) -> dict[str, Any]:
    """Return dev's configuration with changes to its section `runpod`; None takes a setting out."""
    config = configuration("dev")
    section = {**config["berth:runpod"], **changes}
    config["berth:runpod"] = {key: value for key, value in section.items() if value is not None}
    return config


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"endpoint_type": "LB"}, 'endpoint_type = "LB": must be one of LOAD_BALANCER, QUEUE'),
        ({"request_count": None}, 'request_count is missing: endpoint_type "LOAD_BALANCER" scales by it'),
        ({"queue_delay_seconds": 4}, 'queue_delay_seconds goes with endpoint_type "QUEUE" only'),
        ({**QUEUE}, 'queue_delay_seconds or request_count: endpoint_type "QUEUE" scales by exactly one'),
        ({**QUEUE, "request_count": 4, "queue_delay_seconds": 4}, "scales by exactly one of them"),
        ({**QUEUE, "queue_delay_seconds": 0.4}, "queue_delay_seconds = 0.4: must be a number of seconds, 0.5 or more"),
        ({"endpoint_type": "QUEUE", "idle_timeout_seconds": 60}, "idle_timeout_seconds does not go with request_count"),
        ({"idle_timeout_seconds": 3601}, "= 3601: must be a whole number of seconds, 1 to 3600"),
        ({"min_cuda_version": "12.8", "allowed_cuda_versions": ["13.0"]}, "min_cuda_version and allowed_cuda_versions exclude each other"),
        ({"allowed_cuda_versions": ["13"]}, 'allowed_cuda_versions[0] = "13": must be a list of CUDA versions'),
        ({"excluded_gpu_types": ["NVIDIA L4", "NVIDIA L4"]}, "excluded_gpu_types has NVIDIA L4 more than once"),
        ({"gpu_pools": ["ADA_24", "ADA_24"]}, "gpu_pools has ADA_24 more than once"),
        ({"timeout_ms": 4999}, "timeout_ms = 4999: must be a whole number of milliseconds, 5000 to 604800000"),
        ({"volumes": [{**VOLUME, "size_gib": 9}]}, "volumes[0].size_gib = 9: must be a whole number of GiB, 10 to 4096"),
        ({"volumes": [{"size_gib": 10}]}, "volumes[0].data_center_id is missing: must be a data center of RunPod's"),
        ({"volumes": [{**VOLUME, "typ": "STANDARD"}]}, "volumes[0].typ: unknown key; did you mean type?"),
        ({"volumes": [{**VOLUME, "type": "FAST"}]}, 'volumes[0].type = "FAST": must be one of STANDARD, HIGH_PERFORMANCE'),
        ({"volumes": "EU-RO-1"}, 'volumes = "EU-RO-1": must be a list of volumes, one for each data center'),
        ({"volumes": [VOLUME, VOLUME]}, 'volumes[1].data_center_id = "EU-RO-1" has a volume already'),
        ({"volumes": [VOLUME], "data_center_ids": ["US-KS-2"]}, 'volumes[0].data_center_id = "EU-RO-1" must be one of data_center_ids (US-KS-2)'),
        ({"registry_username": ""}, 'registry_username = "": must be a name at the image\'s registry'),
        ({"registry_username": "me"}, 'registry_username: goes with image.builder "prebuilt" only'),
    ],
)  # fmt: skip
def test_what_runpod_would_refuse_is_refused_here(changes: dict[str, Any], said: str) -> None:
    found = problems(_config(**changes))
    assert any(problem.startswith(f"{FILE}: berth:runpod.") and said in problem for problem in found), found


def test_a_queue_scales_by_delay_or_by_requests() -> None:
    by_delay = loaded(_config(**QUEUE, queue_delay_seconds=4)).require_runpod()
    assert (by_delay.queue_delay_seconds, by_delay.idle_timeout_seconds) == (4.0, 60)
    assert not by_delay.scales_without_idle_timeout
    by_requests = loaded(_config(**{**QUEUE, "request_count": 4})).require_runpod()
    assert by_requests.scales_without_idle_timeout


def test_workers_go_where_the_volumes_are() -> None:
    two = [VOLUME, {**VOLUME, "data_center_id": "US-KS-2", "type": "HIGH_PERFORMANCE"}]
    assert loaded(_config(volumes=two)).require_runpod().placement == ("EU-RO-1", "US-KS-2")
    wider = ["EU-RO-1", "US-KS-2", "EU-SE-1"]
    assert loaded(_config(volumes=two, data_center_ids=wider)).require_runpod().placement == tuple(wider)


def test_a_credential_is_a_name_and_a_secret() -> None:
    config = _config(registry_username="me") | {
        "berth:image": {"builder": "prebuilt", "reference": DIGEST},
        "berth:registryPassword": "the-password",
    }
    assert loaded(config).require_runpod().registry_username == "me"
    assert "the-password" not in repr(loaded(config))
    del config["berth:registryPassword"]
    (problem,) = problems(config)
    assert problem.startswith(f"{FILE}: berth:registryPassword is missing: runpod.registry_username needs it")
    (problem,) = problems(configuration("dev") | {"berth:registryPassword": "the-password"})
    assert "berth:runpod.registry_username is missing: the secret registryPassword is of that name" in problem
    assert "the-password" not in problem


def test_what_is_kept_on_the_volume_is_not_put_elsewhere() -> None:
    config = _config(volumes=[VOLUME])
    config["berth:serving"]["environment"] = {"HF_HOME": "/tmp"}
    (problem,) = problems(config)
    assert "berth:serving.environment.HF_HOME: runpod.volumes decides it" in problem
    assert loaded(config | {"berth:targets": ["eks"]}).serving.environment == {"HF_HOME": "/tmp"}
