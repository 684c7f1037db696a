"""The stack `dev` cut to this machine: no GPU machine is there until a pod waits for one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.e2e.shapes import cut

if TYPE_CHECKING:
    from tests.e2e.conftest import Clone

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def dev(clone: Clone) -> Clone:
    clone.edit(lambda config: config.update(cut(clone.root / "stacks", "dev")))
    (group,) = clone.config["berth:eks"]["gpu_node_groups"].values()
    assert group["desired"] == 0
    clone.run("up", "--stack", "local", "--yes", "--no-smoke")
    return clone


def test_the_autoscaler_brought_the_machine_that_the_model_waited_for(dev: Clone) -> None:
    (pod,) = json.loads(
        dev.kubectl("get", "pods", "-n", "berth", "-l", "app.kubernetes.io/name=model", "-o", "json")
    )["items"]
    events = json.loads(
        dev.kubectl(
            *("get", "events", "-n", "berth", "-o", "json"),
            f"--field-selector=involvedObject.name={pod['metadata']['name']},reason=TriggeredScaleUp",
        )
    )["items"]
    assert len(events) == 1
    assert dev.json("smoke", "--stack", "local")["ok"] is True


def test_a_machine_that_the_autoscaler_brought_is_no_change_to_the_stack(dev: Clone) -> None:
    for command in (["preview"], ["refresh", "--yes"], ["preview"]):
        dev.run(*command, "--stack", "local")
    steps = dev.json("preview", "--stack", "local")["steps"]
    assert [step["urn"] for step in steps if step["op"] != "same"] == []


def test_destroy_takes_the_machine_too_and_leaves_nothing(dev: Clone) -> None:
    dev.destroy()
