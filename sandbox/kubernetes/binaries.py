"""Puts the control plane's programs into the user's cache: a release if there is one, else built from source.

`build/go.mod` is the only place that names versions: the Kubernetes release, and the etcd version that this
release is tested with. `build/go.sum` pins the contents of everything that a build uses.
"""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from sandbox import cache
from sandbox.kubernetes import release, source

if TYPE_CHECKING:
    from collections.abc import Callable

PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")
_BUILD = Path(__file__).with_name("build")


class BinariesError(RuntimeError):
    """The programs can be neither downloaded nor built; the message says why."""


def version() -> str:
    """Return the Kubernetes version, as "v1.35.4"."""
    return _pinned("k8s.io/kubernetes")


def etcd_version() -> str:
    """Return the etcd version, as "v3.6.6"."""
    return _pinned("go.etcd.io/etcd/server/v3")


def directory() -> Path:
    """Return the folder that holds the programs once `ensure` has been there."""
    return cache.directory() / f"kubernetes-{version()}"


def needed_gib() -> float:
    """Return the disk space in GiB that `ensure` may need in the cache: 0 when the programs are there.

    It is what a build needs: whether a release can be downloaded instead is only known by trying.
    """
    return 0.0 if directory().exists() else source.NEEDED_GIB


def ensure(report: Callable[[str], None]) -> Path:
    """Make sure that the programs are in the cache; return their folder.

    Safe to call from several processes at once: one does the work, the others wait for it. A download or
    build that was interrupted goes on where it stopped.

    Args:
        report: called with one line whenever there is progress to tell.

    Raises:
        BinariesError: no release can be downloaded and the build failed.
    """
    done = directory()
    if done.exists():
        return done
    done.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(done.with_name(f"{done.name}.lock")):
        if done.exists():
            return done
        started = time.monotonic()
        work = done.with_name(f"{done.name}.partial")
        work.mkdir(exist_ok=True)
        try:
            try:
                release.download(work, PROGRAMS, version(), etcd_version(), report)
            except release.NotAvailableError as error:
                report(
                    f"no Kubernetes release can be downloaded ({error}): building {version()} from its source"
                )
                source.build(_BUILD, work, version(), report)
        except (release.ReleaseError, source.BuildError) as error:
            raise BinariesError(str(error)) from error
        size = sum((work / program).stat().st_size for program in PROGRAMS)
        work.rename(done)
        report(
            f"Kubernetes {version()} is ready in {done}: {size / 1e6:.0f} MB, "
            f"{time.monotonic() - started:.0f} s"
        )
    return done


def _pinned(module: str) -> str:
    match = re.search(
        rf"^\s*(?:require )?{re.escape(module)} (v\S+)", (_BUILD / "go.mod").read_text(), re.MULTILINE
    )
    if match is None:
        raise BinariesError(f"{_BUILD / 'go.mod'} names no version of {module}")
    return match[1]
