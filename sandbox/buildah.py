"""Builds images for real where there is no engine: buildah of Debian's packages, and what its builds need.

The sandbox's own builder (builder.py) executes no RUN lines, as it has no base image. Here they are executed,
in a chroot, on a small Debian that is made once for each machine and kept in the user's cache. It takes root
and Debian 12, whose Python is the one that the sandbox has too. Tests use it; the stack `local` does not.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from sandbox import cache

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_SUITE = "bookworm"
_PYTHON = (3, 11)
_PACKAGES = ("buildah", "mmdebstrap")
# What the base's Debian has beside the essential packages: what the official image has too.
_INCLUDED = ("python3-venv", "passwd", "libstdc++6")
_LOCKS = tuple(
    Path(__file__).resolve().parent.parent / "image" / name
    for name in ("requirements.lock", "requirements-audio.lock")
)
# Mirrors can be slow. What takes longer than this is given up: the tests that need it say so and are skipped.
_STEP_SECONDS = 240
_BUILD_SECONDS = 540


class UnavailableError(RuntimeError):
    """Images cannot be built for real on this machine; the message says why."""


@dataclass(frozen=True)
class Parts:
    """What builds need that is not made anew each time.

    Args:
        rootfs: an archive of a Debian with Python.
        wheels: a folder with the packages of the image's lock files.
    """

    rootfs: Path
    wheels: Path


def ready(report: Callable[[str], None], *, install: bool) -> Parts:
    """Return what builds need.

    Args:
        report: takes a line for each step that takes long.
        install: install and make what is missing, instead of saying so.

    Raises:
        UnavailableError: something is missing and cannot be had.
    """
    _check_machine()
    recipe = _hash(",".join((_SUITE, *_INCLUDED)).encode())
    wheels = _hash(*(path.read_bytes() for path in _LOCKS))
    parts = Parts(
        cache.directory() / f"debian-{recipe}" / "rootfs.tar",
        cache.directory() / f"image-wheels-{wheels}",
    )
    for name in _PACKAGES:
        if shutil.which(name) is None and not install:
            raise UnavailableError(f"{name} is not installed: `./berth test` without arguments installs it")
    for path in (parts.rootfs, parts.wheels):
        if not path.exists() and not install:
            raise UnavailableError(f"{path} is not made yet: `./berth test` without arguments makes it")
    if install:
        cache.directory().mkdir(parents=True, exist_ok=True)
        with FileLock(cache.directory() / "buildah.lock"):
            _install(report)
            _make(parts.rootfs, _debian, report)
            _make(parts.wheels, _download, report)
    return parts


def _hash(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()[:12]


def _check_machine() -> None:
    if os.geteuid() != 0:
        raise UnavailableError("builds in a chroot need root")
    try:
        suite = platform.freedesktop_os_release().get("VERSION_CODENAME")
    except OSError:
        suite = None
    if suite != _SUITE:
        raise UnavailableError(f"buildah is taken from the packages of Debian's {_SUITE}, which this is not")
    if sys.version_info[:2] != _PYTHON:
        raise UnavailableError("the sandbox's Python is not Debian's 3.11, whose packages the image gets")


def _install(report: Callable[[str], None]) -> None:
    missing = [name for name in _PACKAGES if shutil.which(name) is None]
    if missing:
        report(f"image builds: installing {' and '.join(missing)}")
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        _run(["apt-get", "update", "--quiet"], environment)
        _run(["apt-get", "install", "--quiet", "--yes", "--no-install-recommends", *missing], environment)


def _make(path: Path, make: Callable[[Path], None], report: Callable[[str], None]) -> None:
    """Make a file or folder whole, or not at all."""
    if path.exists():
        return
    report(f"image builds: making {path}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / path.name
        make(made)
        made.rename(path)


def _debian(archive: Path) -> None:
    _run(
        [
            *("unshare", "--mount"),  # what it mounts goes with it, should it be killed
            "mmdebstrap",
            "--quiet",
            "--variant=essential",
            f"--include={','.join(_INCLUDED)}",
            _SUITE,
            str(archive),
        ]
    )


def _download(folder: Path) -> None:
    for lock in _LOCKS:
        _run(
            [
                *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"),
                *("--require-hashes", "--dest", str(folder), "--requirement", str(lock)),
            ]
        )


def _run(argv: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
    try:
        ended = subprocess.run(
            argv, env=environment, capture_output=True, text=True, check=False, timeout=_STEP_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"`{argv[0]}` did not end within {_STEP_SECONDS} s") from None
    except OSError as error:
        raise UnavailableError(f"`{argv[0]}` cannot be started: {error.strerror}") from error
    if ended.returncode:
        last = (ended.stderr.strip() or ended.stdout.strip() or "it says nothing").splitlines()[-1]
        raise UnavailableError(f"`{argv[0]}` failed: {last}")


class Buildah:
    """The command, with a storage of its own.

    Args:
        folder: where images and containers are kept.
        volumes: what builds and containers see of this machine, read only: folders here, by folder there.
        environment: variables of the command, beside this process's.
    """

    def __init__(
        self, folder: Path, volumes: Mapping[str, Path], environment: Mapping[str, str] | None = None
    ) -> None:
        self._folder = folder
        self._volumes = [f"--volume={path}:{there}:ro" for there, path in volumes.items()]
        self._environment = {**os.environ, **(environment or {}), "BUILDAH_ISOLATION": "chroot"}
        # Overlays keep only what a layer changes; where the kernel has none for this folder, copies do.
        self._driver = "overlay"
        try:
            self("images")
        except subprocess.CalledProcessError:
            self._driver = "vfs"

    def __call__(self, *arguments: str) -> str:
        """Run a command of buildah's and return what it prints.

        Raises:
            subprocess.CalledProcessError: it failed; what it said is a note of the error.
        """
        try:
            return subprocess.run(
                self._argv(*arguments),
                env=self._environment,
                check=True,
                capture_output=True,
                text=True,
                timeout=_BUILD_SECONDS,
            ).stdout
        except subprocess.CalledProcessError as error:
            error.add_note(f"{error.stdout[-2000:]}\n{error.stderr[-4000:]}")
            raise

    def _argv(self, *arguments: str) -> list[str]:
        where = ["--root", str(self._folder / "storage"), "--runroot", str(self._folder / "run")]
        return ["buildah", "--storage-driver", self._driver, *where, *arguments]

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `buildah run`, for a command that goes on until it is ended."""
        return subprocess.Popen(
            self._argv("run", *self._volumes, *arguments),
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def build(self, context: Path, name: str, *options: str) -> str:
        """Build a folder's Dockerfile, a layer for each instruction, on images that are here.

        Returns what it says.
        """
        # Copies of the whole for each instruction would take minutes.
        layers = "--layers" if self._driver == "overlay" else "--layers=false"
        return self(
            "build",
            layers,
            "--pull-never",
            "--force-rm",
            *self._volumes,
            *options,
            "--tag",
            name,
            str(context),
        )

    def run(self, image: str, *command: str) -> str:
        """Run a command in a container of an image, and return what it prints."""
        container = self("from", "--pull-never", image).strip()
        try:
            return self("run", *self._volumes, container, "--", *command)
        finally:
            self("rm", container)

    def export(self, image: str, folder: Path) -> Path:
        """Write an image's manifest and its blobs, the layers not compressed, and return the folder."""
        self("push", "--disable-compression", image, f"dir:{folder}")
        return folder

    def close(self) -> None:
        """Delete the storage, with what builds that were broken off left mounted in it."""
        mounted = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        for point in reversed(mounted):
            if Path(point).is_relative_to(self._folder):
                subprocess.run(["umount", "--lazy", point], check=True)
        shutil.rmtree(self._folder)
