"""`berth preflight` against the sandbox's AWS and RunPod: what is not there is a no, and says its fix."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import botocore.client
import pytest

from ops import console
from ops.preflight import actions, identity, look, machines, network, quotas, runpod
from ops.preflight.aws import Account
from ops.progress import Progress
from ops.stacks import PROJECT_FOLDER, open_stack
from sandbox.aws.errors import service_model
from tests.infra.graph import STACKS
from tests.infra.stack_files import edited, loaded
from tests.infra.variants import VARIANTS, recorded
from tests.ops.runpod_platform import typed
from tests.ops.test_models import Hub, hub
from tests.runpod.conftest import KEY, body, start_platform
from tests.sandbox_aws.support import Sandbox, admin, make_network
from tests.sandbox_aws.test_loadbalancer import certificate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from infra.settings import Settings
    from ops.preflight.findings import Check, Finding
    from tests.ops.conftest import Project
    from tests.ops.runpod_platform import Said
    from tests.runpod.conftest import Platform

__all__ = ["hub"]  # a fixture

MODEL = "Qwen/Qwen2.5-7B-Instruct"
EXPIRED = (403, "ExpiredToken", "The security token included in the request is expired")
DENIED = (403, "AccessDenied", "User: ci is not authorized to perform: iam:SimulatePrincipalPolicy")


@contextlib.contextmanager
def _service(status: int, code: str, message: str) -> Iterator[str]:
    """A service of AWS's query protocol that refuses everybody."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            error = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
            answer = f"<ErrorResponse>{error}<RequestId>1</RequestId></ErrorResponse>".encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@dataclass(frozen=True)
class Accounts:
    """Both accounts of a stack, on this machine."""

    aws: Sandbox
    runpod: Platform

    @property
    def variables(self) -> dict[str, str]:
        """The environment of somebody who works with them."""
        return {
            "AWS_ACCESS_KEY_ID": self.aws.environment["AWS_ACCESS_KEY_ID"],
            "AWS_SECRET_ACCESS_KEY": self.aws.environment["AWS_SECRET_ACCESS_KEY"],
            "AWS_ENDPOINT_URL": self.aws.endpoint,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "RUNPOD_API_KEY": KEY,
            "RUNPOD_REST_V2_API_URL": self.runpod.cloud.endpoint,
        }


@pytest.fixture(scope="module")
def accounts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Accounts]:
    folder = tmp_path_factory.mktemp("accounts")
    (folder / "aws").mkdir()
    aws = Sandbox(folder / "aws").start()
    platform = start_platform(folder / "runpod", block=aws.block)
    yield Accounts(aws, platform)
    platform.cloud.stop()
    aws.stop()


@pytest.fixture
def somebody(accounts: Accounts, monkeypatch: pytest.MonkeyPatch) -> Accounts:
    """Both accounts, with the environment of somebody who works with them."""
    for name, value in accounts.variables.items():
        monkeypatch.setenv(name, value)
    return accounts


@pytest.fixture
def pulumi(programs: Project) -> dict[str, str]:
    """A Pulumi CLI that is logged in and has the stack."""
    return programs.pulumi({})


def _preflight(accounts: Accounts, *options: str, exit_status: int = 0, **more: str) -> Said:
    """Type the command; whatever it says, it never says a key."""
    variables = accounts.variables | more
    said = typed("preflight", "--stack", "dev", *options, variables=variables, exit_status=exit_status)
    for secret in ("AWS_SECRET_ACCESS_KEY", "RUNPOD_API_KEY"):
        assert not variables[secret] or variables[secret] not in said.stdout + said.stderr
    return said


def _report(accounts: Accounts, *, ready: bool, **more: str) -> dict[str, dict[str, Any]]:
    """Return the answers by subject and question."""
    said = json.loads(_preflight(accounts, "--json", exit_status=0 if ready else 1, **more).stdout)
    assert said["ready"] == ready
    return {f"{row['subject']}: {row['check']}": row for row in said["checks"]}


def _asked(checks: Sequence[Check]) -> dict[str, Finding]:
    return {check.name: check.ask() for check in checks}


def _settings(path: str, value: Any, **model: Any) -> Settings:
    """Return the settings of `dev` with one value changed."""
    settings = loaded(edited(path, value))
    return replace(settings, model=settings.model.model_copy(update=model)) if model else settings


