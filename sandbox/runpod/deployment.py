"""What the workers of one release run, as the endpoint's document says it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sandbox.runpod import catalogue

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sandbox.runpod.limits import Limits


@dataclass(frozen=True)
class Deployment:
    """One release.

    Args:
        version: the release's number.
        image, args, env: the container's.
        port: where it takes requests, if it is a load balancer's.
        health_port, health_path: where a load balancer's says whether it can: 200 yes, 204 not yet. The
            port is None for a queue's, which can once it asks for a job.
        init_seconds: how long "not yet" is borne.
        gpu_type, gpu_count: what the worker claims to have.
    """

    version: int
    image: str
    args: tuple[str, ...] | None
    env: Mapping[str, str] = field(repr=False)
    port: int
    health_port: int | None
    health_path: str
    init_seconds: float
    gpu_type: str | None
    gpu_count: int

    @classmethod
    def of(cls, endpoint: dict[str, Any], version: int, limits: Limits) -> Deployment:
        """Return the newest release of an endpoint."""
        env = endpoint["env"]
        port = _number(env.get("PORT"), 80)
        gpu = endpoint.get("gpu")
        return cls(
            version=version,
            image=endpoint["image"],
            args=tuple(shlex.split(endpoint["args"])) or None,
            env=env,
            port=port,
            health_port=_number(env.get("PORT_HEALTH"), port)
            if endpoint["type"] == "LOAD_BALANCER"
            else None,
            health_path=env.get("HEALTH_CHECK_PATH", "/ping"),
            init_seconds=_number(env.get("RUNPOD_INIT_TIMEOUT"), limits.init_seconds),
            gpu_type=_gpu_type(gpu) if gpu else None,
            gpu_count=gpu["count"] if gpu else 0,
        )


def _gpu_type(gpu: dict[str, Any]) -> str:
    excluded = gpu.get("excludedTypes", ())
    return next(name for pool in gpu["pools"] for name in catalogue.types_of(pool) if name not in excluded)


def _number(text: str | None, default: float) -> int:
    """Read a variable of the endpoint; what is no number is as if it were not set."""
    return int(text) if text is not None and text.isdecimal() else int(default)
