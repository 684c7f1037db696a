"""`berth preflight` against the sandbox's AWS and RunPod: what is not there is a no, and says its fix."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any

import botocore.client
import pytest

from ops import console
from ops.preflight import identity, look
from ops.progress import Progress
from ops.stacks import PROJECT_FOLDER, open_stack
from tests.infra.stack_files import edited, loaded
from tests.infra.variants import recorded
from tests.ops.preflight_accounts import (
    DENIED,
    EXPIRED,
    MODEL,
    accounts,
    asked,
    preflight,
    pulumi,
    refusing_service,
    region,
    report,
    settings_with,
    somebody,
)
from tests.ops.test_models import Hub, hub

if TYPE_CHECKING:
    from tests.ops.accounts import Clouds
    from tests.ops.conftest import Project

__all__ = ["accounts", "hub", "pulumi", "somebody"]  # fixtures


def test_a_stack_whose_accounts_have_all_is_ready_and_only_reading_is_asked_for(
    accounts: Clouds, pulumi: dict[str, str], hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = json.loads((PROJECT_FOLDER / "ops/plan/models.json").read_text())
    hub.files = {path: models[MODEL]["config"] for path in hub.files if MODEL in path}
    asked, call = set(), botocore.client.BaseClient._make_api_call

    def recorded_call(self: Any, operation_name: str, api_params: Any) -> Any:
        asked.add(operation_name)
        return call(self, operation_name, api_params)

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", recorded_call)
    rows = report(accounts, ready=True, HF_ENDPOINT=hub.url, **pulumi)
    assert {row["answer"] for row in rows.values()} == {"yes"}, rows
    assert rows["AWS: credentials"]["seen"] == "arn:aws:iam::123456789012:user/deployer in us-east-1"
    assert len(asked) > 10
    assert all(name.startswith(("Describe", "Get", "Simulate")) for name in asked)


def test_the_table_has_the_fix_on_a_line_of_its_own(accounts: Clouds, pulumi: dict[str, str]) -> None:
    said = preflight(accounts, exit_status=1, HF_ENDPOINT="http://127.0.0.1:9", **pulumi).stdout
    [row] = [line for line in said.splitlines() if line.startswith("model: hub")]
    assert "not known" in row
    assert "no model hub answers" in row
    assert "fix: set HF_ENDPOINT" in said
    assert "1 of 20 answers are against `up` of the stack dev." in said


def test_without_credentials_and_with_a_wrong_key_nothing_is_taken_for_a_yes(
    accounts: Clouds, pulumi: dict[str, str], hub: Hub
) -> None:
    wrong = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "RUNPOD_API_KEY": "rpa_of_somebody_else"}
    rows = report(accounts, ready=False, HF_ENDPOINT=hub.url, **(pulumi | wrong))
    assert rows["AWS: credentials"]["answer"] == "no"
    assert rows["AWS: credentials"]["seen"] == "there are no AWS credentials in the environment"
    assert rows["AWS: credentials"]["fix"]
    others = [row for name, row in rows.items() if row["subject"] == "AWS" and name != "AWS: credentials"]
    assert {(row["answer"], row["passes"]) for row in others} == {("not known", False)}
    assert rows["RunPod: key"]["answer"] == "no"
    assert "401" in rows["RunPod: key"]["seen"]
    assert rows["model: hub"]["answer"] == "yes"


def test_a_gated_model_and_no_pulumi_are_said_with_their_fix(
    accounts: Clouds, programs: Project, hub: Hub
) -> None:
    hub.gated = True
    nothing = {"PATH": str(programs.root), "HOME": str(programs.root)}
    rows = report(accounts, ready=False, HF_ENDPOINT=hub.url, **nothing)
    assert rows["model: hub"]["answer"] == "no"
    assert "pulumi config set --secret berth:hubToken" in rows["model: hub"]["seen"]
    assert rows["Pulumi: CLI"]["answer"] == "no"
    assert "https://www.pulumi.com/docs/iac/download-install/" in rows["Pulumi: CLI"]["fix"]


def test_a_backend_that_nobody_is_logged_in_to_is_a_no(accounts: Clouds, programs: Project, hub: Hub) -> None:
    script = '[ "$1" = version ] && echo v3.272.0 && exit 0\necho "log in first" >&2\nexit 255'
    rows = report(accounts, ready=False, HF_ENDPOINT=hub.url, **programs.program("pulumi", script))
    assert rows["Pulumi: state"]["answer"] == "no"
    assert rows["Pulumi: state"]["seen"] == "log in first"
    assert rows["Pulumi: state"]["fix"].startswith("pulumi login")


@pytest.mark.usefixtures("somebody", "hub")
def test_a_service_that_hangs_is_not_waited_for(
    pulumi: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in pulumi.items():
        monkeypatch.setenv(name, value)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SSM", f"http://127.0.0.1:{silent.getsockname()[1]}")
        found = look.look(open_stack("dev"), Progress(console.err, quiet=True), limit_seconds=15)
    late = {result.name: result.finding for result in found if "no answer in 15 s" in result.finding.seen}
    assert set(late) == {"system_nodes: machine image", "gpu_node_groups.spot: machine image"}
    assert not any(finding.passes for finding in late.values())


@pytest.mark.usefixtures("somebody")
def test_expired_credentials_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with refusing_service(*EXPIRED) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", url)
        found = asked(identity.checks(loaded(edited("aws.owner", "me")), region(), recorded("dev", False)))
    assert found["credentials"].answer == "no"
    assert found["credentials"].seen.startswith("they have expired: ")
    assert "aws sso login" in found["credentials"].fix


@pytest.mark.usefixtures("somebody")
def test_who_may_not_simulate_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    with refusing_service(*DENIED) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_IAM", url)
        found = asked(identity.checks(loaded(edited("aws.owner", "me")), region(), recorded("dev", False)))
    assert found["credentials"].answer == "yes"
    assert found["permissions"].answer == "not known"
    assert not found["permissions"].passes
    assert "is not authorized to perform" in found["permissions"].seen
    assert "iam:SimulatePrincipalPolicy" in found["permissions"].fix


def test_a_session_is_looked_at_as_its_role_and_what_it_may_not_do_is_named(
    somebody: Clouds, monkeypatch: pytest.MonkeyPatch
) -> None:
    iam = somebody.aws.client("iam")
    statement = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
    trust = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    role = iam.create_role(RoleName="ci", Path="/team/", AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    may = [
        {"Effect": "Allow", "Action": "*", "Resource": "*"},
        {"Effect": "Deny", "Action": ["eks:CreateCluster", "iam:Pass*"], "Resource": "*"},
    ]
    iam.put_role_policy(
        RoleName="ci",
        PolicyName="most",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": may}),
    )
    session = somebody.aws.client("sts").assume_role(RoleArn=role, RoleSessionName="me")["Credentials"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", session["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", session["SecretAccessKey"])
    monkeypatch.setenv("AWS_SESSION_TOKEN", session["SessionToken"])
    other = "arn:aws:iam::123456789012:role/deployer"
    settings = settings_with("eks.deployer_principal_arn", other)
    found = asked(identity.checks(settings, region(), recorded("dev", False)))
    assert found["credentials"].answer == "yes"
    assert found["permissions"].answer == "no"
    assert found["permissions"].seen == (
        f"{role} may not do eks:CreateCluster, iam:PassRole on every resource (*)"
    )
    assert found["deployer"].answer == "no"
    assert f"--role-arn {other}" in found["deployer"].fix
    mine = asked(
        identity.checks(settings_with("eks.deployer_principal_arn", role), region(), recorded("dev", False))
    )
    assert mine["deployer"].answer == "yes"


@pytest.mark.usefixtures("somebody")
def test_credentials_of_another_account_are_a_no() -> None:
    settings = settings_with("aws.account_id", "999988887777")
    found = asked(identity.checks(settings, region(), recorded("dev", False)))
    assert found["credentials"].answer == "no"
    assert "berth:aws.account_id: 999988887777" in found["credentials"].seen


def test_a_sandbox_that_does_not_run_is_no_reason_against_up(project: Project) -> None:
    said = project.berth("preflight", "--stack", "local").stdout
    assert "its clouds do not run" in said
    assert "./berth up --stack local" in said
    assert "model: fits" in said