def _region(region: str = "us-east-1") -> Account:
    return Account(None, region)


def test_a_stack_whose_accounts_have_all_is_ready_and_only_reading_is_asked_for(
    accounts: Accounts, pulumi: dict[str, str], hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = json.loads((PROJECT_FOLDER / "ops/plan/models.json").read_text())
    hub.files = {path: models[MODEL]["config"] for path in hub.files if MODEL in path}
    asked, call = set(), botocore.client.BaseClient._make_api_call

    def recorded_call(self: Any, operation_name: str, api_params: Any) -> Any:
        asked.add(operation_name)
        return call(self, operation_name, api_params)

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", recorded_call)
    rows = _report(accounts, ready=True, HF_ENDPOINT=hub.url, **pulumi)
    assert {row["answer"] for row in rows.values()} == {"yes"}, rows
    assert rows["AWS: credentials"]["seen"] == "arn:aws:iam::123456789012:user/deployer in us-east-1"
    assert len(asked) > 10
    assert all(name.startswith(("Describe", "Get", "Simulate")) for name in asked)


def test_the_table_has_the_fix_on_a_line_of_its_own(accounts: Accounts, pulumi: dict[str, str]) -> None:
    said = _preflight(accounts, exit_status=1, HF_ENDPOINT="http://127.0.0.1:9", **pulumi).stdout
    [row] = [line for line in said.splitlines() if line.startswith("model: hub")]
    assert "not known" in row
    assert "no model hub answers" in row
    assert "fix: set HF_ENDPOINT" in said
    assert "1 of 20 answers are against `up` of the stack dev." in said


def test_without_credentials_and_with_a_wrong_key_nothing_is_taken_for_a_yes(
    accounts: Accounts, pulumi: dict[str, str], hub: Hub
) -> None:
    wrong = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "RUNPOD_API_KEY": "rpa_of_somebody_else"}
    rows = _report(accounts, ready=False, HF_ENDPOINT=hub.url, **(pulumi | wrong))
    assert rows["AWS: credentials"]["answer"] == "no"
    assert rows["AWS: credentials"]["seen"] == "there are no AWS credentials in the environment"
    assert rows["AWS: credentials"]["fix"]
    others = [row for name, row in rows.items() if row["subject"] == "AWS" and name != "AWS: credentials"]
    assert {(row["answer"], row["passes"]) for row in others} == {("not known", False)}
    assert rows["RunPod: key"]["answer"] == "no"
    assert "401" in rows["RunPod: key"]["seen"]
    assert rows["model: hub"]["answer"] == "yes"


def test_a_gated_model_and_no_pulumi_are_said_with_their_fix(
    accounts: Accounts, programs: Project, hub: Hub
) -> None:
    hub.gated = True
    nothing = {"PATH": str(programs.root), "HOME": str(programs.root)}
    rows = _report(accounts, ready=False, HF_ENDPOINT=hub.url, **nothing)
    assert rows["model: hub"]["answer"] == "no"
    assert "pulumi config set --secret berth:hubToken" in rows["model: hub"]["seen"]
    assert rows["Pulumi: CLI"]["answer"] == "no"
    assert "https://www.pulumi.com/docs/iac/download-install/" in rows["Pulumi: CLI"]["fix"]


def test_a_backend_that_nobody_is_logged_in_to_is_a_no(
    accounts: Accounts, programs: Project, hub: Hub
) -> None:
    script = '[ "$1" = version ] && echo v3.272.0 && exit 0\necho "log in first" >&2\nexit 255'
    rows = _report(accounts, ready=False, HF_ENDPOINT=hub.url, **programs.program("pulumi", script))
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
    with _service(*EXPIRED) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", url)
        found = _asked(identity.checks(loaded(edited("aws.owner", "me")), _region(), recorded("dev", False)))
    assert found["credentials"].answer == "no"
    assert found["credentials"].seen.startswith("they have expired: ")
    assert "aws sso login" in found["credentials"].fix


