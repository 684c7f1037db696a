"""Stack files with one thing changed, and what the settings say about them."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from infra import settings
from tests.infra.graph import configuration

FILE = "stacks/Pulumi.dev.yaml"
_GROUP = {"instance_types": ["g6.2xlarge", "g6.xlarge"], "capacity_type": "SPOT", "desired": 1, "max": 1}


def base(stack: str = "dev") -> dict[str, Any]:
    """Return a stack's configuration; of dev with one spot GPU, however many the file has this week."""
    config = copy.deepcopy(configuration(stack))
    if stack == "dev":
        config["berth:eks"].update(
            gpu_node_groups={"gpu": dict(_GROUP)}, cluster_autoscaler=False, replicas=1, surge=False
        )
    return config


def edited(path: str, value: Any, stack: str = "dev") -> dict[str, Any]:
    """Return a stack's configuration with one value changed; `...` takes the key away."""
    config = base(stack)
    section, *keys = path.split(".")
    if not keys:
        config[f"berth:{section}"] = value
        return config
    place = config.setdefault(f"berth:{section}", {})
    for key in keys[:-1]:
        place = place.setdefault(key, {})
    if value is ...:
        del place[keys[-1]]
    else:
        place[keys[-1]] = value
    return config


def loaded(config: dict[str, Any], file: str = FILE) -> settings.Settings:
    given = {key: value if isinstance(value, str) else json.dumps(value) for key, value in config.items()}
    return settings.from_config(given, file)


def problems(config: dict[str, Any], file: str = FILE) -> tuple[str, ...]:
    with pytest.raises(settings.SettingsError) as caught:
        loaded(config, file)
    return caught.value.problems


def assert_said(path: str, value: Any, said: str) -> None:
    """Assert that a wrong value is refused in these words, each problem on one line with file and key."""
    found = problems(edited(path, value))
    assert any(said in problem for problem in found), found
    assert all(problem.startswith(f"{FILE}: berth:") for problem in found)
    assert all("\n" not in problem for problem in found)
