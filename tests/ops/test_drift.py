"""`berth drift`: what changed behind the engine's back is found, with who changes such a thing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from pulumi.automation.events import EngineEvent

from ops.drift import Moved, changes
from ops.stacks import settings_of
from tests.engine.conftest import salt
from tests.ops.conftest import Project as Copy
from tests.ops.conftest import copy_project
from tests.ops.runpod_platform import typed
from tests.runpod.test_lifecycle import VOLUME, platform, project

if TYPE_CHECKING:
    from pathlib import Path

    from tests.runpod.test_lifecycle import Project

__all__ = ["platform", "project", "salt"]


@pytest.fixture
def copied(tmp_path: Path) -> Copy:
    """A copy of the project; the fixture of this name that stands in for it elsewhere is another here."""
    return Copy(copy_project(tmp_path / "berth"))


SECRET = {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270", "ciphertext": "[secret]"}
NODE_GROUP = "aws:eks/nodeGroup:NodeGroup"


def _moved(project: Project) -> list[Moved]:
    steps = [step.json() for step in project.engine().drift().steps if step.op in ("update", "delete")]
    return [
        Moved(step["urn"], step["oldState"]["type"], step["oldState"], step.get("newState")) for step in steps
    ]


def test_what_the_stack_does_not_set_is_shown_and_is_no_drift() -> None:
    before = {"inputs": {"port": 80}, "outputs": {"port": 80, "loadBalancerArns": []}}
    after = {"inputs": {"port": 81}, "outputs": {"port": 81, "loadBalancerArns": ["arn"]}}
    group = Moved("urn::targets", "aws:lb/targetGroup:TargetGroup", before, after)
    found = {change.path: change.expected for change in changes([group], settings_of("local"))}
    assert found == {"port": False, "loadBalancerArns": True}


def test_what_changed_behind_the_engines_back_is_found_and_left_as_it_is(project: Project) -> None:
    project.want(volumes=[VOLUME])
    project.up()
    assert changes(_moved(project), settings_of("local")) == []
    api, endpoint = project.platform.api, project.endpoint()
    url = f"/serverless/{endpoint['id']}"
    api.patch(url, json={"workers": {"max": 0}, "env": {**endpoint["env"], "EDITED": "by hand"}})
    [delegation] = project.listed("/registries/delegations", "delegations")
    api.delete(f"/registries/delegations/{delegation['id']}")
    before = project.path.read_bytes()
    found = changes(_moved(project), settings_of("local"))
    assert {(change.resource, change.path, change.before, change.after) for change in found} == {
        ("endpoint", "workers.max", 1, 0),
        ("endpoint", "env.EDITED", None, "by hand"),
        ("delegation", "", "there", "gone"),
    }
    owners = {change.path: change.owner for change in found}
    assert "RunPod, which lowers it" in owners["workers.max"]
    assert "somebody" in owners["env.EDITED"]
    assert not any(change.expected for change in found)
    assert project.path.read_bytes() == before
    assert project.endpoint()["workers"]["max"] == 0


def test_an_interrupted_operation_is_not_looked_past(project: Project) -> None:
    project.want()
    project.lose_the_engine_with_the_endpoint()
    with pytest.raises(Exception, match="was interrupted: `up` or `refresh` finish it"):
        project.engine().drift()
    project.engine().destroy()


def _state(**properties: Any) -> dict[str, Any]:
    return {
        "type": "t",
        "urn": "u",
        "id": "i",
        "parent": "p",
        "provider": "x",
        "inputs": properties,
        "outputs": {},
    }


def _event(
    name: str,
    type_: str,
    old: dict[str, Any],
    new: dict[str, Any] | None,
    op: str = "update",
    diffs: str = "",
) -> str:
    metadata = {
        "op": op,
        "urn": f"urn:pulumi:dev::berth::{type_}::{name}",
        "type": type_,
        "provider": "x",
        "old": _state(**old),
        "new": None if new is None else _state(**new),
        "diffs": diffs.split(),
    }
    event = {"sequence": 1, "timestamp": 1, "resOutputsEvent": {"metadata": metadata}}
    # The stand-in writes what Pulumi's own reader of such logs takes.
    read = EngineEvent.from_json(event).res_outputs_event
    assert read is not None
    assert read.metadata.op == op
    return json.dumps(event)


def _drift(
    programs: Copy, *events: str, exit_status: int, stack: str = "dev", cli: str = "exit 0"
) -> dict[str, Any]:
    """Type the command where the Pulumi CLI finds these events."""
    (programs.root / "log").write_text("\n".join(events))
    variables = programs.program(
        "pulumi",
        '[ "$1" = version ] && echo v3.272.0 && exit 0\n'
        f'echo "$PULUMI_DEBUG_COMMANDS $*" >>"{programs.root}/calls"\n'
        'while [ "$1" != --event-log ]; do shift; done\n'
        f'cp "{programs.root}/log" "$2"; {cli}',
    )
    said = typed("drift", "--stack", stack, "--json", exit_status=exit_status, variables=variables)
    document: dict[str, Any] = json.loads(said.stdout or "{}")
    return document | {"stderr": said.stderr}


def test_the_cli_is_asked_for_the_preview_of_a_refresh(programs: Copy) -> None:
    same = _event("vpc", "aws:ec2/vpc:Vpc", {"a": 1}, {"a": 1}, op="same")
    assert _drift(programs, same, exit_status=0)["changes"] == []
    [call] = (programs.root / "calls").read_text().splitlines()
    assert call.startswith("true refresh --stack dev --preview-only --non-interactive --event-log ")


def test_a_change_is_drift_and_says_what_was_and_is(programs: Copy) -> None:
    old = {"ingress": [{"fromPort": 80}], "token": SECRET, "tags": {"a": "b"}}
    new = {"ingress": [{"fromPort": 22}], "token": SECRET, "tags": {"a": "b"}}
    changed = _event("group", "aws:ec2/securityGroup:SecurityGroup", old, new, diffs="ingress token")
    gone = _event("bucket", "aws:s3/bucket:Bucket", {"bucket": "b"}, None, op="delete")
    said = _drift(programs, changed, gone, exit_status=1)
    assert said["drift"] is True
    assert [(row["resource"], row["path"], row["before"], row["after"]) for row in said["changes"]] == [
        ("group", "ingress[0].fromPort", 80, 22),
        # Pulumi hides both values: that they differ is all that can be said.
        ("group", "token", "[secret]", "[secret]"),
        ("bucket", "", "there", "gone"),
    ]


@pytest.mark.parametrize(
    ("stack", "type_", "old", "new", "owner"),
    [
        (
            "dev",
            NODE_GROUP,
            {"scalingConfig": {"desiredSize": 0, "maxSize": 1}},
            {"scalingConfig": {"desiredSize": 1, "maxSize": 1}},
            "the Cluster Autoscaler",
        ),
        ("dev", "aws:eks/cluster:Cluster", {"platformVersion": "eks.7"}, {"platformVersion": "eks.8"}, "EKS"),
        (
            "prod",
            "kubernetes:apps/v1:Deployment",
            {"spec": {"replicas": 2}, "metadata": {"generation": 1}},
            {"spec": {"replicas": 4}, "metadata": {"generation": 2}},
            "KEDA",
        ),
    ],
    ids=["machines", "platform", "replicas"],
)
def test_what_is_meant_to_change_is_shown_and_is_no_drift(
    programs: Copy, stack: str, type_: str, old: dict[str, Any], new: dict[str, Any], owner: str
) -> None:
    said = _drift(programs, _event("it", type_, old, new), stack=stack, exit_status=0)
    assert said["drift"] is False
    assert said["changes"]
    assert all(row["expected"] for row in said["changes"])
    assert any(row["owner"].startswith(owner) for row in said["changes"])


def test_a_number_that_no_autoscaler_sets_is_drift(programs: Copy) -> None:
    one, three = ({"scalingConfig": {"desiredSize": size}} for size in (1, 3))
    [row] = _drift(programs, _event("it", NODE_GROUP, one, three), stack="staging", exit_status=1)["changes"]
    assert row["owner"].startswith("somebody")


def test_people_are_told_what_to_do(programs: Copy) -> None:
    (programs.root / "log").write_text(
        _event(
            "it", "pulumi-python:dynamic/runpod:Endpoint", {"workers": {"max": 3}}, {"workers": {"max": 2}}
        )
    )
    variables = programs.program(
        "pulumi",
        '[ "$1" = version ] && echo v3.272.0 && exit 0\n'
        'while [ "$1" != --event-log ]; do shift; done\n'
        f'cp "{programs.root}/log" "$2"',
    )
    said = typed("drift", "--stack", "dev", exit_status=1, variables=variables).stdout
    assert "  workers.max: 3 => 2\n" in said
    assert "by RunPod, which lowers it when nobody has asked" in said
    assert "refresh --stack dev, then ./berth up --stack dev" in said


def test_what_cannot_be_looked_at_is_exit_status_2(programs: Copy) -> None:
    said = _drift(programs, exit_status=2, cli="echo error: the state is locked by ci; exit 255")
    assert "the state is locked by ci" in said["stderr"]
    assert typed("drift", "--stack", "nope", exit_status=2, variables={}).stdout == ""


def test_a_stack_that_is_not_up_cannot_have_drifted(copied: Copy) -> None:
    said = copied.berth("drift", "--stack", "local", exit_status=2).stderr
    assert "nothing is deployed" in said
    said = copied.berth("leftovers", "--stack", "local", "--expect-none").stdout
    assert "Nothing of the stack local" in said
    assert not (copied.root / ".sandbox" / "clouds").exists()