@pytest.mark.usefixtures("somebody")
def test_who_may_not_simulate_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    with _service(*DENIED) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_IAM", url)
        found = _asked(identity.checks(loaded(edited("aws.owner", "me")), _region(), recorded("dev", False)))
    assert found["credentials"].answer == "yes"
    assert found["permissions"].answer == "not known"
    assert not found["permissions"].passes
    assert "is not authorized to perform" in found["permissions"].seen
    assert "iam:SimulatePrincipalPolicy" in found["permissions"].fix


def test_a_session_is_looked_at_as_its_role_and_what_it_may_not_do_is_named(
    somebody: Accounts, monkeypatch: pytest.MonkeyPatch
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
    settings = _settings("eks.deployer_principal_arn", other)
    found = _asked(identity.checks(settings, _region(), recorded("dev", False)))
    assert found["credentials"].answer == "yes"
    assert found["permissions"].answer == "no"
    assert found["permissions"].seen == (
        f"{role} may not do eks:CreateCluster, iam:PassRole on every resource (*)"
    )
    assert found["deployer"].answer == "no"
    assert f"--role-arn {other}" in found["deployer"].fix
    mine = _asked(
        identity.checks(_settings("eks.deployer_principal_arn", role), _region(), recorded("dev", False))
    )
    assert mine["deployer"].answer == "yes"


@pytest.mark.usefixtures("somebody")
def test_credentials_of_another_account_are_a_no() -> None:
    settings = _settings("aws.account_id", "999988887777")
    found = _asked(identity.checks(settings, _region(), recorded("dev", False)))
    assert found["credentials"].answer == "no"
    assert "berth:aws.account_id: 999988887777" in found["credentials"].seen


def test_a_quota_of_nothing_and_one_that_others_use_are_a_no_with_the_request(somebody: Accounts) -> None:
    group = {"instance_types": ["g6.2xlarge", "g6.xlarge"], "desired": 1, "max": 2}
    settings = _settings("eks.gpu_node_groups", {"gpu": group})
    graph = recorded("dev", False)
    name = "quota of on-demand G and VT vCPUs"
    admin(somebody.aws, "PUT", "faults", {"quotas": {"L-DB2E81BA": 0}})
    none = _asked(quotas.checks(settings, _region(), graph))
    assert none[name].answer == "no"
    assert "the stack needs 8 at once, 16 at its groups' max" in none[name].seen
    assert none[name].fix == (
        "aws service-quotas request-service-quota-increase --service-code ec2 --quota-code L-DB2E81BA"
        " --desired-value 16 --region us-east-1"
    )
    assert none["quota of on-demand A, C, D, H, I, M, R, T, Z vCPUs"].answer == "yes"
    admin(somebody.aws, "PUT", "faults", {"quotas": {"L-DB2E81BA": 20}})
    assert _asked(quotas.checks(settings, _region(), graph))[name].answer == "yes"
    _, [subnet, _] = make_network(somebody.aws)
    ec2 = somebody.aws.client("ec2")

    def run(*tags: dict[str, str]) -> str:
        id_: str = ec2.run_instances(
            ImageId="ami-12c6146b",
            InstanceType="g5.2xlarge",
            MinCount=1,
            MaxCount=1,
            SubnetId=subnet,
            TagSpecifications=[{"ResourceType": "instance", "Tags": list(tags)}] if tags else [],
        )["Instances"][0]["InstanceId"]
        return id_

    ours = run({"Key": "project", "Value": "berth"}, {"Key": "stack", "Value": "dev"})
    assert _asked(quotas.checks(settings, _region(), graph))[name].answer == "yes"
    theirs = run()
    used = _asked(quotas.checks(settings, _region(), graph))[name]
    ec2.terminate_instances(InstanceIds=[ours, theirs])
    admin(somebody.aws, "DELETE", "faults")
    assert used.answer == "no"
    assert "20 vCPUs (L-DB2E81BA), 8 used by others" in used.seen
    assert "--desired-value 24" in used.fix


@pytest.mark.usefixtures("somebody")
def test_a_region_without_the_instance_type_is_a_no() -> None:
    found = _asked(machines.checks(_settings("aws.region", "us-west-1"), _region("us-west-1")))
    offered = found["gpu_node_groups.gpu: instance types"]
    assert offered.answer == "no"
    assert "g6.2xlarge in none of them" in offered.seen
    assert "in the region it is in no zone" in offered.seen
    assert "aws ec2 describe-instance-type-offerings" in offered.fix
    assert found["system_nodes: instance types"].answer == "yes"


@pytest.mark.usefixtures("somebody")
def test_a_version_an_image_and_a_block_that_are_not_there_are_a_no() -> None:
    group = {
        "instance_types": ["p5.48xlarge"],
        "capacity_type": "CAPACITY_BLOCK",
        "capacity_reservation_id": "cr-0123456789abcdef0",
        "zone_index": 0,
        "desired": 1,
        "release_version": "1.35.6-20200101",
    }
    settings = _settings("eks.gpu_node_groups", {"gpu": group})
    found = _asked(machines.checks(settings, _region()))
    assert found["Kubernetes version"].answer == "yes"
    assert found["gpu_node_groups.gpu: machine image"].answer == "no"
    assert "AL2023_x86_64_NVIDIA 1.35.6-20200101" in found["gpu_node_groups.gpu: machine image"].seen
    assert found["gpu_node_groups.gpu: capacity block"].answer == "no"
    old = _asked(machines.checks(_settings("eks.kubernetes_version", "1.33"), _region()))
    assert old["Kubernetes version"].answer == "no"
    assert "1.36" in old["Kubernetes version"].fix
    rocket = {"instance_types": ["g6.xlarge"], "operating_system": "BOTTLEROCKET"}
    given = _asked(
        machines.checks(
            _settings("eks.gpu_node_groups", {"gpu": {**rocket, "release_version": "1.59.0-3e1c4d2a"}}),
            _region(),
        )
    )
    assert given["gpu_node_groups.gpu: machine image"].answer == "yes"


def _certificate(arn: str, host: str = "model.example.com") -> Finding:
    balancer = {"internal": True, "certificate_arn": arn, "host_name": host}
    return _asked(network.checks(_settings("eks.load_balancer", balancer), _region()))["certificate"]


def test_a_certificate_must_be_issued_in_the_region_for_the_name(somebody: Accounts) -> None:
    acm = somebody.aws.client("acm")
    arn = acm.request_certificate(DomainName="*.example.com", ValidationMethod="DNS")["CertificateArn"]
    pending = _certificate(arn)
    assert pending.answer == "no"
    assert "PENDING_VALIDATION" in pending.seen
    assert "CNAME" in pending.fix
    assert _certificate(arn.replace("us-east-1", "us-west-2")).seen.endswith("us-east-1 cannot have it")
    assert _certificate(f"{arn[:-4]}0000").answer == "no"
    public, private = certificate("model.example.com")
    issued = acm.import_certificate(Certificate=public, PrivateKey=private)["CertificateArn"]
    assert _certificate(issued).answer == "yes"
    other = _certificate(issued, "other.example.com")
    assert other.answer == "no"
    assert "it is for model.example.com, and not for" in other.seen
    described = {"Status": "ISSUED", "DomainName": "*.example.com"}
    assert network.judged(described, "model.example.com", "us-east-1").answer == "yes"
    assert network.judged(described, "a.model.example.com", "us-east-1").answer == "no"
    over = {**described, "NotAfter": datetime(2025, 1, 1, tzinfo=UTC)}
    assert "it expired on 2025-01-01" in network.judged(over, "model.example.com", "us-east-1").seen


def test_an_existing_network_is_looked_at_as_the_program_does(somebody: Accounts) -> None:
    vpc, subnets = make_network(somebody.aws)
    ec2 = somebody.aws.client("ec2")
    for name in ("EnableDnsSupport", "EnableDnsHostnames"):
        ec2.modify_vpc_attribute(VpcId=vpc, **{name: {"Value": True}})
    more = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.0.{n}.0/{size}", AvailabilityZone=f"us-east-1{zone}")[
            "Subnet"
        ]["SubnetId"]
        for n, size, zone in ((10, 27, "a"), (11, 27, "b"), (12, 28, "b"))
    ]

    def asked(nodes: list[str], balancer: list[str]) -> Finding:
        existing = {"vpc_id": vpc, "node_subnet_ids": nodes, "load_balancer_subnet_ids": balancer}
        settings = _settings("eks.network", {"existing": existing})
        return _asked(network.checks(settings, _region()))["VPC"]

    assert asked(subnets, more[:2]).answer == "yes"
    small = asked(subnets, [more[0], more[2]])
    assert small.answer == "no"
    assert "a load balancer wants /27 or larger" in small.seen
    gone = asked([subnets[0], "subnet-0123456789abcdef0"], more[:2])
    assert gone.answer == "no"
    assert "subnet-0123456789abcdef0" in gone.seen


