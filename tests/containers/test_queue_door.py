"""The image's queue door as the sandbox runs it: from the image's files, with the project's own Python."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from sandbox.containers import Container
from tests.containers.conftest import PROJECT, free_port
from tests.image.job_platform import Platform

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox.images import ImageStore


def test_a_worker_does_its_jobs_and_drains(
    store: ImageStore, pushed: str, fake_vllm: Path, address: str, tmp_path: Path
) -> None:
    engine = PROJECT / "tests/image/fake_engine.py"
    (fake_vllm / "vllm").write_text(f'#!/bin/sh\nexec "{sys.executable}" "{engine}" "$@"\n')
    platform = Platform()
    environment = {**platform.environment, "BERTH_DOOR": "queue", "PORT": str(free_port(address))}
    container = Container.start(
        store.pull(pushed),
        name="worker",
        directory=tmp_path / "worker",
        address=address,
        log_path=tmp_path / "log",
        args=["m", "--shutdown-timeout", "10"],
        env=environment,
    )
    try:
        assert platform.run({"prompt": "ahoy"}).output()["response"] == "ahoy"
        assert container.stop(20) == 0
        assert "drained with 0 running" in container.log_path.read_text()
    finally:
        container.kill()
        platform.close()
