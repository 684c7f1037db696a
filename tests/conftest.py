"""What must be so before any test module is imported."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lanes import Lanes
    from tests.sandbox_aws.support import Sandbox

# gRPC reads it when it is first imported, which a test may do before `sandbox.engine` sets it: processes that
# an engine starts would now and then end in a segmentation fault before their program runs.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files: one that is begun last keeps a single worker busy at the end."""
    items.sort(key=lambda item: item.get_closest_marker("e2e") is None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Lanes | None:
    """Hold stacks to two workers, however many there are."""
    from tests.lanes import Lanes

    return Lanes(config, log) if config.getoption("dist") == "loadfile" else None


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """The sandbox's AWS, one for all tests of a process that leave each other's things alone."""
    from tests.sandbox_aws.support import Sandbox

    directory = tmp_path_factory.mktemp("aws") / "state"
    directory.mkdir()
    running = Sandbox(directory).start()
    yield running
    running.stop()
