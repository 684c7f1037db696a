"""From RunPod's words to the setting that they are about: what a user can change is in the stack file."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

from infra.runpod.api import BadRequestError, ConflictError, NotFoundError, RunpodError, ValidationError

if TYPE_CHECKING:
    from collections.abc import Iterator

# What RunPod may name -> the settings that decide it. RunPod says fields as JSON paths ("$.gpu.pools") where
# the schema is broken, and in words where a rule of the resource is.
_SETTINGS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"no longer any instances", ("runpod.gpu_pools", "runpod.data_center_ids")),
    (r"gpu\.pools|gpu pool", ("runpod.gpu_pools",)),
    (r"excludedTypes|excluded gpu", ("runpod.excluded_gpu_types",)),
    (r"gpu\.count", ("runpod.gpu_count",)),
    (r"minCudaVersion", ("runpod.min_cuda_version",)),
    (r"allowedCudaVersions", ("runpod.allowed_cuda_versions",)),
    (r"data ?center", ("runpod.data_center_ids",)),
    (r"workers\.max|\bquota\b", ("runpod.workers_max",)),
    (r"workers\.min", ("runpod.workers_min",)),
    (r"idleTimeout", ("runpod.idle_timeout_seconds",)),
    (r"requestCount", ("runpod.request_count",)),
    (r"queueDelay", ("runpod.queue_delay_seconds",)),
    (r"scaling\.type|REQUEST_COUNT|QUEUE_DELAY", ("runpod.endpoint_type",)),
    (r"network ?volume", ("runpod.volumes",)),
    (r"\$\.registry|registry '|registry credential", ("runpod.registry_username",)),
    (r"\$\.disk|container disk", ("runpod.disk_gib",)),
    (r"\$\.timeout", ("runpod.timeout_ms",)),
    (r"\$\.flashboot", ("runpod.flashboot",)),
    (r"\$\.args|args cannot", ("serving.extra_args",)),
    (r"\$\.env", ("serving.environment",)),
    (r"\bimage\b|manifest", ("image",)),
)


@contextlib.contextmanager
def naming_settings(marker: str, setting: str | None = None) -> Iterator[None]:
    """Let refusals of RunPod name the settings that caused them, and their file.

    Args:
        marker: whose object it is, "<project>/<stack>/...".
        setting: what all of the object comes from; None where each field has its own.
    """
    try:
        yield
    except (BadRequestError, NotFoundError, ConflictError, ValidationError) as error:
        settings = [setting] if setting else _settings(error)
        if not settings:
            raise
        project, stack, *_ = f"{marker}//".split("/")
        said = ", ".join(f"{project}:{name}" for name in settings)
        raise error.with_hint(f"See {said} in stacks/Pulumi.{stack}.yaml.") from None


def _settings(error: RunpodError) -> list[str]:
    words = " ".join((error.detail, *error.errors))
    found = [
        name for pattern, names in _SETTINGS if re.search(pattern, words, re.IGNORECASE) for name in names
    ]
    return list(dict.fromkeys(found))