def _runpod(accounts: Accounts, path: str, value: Any) -> dict[str, Finding]:
    return _asked(runpod.checks(_settings(path, value), accounts.runpod.cloud.endpoint, KEY))


def test_workers_beyond_what_every_account_has_are_not_known(accounts: Accounts) -> None:
    accounts.runpod.delegate()
    assert _runpod(accounts, "runpod.workers_max", 5)["worker quota"].answer == "yes"
    made = accounts.runpod.api.post(
        "/serverless", json=body() | {"name": "others", "workers": {"min": 0, "max": 3}}
    )
    assert made.status_code in (200, 201), made.text
    full = _runpod(accounts, "runpod.workers_max", 3)["worker quota"]
    fits = _runpod(accounts, "runpod.workers_max", 2)["worker quota"]
    accounts.runpod.api.delete(f"/serverless/{made.json()['id']}")
    assert fits.answer == "yes"
    assert full.answer == "not known"
    assert not full.passes
    assert "other endpoints may have 3: 6 of 5 at least" in full.seen
    assert "https://console.runpod.io/serverless allows 6" in full.fix


def test_a_pool_that_no_data_center_has_and_one_that_is_none_are_a_no(accounts: Accounts) -> None:
    nowhere = _runpod(accounts, "runpod.data_center_ids", ["US-WA-1"])
    assert nowhere["GPUs"].answer == "no"
    assert "is to be had in US-WA-1 now" in nowhere["GPUs"].seen
    assert nowhere["data centers"].answer == "yes"
    assert _runpod(accounts, "runpod.data_center_ids", ["EU-XX-9"])["data centers"].answer == "no"
    volume = [{"data_center_id": "US-WA-1", "size_gib": 10, "type": "HIGH_PERFORMANCE"}]
    assert "EU-RO-1" in _runpod(accounts, "runpod.volumes", volume)["data centers"].fix


