from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.sandbox_aws.support import Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def own_sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    (tmp_path / "state").mkdir()
    running = Sandbox(tmp_path / "state").start()
    yield running
    running.stop()
