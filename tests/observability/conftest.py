"""Fixtures: the settings under test, the rules that they make, and the real promtool."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from infra import serving
from infra.eks import rules
from infra.settings import MonitoringSettings, Settings, load
from sandbox import promtool
from tests.infra.graph import ROOT
from tests.observability.promtool import Promtool
from tests.observability.record import SERVED_NAME
from tests.observability.recorded import Scrape, scrapes

if TYPE_CHECKING:
    from pathlib import Path

    from infra.serving import ServingSpec


@pytest.fixture(scope="session")
def settings() -> Settings:
    return load(ROOT / "stacks" / "Pulumi.prod.yaml")


@pytest.fixture(scope="session")
def spec(settings: Settings) -> ServingSpec:
    return replace(serving.spec(settings), served_name=SERVED_NAME)


@pytest.fixture(scope="session")
def monitoring() -> MonitoringSettings:
    """Thresholds that the recorded load is above: its server takes two requests at a time."""
    return MonitoringSettings(alert_waiting_requests=5, alert_time_to_first_token_seconds=2.0)


@pytest.fixture(scope="session")
def target() -> rules.Target:
    return rules.Target(namespace="berth", deployment="model", model_name=SERVED_NAME)


@pytest.fixture(scope="session")
def recordings() -> list[Scrape]:
    return scrapes()


@pytest.fixture(scope="session")
def groups(target: rules.Target, monitoring: MonitoringSettings, spec: ServingSpec) -> list[dict[str, Any]]:
    return rules.groups(target, settings=monitoring, serving=spec)


@pytest.fixture
def tool(groups: list[dict[str, Any]], tmp_path: Path) -> Promtool:
    return Promtool(promtool.ensure(print), tmp_path, groups)
