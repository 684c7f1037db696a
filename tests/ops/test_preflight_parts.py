"""What a preflight says of quotas, machines, networks and RunPod, and the table of IAM's actions."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from ops.preflight import actions, machines, network, quotas, runpod
from sandbox.aws.errors import service_model
from tests.infra.graph import STACKS
from tests.infra.variants import VARIANTS, recorded
from tests.ops.preflight_accounts import (
    accounts,
    asked,
    region,
    settings_with,
    somebody,
)
from tests.runpod.conftest import KEY, body
from tests.sandbox_aws.support import admin, make_network
from tests.sandbox_aws.test_loadbalancer import certificate

if TYPE_CHECKING:
    from ops.preflight.findings import Finding
    from tests.ops.accounts import Clouds

__all__ = ["accounts", "somebody"]  # fixtures


def test_a_quota_of_nothing_and_one_that_others_use_are_a_no_with_the_request(somebody: Clouds) -> None:
    group = {"instance_types": ["g6.2xlarge", "g6.xlarge"], "desired": 1, "max": 2}
    settings = settings_with("eks.gpu_node_groups", {"gpu": group})
    graph = recorded("dev", False)
    name = "quota of on-demand G and VT vCPUs"
    admin(somebody.aws, "PUT", "faults", {"quotas": {"L-DB2E81BA": 0}})
    none = asked(quotas.checks(settings, region(), graph))
    assert none[name].answer == "no"
    assert "the stack needs 8 at once, 16 at its groups' max" in none[name].seen
    assert none[name].fix == (
        "aws service-quotas request-service-quota-increase --service-code ec2 --quota-code L-DB2E81BA"
        " --desired-value 16 --region us-east-1"
    )
    assert none["quota of on-demand A, C, D, H, I, M, R, T, Z vCPUs"].answer == "yes"
    admin(somebody.aws, "PUT", "faults", {"quotas": {"L-DB2E81BA": 20}})
    assert asked(quotas.checks(settings, region(), graph))[name].answer == "yes"
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
    assert asked(quotas.checks(settings, region(), graph))[name].answer == "yes"
    theirs = run()
    used = asked(quotas.checks(settings, region(), graph))[name]
    ec2.terminate_instances(InstanceIds=[ours, theirs])
    admin(somebody.aws, "DELETE", "faults")
    assert used.answer == "no"
    assert "20 vCPUs (L-DB2E81BA), 8 used by others" in used.seen
    assert "--desired-value 24" in used.fix


@pytest.mark.usefixtures("somebody")
def test_a_region_without_the_instance_type_is_a_no() -> None:
    found = asked(machines.checks(settings_with("aws.region", "us-west-1"), region("us-west-1")))
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
    settings = settings_with("eks.gpu_node_groups", {"gpu": group})
    found = asked(machines.checks(settings, region()))
    assert found["Kubernetes version"].answer == "yes"
    assert found["gpu_node_groups.gpu: machine image"].answer == "no"
    assert "AL2023_x86_64_NVIDIA 1.35.6-20200101" in found["gpu_node_groups.gpu: machine image"].seen
    assert found["gpu_node_groups.gpu: capacity block"].answer == "no"
    old = asked(machines.checks(settings_with("eks.kubernetes_version", "1.33"), region()))
    assert old["Kubernetes version"].answer == "no"
    assert "1.36" in old["Kubernetes version"].fix
    rocket = {"instance_types": ["g6.xlarge"], "operating_system": "BOTTLEROCKET"}
    given = asked(
        machines.checks(
            settings_with("eks.gpu_node_groups", {"gpu": {**rocket, "release_version": "1.59.0-3e1c4d2a"}}),
            region(),
        )
    )
    assert given["gpu_node_groups.gpu: machine image"].answer == "yes"


def _certificate(arn: str, host: str = "model.example.com") -> Finding:
    balancer = {"internal": True, "certificate_arn": arn, "host_name": host}
    return asked(network.checks(settings_with("eks.load_balancer", balancer), region()))["certificate"]


def test_a_certificate_must_be_issued_in_the_region_for_the_name(somebody: Clouds) -> None:
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


def test_an_existing_network_is_looked_at_as_the_program_does(somebody: Clouds) -> None:
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

    def looked_at(nodes: list[str], balancer: list[str]) -> Finding:
        existing = {"vpc_id": vpc, "node_subnet_ids": nodes, "load_balancer_subnet_ids": balancer}
        settings = settings_with("eks.network", {"existing": existing})
        return asked(network.checks(settings, region()))["VPC"]

    assert looked_at(subnets, more[:2]).answer == "yes"
    small = looked_at(subnets, [more[0], more[2]])
    assert small.answer == "no"
    assert "a load balancer wants /27 or larger" in small.seen
    gone = looked_at([subnets[0], "subnet-0123456789abcdef0"], more[:2])
    assert gone.answer == "no"
    assert "InvalidSubnetID.NotFound" in gone.seen  # moto names any of them


def _runpod(accounts: Clouds, path: str, value: Any) -> dict[str, Finding]:
    return asked(runpod.checks(settings_with(path, value), accounts.runpod.cloud.endpoint, KEY))


def test_workers_beyond_what_every_account_has_are_not_known(accounts: Clouds) -> None:
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


def test_a_pool_that_no_data_center_has_and_one_that_is_none_are_a_no(accounts: Clouds) -> None:
    nowhere = _runpod(accounts, "runpod.data_center_ids", ["US-WA-1"])
    assert nowhere["GPUs"].answer == "no"
    assert "is to be had in US-WA-1 now" in nowhere["GPUs"].seen
    assert nowhere["data centers"].answer == "yes"
    assert _runpod(accounts, "runpod.data_center_ids", ["EU-XX-9"])["data centers"].answer == "no"
    volume = [{"data_center_id": "US-WA-1", "size_gib": 10, "type": "HIGH_PERFORMANCE"}]
    assert "EU-RO-1" in _runpod(accounts, "runpod.volumes", volume)["data centers"].fix


def test_a_cuda_floor_below_the_image_s_and_one_that_no_host_has_are_a_no(accounts: Clouds) -> None:
    low = _runpod(accounts, "runpod.min_cuda_version", "12.4")["CUDA"]
    assert low.answer == "no"
    assert "vLLM's image is built for 13.0" in low.seen
    assert _runpod(accounts, "runpod.min_cuda_version", "13.9")["CUDA"].answer == "no"


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
