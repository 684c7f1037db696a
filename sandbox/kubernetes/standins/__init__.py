"""Programs of ours that play third-party images, which the sandbox cannot pull.

A stand-in has the original's file layout as far as a pod's `command` may name it, takes the original's
arguments, and does what a deployment relies on, by the same APIs and rights. An image of another repository
is not played: it stays ImagePullBackOff.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sandbox.images import Image, Reference, sha256

if TYPE_CHECKING:
    from collections.abc import Mapping

_PROJECT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class StandIn:
    """What plays an image.

    Args:
        module: the Python module that is run.
        program: where the original's program is in its image.
        entrypoint, cmd, workdir, user: the original's.
    """

    module: str
    program: str
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    workdir: str = "/"
    user: str = ""


REPOSITORIES: Mapping[str, StandIn] = {
    "nvcr.io/nvidia/k8s-device-plugin": StandIn(
        module="sandbox.kubernetes.standins.device_plugin",
        program="/usr/bin/nvidia-device-plugin",
        entrypoint=("nvidia-device-plugin",),
    ),
    "registry.k8s.io/autoscaling/cluster-autoscaler": StandIn(
        module="sandbox.kubernetes.standins.cluster_autoscaler",
        program="/cluster-autoscaler",
        cmd=("/cluster-autoscaler",),
        user="65532:65532",
    ),
}


def find(reference: str) -> StandIn | None:
    """Return what plays an image, by its repository, whatever its tag or digest.

    Raises:
        ImageError: it is not an image's name.
    """
    parsed = Reference.parse(reference)
    return REPOSITORIES.get(f"{parsed.host}/{parsed.repository}")


def unpack(reference: str, stand_in: StandIn, directory: Path) -> Image:
    """Make a stand-in's files; return it in the form of a pulled image.

    Args:
        reference: the original's name.
        stand_in: what plays it.
        directory: where stand-ins have their files.
    """
    rootfs = directory / stand_in.module.rpartition(".")[2]
    program = rootfs / stand_in.program.lstrip("/")
    program.parent.mkdir(parents=True, exist_ok=True)
    # The interpreter of the sandbox, not the one of a container, which has vLLM's packages.
    script = (
        "#!/bin/sh\n"
        f'PYTHONPATH="{_PROJECT}${{PYTHONPATH:+:$PYTHONPATH}}" '
        f'exec "{sys.executable}" -m {stand_in.module} "$@"\n'
    )
    unfinished = program.with_name(f"{program.name}.partial")
    unfinished.write_text(script)
    unfinished.chmod(0o755)
    unfinished.replace(program)
    version = Reference.parse(reference).version
    return Image(
        reference=reference,
        digest=version if version.startswith("sha256:") else sha256(reference.encode()),
        rootfs=rootfs,
        entrypoint=stand_in.entrypoint,
        cmd=stand_in.cmd,
        env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
        user=stand_in.user,
        workdir=stand_in.workdir,
        ports=(),
        labels={},
    )
