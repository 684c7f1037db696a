"""Starts each kind of model once for the tests that ask it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from sandbox import vllm
from sandbox.model import Model
from tests.models import kinds
from tests.models.served import Served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from infra.serving import ServingSpec

    Start = Callable[..., Served]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Start the model of a stack file, with settings of the model that are to be others."""
    vllm.ensure(print)
    started: list[Served] = []

    def go(stack: str, **changes: Any) -> Served:
        spec = kinds.spec(stack, **changes)
        have(spec, kinds.sections(stack)["berth:model"] | changes)
        started.append(Served(tmp_path_factory.mktemp(stack), spec))
        return started[-1]

    yield go
    with contextlib.ExitStack() as closing:
        for served in started:
            closing.callback(served.close)


def have(spec: ServingSpec, model: dict[str, Any]) -> None:
    """Have the model and its adapters where vLLM finds them, as the sandbox's clouds do."""
    adapters = {adapter["name"]: adapter["revision"] for adapter in model.get("adapters", {}).values()}
    Model(spec.model, spec.revision, model.get("task", "generate"), adapters).ensure(print)
