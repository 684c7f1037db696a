"""What the sandbox answers to who asks before anything is made, where moto has no answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sandbox_aws.support import Sandbox

DEPLOYER = "arn:aws:iam::123456789012:user/deployer"


def _refusal(ask: Callable[[], Any]) -> str:
    with pytest.raises(ClientError) as caught:
        ask()
    code: str = caught.value.response["Error"]["Code"]
    return code


def test_iam_simulates_users_and_roles_and_nothing_else(sandbox: Sandbox) -> None:
    iam = sandbox.client("iam")

    def simulate(arn: str, action: str = "ec2:CreateVpc") -> Any:
        return iam.simulate_principal_policy(PolicySourceArn=arn, ActionNames=[action])

    [result] = simulate(DEPLOYER)["EvaluationResults"]
    assert (result["EvalActionName"], result["EvalDecision"]) == ("ec2:CreateVpc", "allowed")
    session = "arn:aws:sts::123456789012:assumed-role/deployer/me"
    assert _refusal(lambda: simulate(session)) == "InvalidInput"
    assert _refusal(lambda: simulate(f"{DEPLOYER}-of-nobody")) == "NoSuchEntity"
    assert _refusal(lambda: simulate(DEPLOYER, "CreateVpc")) == "InvalidInput"


def test_a_user_without_a_policy_may_do_nothing_until_its_group_may(sandbox: Sandbox) -> None:
    iam = sandbox.client("iam")
    arn = iam.create_user(UserName="reader")["User"]["Arn"]

    def decision() -> str:
        answer = iam.simulate_principal_policy(PolicySourceArn=arn, ActionNames=["ec2:DescribeVpcs"])
        said: str = answer["EvaluationResults"][0]["EvalDecision"]
        return said

    assert decision() == "implicitDeny"
    iam.create_group(GroupName="readers")
    iam.attach_group_policy(GroupName="readers", PolicyArn="arn:aws:iam::aws:policy/ReadOnlyAccess")
    iam.add_user_to_group(GroupName="readers", UserName="reader")
    assert decision() == "allowed"


def test_ids_of_machine_images_are_public_parameters(sandbox: Sandbox) -> None:
    ssm = sandbox.client("ssm")
    folder = "/aws/service/eks/optimized-ami/1.35/amazon-linux-2023/x86_64/nvidia"
    newest, of_the_day = (
        ssm.get_parameter(Name=f"{folder}/{release}/image_id")["Parameter"]["Value"]
        for release in ("recommended", "amazon-eks-node-al2023-x86_64-nvidia-1.35-v20261110")
    )
    assert newest == of_the_day
    old = f"{folder}/amazon-eks-node-al2023-x86_64-nvidia-1.35-v20200101/image_id"
    assert _refusal(lambda: ssm.get_parameter(Name=old)) == "ParameterNotFound"
    rocket = "/aws/service/bottlerocket/aws-k8s-1.35-nvidia/x86_64/latest/image_id"
    assert ssm.get_parameter(Name=rocket)["Parameter"]["Value"].startswith("ami-")


def test_nobody_has_a_capacity_block(sandbox: Sandbox) -> None:
    ec2 = sandbox.client("ec2")
    assert ec2.describe_capacity_reservations()["CapacityReservations"] == []
    named = {"CapacityReservationIds": ["cr-0123456789abcdef0"]}
    refused = _refusal(lambda: ec2.describe_capacity_reservations(**named))
    assert refused == "InvalidCapacityReservationId.NotFound"


def test_machines_and_addresses_have_quotas(sandbox: Sandbox) -> None:
    client = sandbox.client("service-quotas")
    values = {
        code: client.get_service_quota(ServiceCode="ec2", QuotaCode=code)["Quota"]["Value"]
        for code in ("L-DB2E81BA", "L-C4BD4855", "L-0263D0A3")
    }
    assert values == {"L-DB2E81BA": 768.0, "L-C4BD4855": 768.0, "L-0263D0A3": 5.0}
