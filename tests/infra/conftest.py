"""Fixtures: the program's graph for every stack file and variant, in a preview and in an update."""

from __future__ import annotations

import pytest

from tests.infra import graph, variants


@pytest.fixture(params=graph.ENVIRONMENTS)
def stack(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(params=[True, False], ids=["preview", "update"])
def recorded(request: pytest.FixtureRequest, stack: str) -> graph.Graph:
    return variants.recorded(stack, request.param)


@pytest.fixture
def updated(stack: str) -> graph.Graph:
    return variants.recorded(stack, False)


@pytest.fixture(params=[*graph.STACKS, *variants.VARIANTS])
def shape(request: pytest.FixtureRequest) -> str:
    """A stack file or a variant."""
    name: str = request.param
    return name


@pytest.fixture(params=[True, False], ids=["preview", "update"])
def any_graph(request: pytest.FixtureRequest, shape: str) -> graph.Graph:
    return variants.recorded(shape, request.param)
