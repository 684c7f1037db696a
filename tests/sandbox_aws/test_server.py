"""The server itself: who may ask, what it answers for, and that it keeps what it has answered for."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from botocore.exceptions import ClientError

from sandbox.aws.journal import Journal, Record
from tests.sandbox_aws.support import KEY, PORT, ROOT, SECRET, Sandbox, make_network, make_role

if TYPE_CHECKING:
    from pathlib import Path


def error_code(call: Any, **arguments: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    return str(caught.value.response["Error"]["Code"])


CALLS = [
    ("sts", "get_caller_identity", "InvalidClientTokenId", "SignatureDoesNotMatch"),
    ("iam", "list_roles", "InvalidClientTokenId", "SignatureDoesNotMatch"),
    ("ec2", "describe_vpcs", "AuthFailure", "AuthFailure"),
    ("elbv2", "describe_load_balancers", "InvalidClientTokenId", "SignatureDoesNotMatch"),
    ("ecr", "describe_repositories", "UnrecognizedClientException", "InvalidSignatureException"),
    ("eks", "list_clusters", "UnrecognizedClientException", "InvalidSignatureException"),
    ("codebuild", "list_projects", "UnrecognizedClientException", "InvalidSignatureException"),
    ("s3", "list_buckets", "InvalidAccessKeyId", "SignatureDoesNotMatch"),
]


@pytest.mark.parametrize(("service", "operation", "unknown", "wrong"), CALLS)
def test_keys_are_checked(sandbox: Sandbox, service: str, operation: str, unknown: str, wrong: str) -> None:
    getattr(sandbox.client(service), operation)()
    stranger = sandbox.client(service, key="AKIAAAAAAAAAAAAAAAAA")
    assert error_code(getattr(stranger, operation)) == unknown
    liar = sandbox.client(service, secret="guess")
    assert error_code(getattr(liar, operation)) == wrong


def test_unsigned_requests_are_refused(sandbox: Sandbox) -> None:
    answer = httpx.post(sandbox.endpoint, data={"Action": "ListRoles", "Version": "2010-05-08"})
    assert answer.status_code == 403
    assert httpx.get(f"{sandbox.endpoint}/bucket/key").status_code == 403
    assert httpx.post(f"{sandbox.endpoint}/moto-api/reset").status_code == 404


def test_a_body_that_was_changed_is_refused(sandbox: Sandbox) -> None:
    s3 = sandbox.client("s3")
    s3.create_bucket(Bucket="signed")
    url = s3.generate_presigned_url("put_object", Params={"Bucket": "signed", "Key": "k"})
    assert httpx.put(url, content=b"data").status_code == 200
    read = s3.generate_presigned_url("get_object", Params={"Bucket": "signed", "Key": "k"})
    assert httpx.get(read).content == b"data"
    assert httpx.get(read.replace("/k?", "/other?")).status_code == 403


def test_the_deployer_and_its_roles(sandbox: Sandbox) -> None:
    identity = sandbox.client("sts").get_caller_identity()
    assert identity["Arn"] == "arn:aws:iam::123456789012:user/deployer"
    attached = sandbox.client("iam").list_attached_user_policies(UserName="deployer")["AttachedPolicies"]
    assert [each["PolicyName"] for each in attached] == ["AdministratorAccess"]
    role = make_role(sandbox, "assumed", "ec2.amazonaws.com")
    session = sandbox.client("sts").assume_role(RoleArn=role, RoleSessionName="s")["Credentials"]
    keys = {"key": session["AccessKeyId"], "secret": session["SecretAccessKey"]}
    assumed = sandbox.client("sts", **keys, token=session["SessionToken"]).get_caller_identity()
    assert assumed["Arn"] == "arn:aws:sts::123456789012:assumed-role/assumed/s"
    assert error_code(sandbox.client("sts", **keys).get_caller_identity) == "InvalidClientTokenId"


def test_the_command_line_works(sandbox: Sandbox) -> None:
    done = sandbox.aws("ec2", "describe-availability-zones", "--query", "length(AvailabilityZones)")
    assert (done.returncode, done.stdout.strip()) == (0, "6"), done.stderr
    password = sandbox.aws("ecr", "get-login-password").stdout.strip()
    assert httpx.get(f"{sandbox.endpoint}/v2/", auth=("AWS", password)).status_code == 200


def test_ready_line_and_health(sandbox: Sandbox) -> None:
    assert sandbox.ready == {
        "endpoint": sandbox.endpoint,
        "region": "us-east-1",
        "account_id": "123456789012",
        "access_key_id": KEY,
        "secret_access_key": SECRET,
    }
    assert httpx.get(f"{sandbox.endpoint}/_sandbox/health").json()["status"] == "ok"


def test_what_is_not_there_is_refused_by_name(sandbox: Sandbox) -> None:
    with pytest.raises(ClientError, match="does not implement CreateFargateProfile") as caught:
        sandbox.client("eks").create_fargate_profile(
            fargateProfileName="f", clusterName="c", podExecutionRoleArn="arn:aws:iam::123456789012:role/r"
        )
    assert caught.value.response["Error"]["Code"] == "NotImplemented"


def everything(sandbox: Sandbox) -> dict[str, Any]:
    def clean(answer: dict[str, Any]) -> dict[str, Any]:
        answer.pop("ResponseMetadata")
        return answer

    ec2, elb = sandbox.client("ec2"), sandbox.client("elbv2")
    return {
        "vpcs": clean(ec2.describe_vpcs()),
        "subnets": clean(ec2.describe_subnets()),
        "groups": clean(ec2.describe_security_groups()),
        "rules": clean(ec2.describe_security_group_rules()),
        "interfaces": [
            each["NetworkInterfaceId"] for each in ec2.describe_network_interfaces()["NetworkInterfaces"]
        ],
        "nat": [
            (each["NatGatewayId"], each["NatGatewayAddresses"])
            for each in ec2.describe_nat_gateways()["NatGateways"]
        ],
        "addresses": clean(ec2.describe_addresses()),
        "tables": clean(ec2.describe_route_tables()),
        "balancers": [each["LoadBalancerArn"] for each in elb.describe_load_balancers()["LoadBalancers"]],
        "keys": [
            each["AccessKeyId"]
            for each in sandbox.client("iam").list_access_keys(UserName="someone")["AccessKeyMetadata"]
        ],
        "secret": sandbox.client("s3").get_object(Bucket="kept", Key="k")["Body"].read(),
    }


def test_all_that_was_answered_for_is_there_after_a_kill(own_sandbox: Sandbox) -> None:
    ec2, iam = own_sandbox.client("ec2"), own_sandbox.client("iam")
    _, subnets = make_network(own_sandbox)
    allocation = ec2.allocate_address(Domain="vpc")["AllocationId"]
    gateway = ec2.create_nat_gateway(SubnetId=subnets[0], AllocationId=allocation)["NatGateway"][
        "NatGatewayId"
    ]
    ec2.get_waiter("nat_gateway_available").wait(NatGatewayIds=[gateway], WaiterConfig={"Delay": 1})
    own_sandbox.client("elbv2").create_load_balancer(Name="lb", Subnets=subnets)
    iam.create_user(UserName="someone")
    made = iam.create_access_key(UserName="someone")["AccessKey"]
    s3 = own_sandbox.client("s3")
    s3.create_bucket(Bucket="kept")
    s3.put_object(Bucket="kept", Key="k", Body=os.urandom(100_000))
    assert error_code(ec2.create_subnet, VpcId="vpc-0", CidrBlock="10.9.0.0/24") == "InvalidVpcID.NotFound"
    vpc = ec2.create_vpc(CidrBlock="10.7.0.0/16")["Vpc"]["VpcId"]
    before = everything(own_sandbox)
    own_sandbox.kill()
    # The kill came in the middle of writing the next record.
    with (own_sandbox.directory / "journal").open("ab") as journal:
        journal.write(b'{"sequence": 99, "time": 1.0, "detail": {"kind": "requ')
    own_sandbox.start()
    assert everything(own_sandbox) == before
    user = own_sandbox.client("sts", key=made["AccessKeyId"], secret=made["SecretAccessKey"])
    assert user.get_caller_identity()["Arn"].endswith(":user/someone")
    ec2.delete_vpc(VpcId=vpc)
    own_sandbox.kill()
    own_sandbox.start()
    assert vpc not in str(ec2.describe_vpcs())


def test_what_is_kept_is_for_its_owner_only(sandbox: Sandbox) -> None:
    for name in ("journal", "salt"):
        assert stat.S_IMODE((sandbox.directory / name).stat().st_mode) == 0o600


def test_without_keys_or_folder_it_makes_its_own_and_leaves_nothing(tmp_path: Path, sandbox: Sandbox) -> None:
    environment = {key: value for key, value in sandbox.environment.items() if not key.startswith("AWS_")} | {
        "TMPDIR": str(tmp_path)
    }
    argv = [sys.executable, "-m", "sandbox.aws", "--port", "4599", "--block", str(sandbox.block)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env=environment, cwd=ROOT, text=True) as process:
        assert process.stdout is not None
        assert '"access_key_id": "AKIA' in process.stdout.readline()
        assert list(tmp_path.iterdir())
        process.terminate()
        assert process.wait(20) == 0
    assert not list(tmp_path.iterdir())


def test_port_in_use_is_one_clear_line(sandbox: Sandbox, tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "sandbox.aws", "--port", str(PORT), "--block", str(sandbox.block)]
    done = subprocess.run(
        [*argv, "--dir", str(tmp_path)],
        capture_output=True,
        text=True,
        env=sandbox.environment,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert f"port {PORT} of 127.{sandbox.block}.0.1 is in use on this machine" in done.stderr
    assert "Traceback" not in done.stderr


def test_full_disk_leaves_the_journal_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path / "journal")
    assert list(journal.records()) == []
    journal.append(Record(1, 1.0, {"a": 1}, b"body\nwith lines"))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            journal.append(Record(2, 2.0, {"a": 2}))
    journal.append(Record(3, 3.0, {"a": 3}))
    journal.close()
    assert [record.sequence for record in Journal(tmp_path / "journal").records()] == [1, 3]


def test_two_sandboxes_do_not_share_ids(sandbox: Sandbox, own_sandbox: Sandbox) -> None:
    ids = {
        each.client("ec2").create_vpc(CidrBlock="10.3.0.0/16")["Vpc"]["VpcId"]
        for each in (sandbox, own_sandbox)
    }
    assert len(ids) == 2
    with socket.socket() as probe:  # it listens on its own address only
        assert probe.connect_ex((f"127.{own_sandbox.block}.0.9", PORT)) != 0
