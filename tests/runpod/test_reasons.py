# ruff: noqa: E501  # a table reads better than its lines broken
"""What RunPod refuses is told with the setting that caused it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from infra.runpod.api import NotFoundError, RunpodError, ValidationError
from infra.runpod.provider import EndpointProvider
from infra.runpod.reasons import naming_settings
from infra.runpod.volume import NetworkVolumeProvider
from tests.runpod.conftest import IMAGE, Platform, body
from tests.runpod.small_engine import short_waits

if TYPE_CHECKING:
    from collections.abc import Iterator

MARKER = "berth/dev/runpod/0123456789abcdef"
ENDPOINT = {"disk": 20, "timeout": 330_000, "flashboot": "OFF"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    from tests.runpod.small_engine import platform_in

    with pytest.MonkeyPatch.context() as patch:
        short_waits(patch)
        for platform in platform_in(tmp_path_factory.mktemp("runpod")):
            platform.delegate()
            yield platform


@pytest.mark.parametrize(
    ("changes", "setting"),
    [
        ({"gpu": {"pools": ["L4"], "count": 1}}, "runpod.gpu_pools"),
        ({"gpu": {"pools": ["ADA_24"], "count": 1, "excludedTypes": ["NVIDIA L4"]}}, "runpod.excluded_gpu_types"),
        ({"dataCenterIds": ["MOON-1"]}, "runpod.data_center_ids"),
        ({"gpu": {"pools": ["HOPPER_141"], "count": 1}, "dataCenterIds": ["US-TX-1"]}, "runpod.gpu_pools, berth:runpod.data_center_ids"),
        ({"workers": {"min": 0, "max": 99, "idleTimeout": 60}}, "runpod.workers_max"),
        ({"image": IMAGE[:-1] + "f"}, "image"),
        ({"networkVolumes": ["gone"]}, "runpod.volumes"),
        ({"registry": "gone"}, "runpod.registry_username"),
        ({"args": "'"}, "serving.extra_args"),
    ],
)  # fmt: skip
def test_the_platform_s_refusals_name_the_setting(
    shared: Platform, changes: dict[str, Any], setting: str
) -> None:
    props = {"apiUrl": shared.cloud.endpoint, "marker": MARKER, **body(**ENDPOINT), **changes}
    with pytest.raises(RunpodError) as caught:
        EndpointProvider().create(props)
    assert str(caught.value).endswith(f" See berth:{setting} in stacks/Pulumi.dev.yaml.")


def test_a_volume_s_refusals_name_the_volumes(shared: Platform) -> None:
    volume = {"name": "llm", "size": 20, "dataCenter": "US-GA-1", "type": "STANDARD"}
    props = {"apiUrl": shared.cloud.endpoint, "marker": MARKER, **volume}
    with pytest.raises(
        RunpodError, match=r"valid are .*See berth:runpod.volumes in stacks/Pulumi.dev.yaml\."
    ):
        NetworkVolumeProvider().create(props)


@pytest.mark.parametrize(
    ("field", "setting"),
    [
        ("$.gpu.pools: must not be empty", "runpod.gpu_pools"),
        ("$.gpu.count: must be 1 or more", "runpod.gpu_count"),
        ("$.gpu.minCudaVersion: does not match", "runpod.min_cuda_version"),
        ("$.gpu.allowedCudaVersions[0]: does not match", "runpod.allowed_cuda_versions"),
        ("$.workers.min: must be 0 or more", "runpod.workers_min"),
        ("$.workers: property 'idleTimeout' is not supported", "runpod.idle_timeout_seconds"),
        ("$.scaling.requestCount: must be 1 or more", "runpod.request_count"),
        ("$.scaling.queueDelay: must be 0.5 or more", "runpod.queue_delay_seconds"),
        ("$.scaling.type: must be 'REQUEST_COUNT'", "runpod.endpoint_type"),
        ("$.disk: must be 1 or more", "runpod.disk_gib"),
        ("$.timeout: must be an integer", "runpod.timeout_ms"),
        ("$.flashboot: not one of the values", "runpod.flashboot"),
        ("$.env.A: must be a string", "serving.environment"),
    ],
)
def test_fields_of_the_schema_have_a_setting(field: str, setting: str) -> None:
    with pytest.raises(ValidationError, match=rf"See berth:{setting} in stacks/Pulumi.prod.yaml\.$"):
        _refuse(ValidationError, "Request validation failed.", field)


def test_what_no_setting_decides_is_told_as_it_is() -> None:
    with pytest.raises(NotFoundError) as caught:
        _refuse(NotFoundError, "endpoint 'abc' does not exist")
    assert str(caught.value) == "RunPod: cannot update it: endpoint 'abc' does not exist."


def _refuse(kind: type[RunpodError], detail: str, *errors: str) -> None:
    with naming_settings("berth/prod/runpod/0123"):
        raise kind("update it", detail=detail, errors=errors)