def test_a_cuda_floor_below_the_image_s_and_one_that_no_host_has_are_a_no(accounts: Accounts) -> None:
    low = _runpod(accounts, "runpod.min_cuda_version", "12.4")["CUDA"]
    assert low.answer == "no"
    assert "vLLM's image is built for 13.0" in low.seen
    assert _runpod(accounts, "runpod.min_cuda_version", "13.9")["CUDA"].answer == "no"


def test_a_sandbox_that_does_not_run_is_no_reason_against_up(project: Project) -> None:
    said = project.berth("preflight", "--stack", "local").stdout
    assert "its clouds do not run" in said
    assert "./berth up --stack local" in said
    assert "model: fits" in said


@pytest.mark.parametrize("stack", [*STACKS, *VARIANTS])
def test_the_actions_of_every_resource_that_a_stack_file_makes_are_known(stack: str) -> None:
    made = {item.type for item in recorded(stack, False)}
    assert [type_ for type_ in sorted(made) if type_.startswith("aws:") and not actions.known(type_)] == []


def test_every_action_is_one_of_its_service() -> None:
    # IAM's names of services and actions, where they are not those of operations.
    services = {"elasticloadbalancing": "elbv2"}
    others = {
        "budgets:ModifyBudget",
        "budgets:ViewBudget",
        "elasticloadbalancing:SetWebACL",
        "iam:PassRole",
        "s3:GetEncryptionConfiguration",
        "s3:GetLifecycleConfiguration",
        "s3:GetBucketPublicAccessBlock",
        "s3:ListBucket",
        "s3:PutBucketPublicAccessBlock",
        "s3:PutEncryptionConfiguration",
        "s3:PutLifecycleConfiguration",
    }
    found = {action for name in (*STACKS, *VARIANTS) for action in actions.needed(recorded(name, False))}
    assert len(found) > 150
    unknown = {
        action
        for action in found - others
        if action.partition(":")[2]
        not in service_model(services.get(service := action.partition(":")[0], service)).operation_names
    }
    assert unknown == set()
