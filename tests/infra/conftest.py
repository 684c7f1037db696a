"""Fixtures: the program's graph for every stack file, in a preview and in an update."""

from __future__ import annotations

import functools

import pytest

from tests.infra import graph


@functools.cache
def _graph(stack: str, preview: bool) -> graph.Graph:
    return graph.run(stack, preview=preview)


@pytest.fixture(params=graph.STACKS)
def stack(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(params=[True, False], ids=["preview", "update"])
def recorded(request: pytest.FixtureRequest, stack: str) -> graph.Graph:
    return _graph(stack, request.param)


@pytest.fixture
def updated(stack: str) -> graph.Graph:
    return _graph(stack, False)
