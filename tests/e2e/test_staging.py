"""The stack `staging` cut to this machine: an upgrade and other edits of a cluster that serves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.shapes import cut

if TYPE_CHECKING:
    from tests.e2e.conftest import Clone

pytestmark = pytest.mark.e2e

_ADMIN = "reviewer"


@pytest.fixture(scope="module")
def staging(clone: Clone) -> Clone:
    """Bring up staging's shape as it was before an upgrade of Kubernetes."""

    def shape(config: dict[str, Any]) -> None:
        config.update(cut(clone.root / "stacks", "staging"))
        eks = config["berth:eks"]
        eks["kubernetes_version"] = "1.34"
        for group in (eks["system_nodes"], *eks["gpu_node_groups"].values()):
            group.pop("release_version", None)

    clone.edit(shape)
    clone.run("up", "--stack", "local", "--yes", "--no-smoke")
    return clone


def _steps(clone: Clone) -> dict[str, list[str]]:
    """Return what the next `up` would do to each resource, by its logical name."""
    steps: dict[str, list[str]] = {}
    for step in clone.json("preview", "--stack", "local")["steps"]:
        if step["op"] != "same":
            steps.setdefault(step["urn"].split("::")[-1], []).append(step["op"])
    return steps


def test_nothing_changes_a_second_time(staging: Clone) -> None:
    assert _steps(staging) == {}


def test_an_upgrade_and_other_edits_change_in_place_what_aws_changes_in_place(staging: Clone) -> None:
    trust = '{"Version":"2012-10-17","Statement":[]}'
    role = staging.aws("iam", "create-role", "--role-name", _ADMIN, "--assume-role-policy-document", trust)[
        "Role"
    ]["Arn"]

    def edit(config: dict[str, Any]) -> None:
        eks = config["berth:eks"]
        eks["kubernetes_version"] = "1.35"
        eks["control_plane_logs"] = ["api", "audit", "scheduler"]
        eks["admin_principal_arns"] = [role]
        eks["system_nodes"]["max"] = 4
        eks["gpu_node_groups"]["ondemand"]["instance_types"] = ["g6e.4xlarge"]
        eks["load_balancer"]["idle_timeout_seconds"] = 600

    staging.edit(edit)
    steps = _steps(staging)
    assert steps["cluster-control-plane"] == ["update"]
    assert steps["nodes-system"] == ["update"]
    assert steps["load-balancer-balancer"] == ["update"]
    # EKS cannot change what machines a group has: the successor is there before the old group goes.
    assert [step.split("-")[0] for step in steps["nodes-gpu-ondemand"]] == ["create", "delete"]
    assert "delete" not in {step for name in steps if "access" in name for step in steps[name]}
    staging.run("up", "--stack", "local", "--yes", "--no-smoke")
    assert _steps(staging) == {}
    (name,) = staging.aws("eks", "list-clusters")["clusters"]
    cluster = staging.aws("eks", "describe-cluster", "--name", name)["cluster"]
    assert cluster["version"] == "1.35"
    for group in staging.aws("eks", "list-nodegroups", "--cluster-name", name)["nodegroups"]:
        found = staging.aws("eks", "describe-nodegroup", "--cluster-name", name, "--nodegroup-name", group)
        assert found["nodegroup"]["version"] == "1.35"
    assert staging.json("smoke", "--stack", "local")["ok"] is True


def test_destroy_leaves_nothing(staging: Clone) -> None:
    staging.aws("iam", "delete-role", "--role-name", _ADMIN)  # made here, so no leftover of the stack
    staging.destroy()
