"""What the clouds would answer to the program: to its questions, and about what it makes."""

from __future__ import annotations

from typing import Any

from pulumi.runtime import mocks

ACCOUNT = "123456789012"
SANDBOX_ENDPOINT = "http://127.77.0.1:4566"
GENERATED_KEY = "sk-generated"

_ZONES = [f"us-east-1{letter}" for letter in "abcd"]
_VERSIONS = ("1.34", "1.35", "1.36")
_CALLER = f"arn:aws:sts::{ACCOUNT}:assumed-role/deployer/me"
_RUNPOD = "https://abc.api.runpod.example"


def _subnet(id_: str) -> dict[str, Any]:
    """Return a subnet of a VPC that is there already; neighbours in number are in other zones."""
    number = int(id_[-1], 16)
    return {
        "id": id_,
        "vpcId": "vpc-0123456789abcdef0",
        "cidrBlock": f"10.9.{number * 4}.0/24",
        "availabilityZone": _ZONES[number % 2],
        "availabilityZoneId": f"use1-az{number % 2 + 1}",
        "availableIpAddressCount": 250,
    }


def _answers(given: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        "aws:index/getCallerIdentity:getCallerIdentity": {
            "id": ACCOUNT,
            "accountId": ACCOUNT,
            "arn": _CALLER,
            "userId": "me",
        },
        "aws:iam/getSessionContext:getSessionContext": {
            "id": _CALLER,
            "arn": _CALLER,
            "issuerArn": f"arn:aws:iam::{ACCOUNT}:role/deployer",
            "issuerId": "me",
            "issuerName": "deployer",
            "sessionName": "me",
        },
        "aws:index/getAvailabilityZones:getAvailabilityZones": {
            "id": "us-east-1",
            "names": _ZONES,
            "zoneIds": _ZONES,
            "groupNames": [],
        },
        "aws:eks/getClusterVersions:getClusterVersions": {
            "id": "us-east-1",
            "clusterVersions": [
                {"clusterVersion": version, "versionStatus": "STANDARD_SUPPORT"} for version in _VERSIONS
            ],
        },
        "aws:eks/getAddonVersion:getAddonVersion": {
            "id": given.get("addonName"),
            "version": "v1.2.3-eksbuild.1",
        },
        "aws:ec2/getVpc:getVpc": {
            "id": given.get("id"),
            "cidrBlock": "10.9.0.0/16",
            "enableDnsHostnames": True,
            "enableDnsSupport": True,
        },
    }


# Type -> the outputs that the program reads, beside its inputs, `id` and `arn`.
_MADE: dict[str, dict[str, Any]] = {
    "aws:ecr/repository:Repository": {"repositoryUrl": f"{ACCOUNT}.dkr.ecr.example/berth"},
    "aws:eks/cluster:Cluster": {
        "endpoint": "https://cluster.example",
        "certificateAuthority": {"data": "Q0E="},
        "vpcConfig": {"clusterSecurityGroupId": "sg-cluster"},
    },
    "aws:ec2/launchTemplate:LaunchTemplate": {"latestVersion": 1},
    "aws:lb/loadBalancer:LoadBalancer": {"dnsName": "lb.example"},
    "pulumi-python:dynamic/image:Build": {"digest": "sha256:" + "a" * 64},
    "pulumi-python:dynamic/sandbox:Clouds": {
        "aws_endpoint": SANDBOX_ENDPOINT,
        "runpod_url": "http://127.77.0.2:4567/v2",
    },
    "pulumi-python:dynamic/runpod:Endpoint": {"url": _RUNPOD, "health": f"{_RUNPOD}/ping"},
}


class Cloud(mocks.Mocks):
    """Answers as the clouds would; in a preview, resources have no outputs yet.

    Args:
        preview: whether nothing is made.
        generated_key: the API key where the program has one generated.
    """

    def __init__(self, preview: bool, generated_key: str = GENERATED_KEY) -> None:
        self.preview, self._generated_key = preview, generated_key

    def call(self, args: mocks.MockCallArgs) -> dict[str, Any]:  # type: ignore[override]  # both are taken
        """Answer a question."""
        if args.token == "aws:ec2/getSubnet:getSubnet":  # noqa: S105  # Pulumi's word for a function's name
            return _subnet(args.args["id"])
        answers = _answers(args.args)
        if args.token not in answers:
            raise LookupError(f"the program asks {args.token}")
        return {**args.args, **answers[args.token]}

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        """Answer with what a new resource would be."""
        if self.preview:
            return None, dict(args.inputs)
        made = {"arn": f"arn:aws:mock:us-east-1:{ACCOUNT}:{args.name}", **_MADE.get(args.typ, {})}
        if args.typ == "aws:eks/nodeGroup:NodeGroup":
            made["resources"] = [{"autoscalingGroups": [{"name": f"{args.name}-asg"}]}]
        if args.typ == "pulumi-python:dynamic/credentials:ApiKey":
            made["key"] = self._generated_key
        return f"{args.name}-id", {**args.inputs, **made}


class ObligingCloud(Cloud):
    """Has whatever a stack file names: its version of Kubernetes, its VPC, subnets in zones of their own.

    Args:
        kubernetes_version: the one that is supported.
        vpc_id: the VPC that subnets are in.
    """

    def __init__(self, kubernetes_version: str, vpc_id: str) -> None:
        super().__init__(preview=False)
        self._version, self._vpc_id = kubernetes_version, vpc_id
        self._asked: list[str] = []

    def call(self, args: mocks.MockCallArgs) -> dict[str, Any]:  # type: ignore[override]  # both are taken
        """Answer a question."""
        found = super().call(args)
        function = args.token.rpartition(":")[2]
        if function == "getClusterVersions":
            supported = [{"clusterVersion": self._version, "versionStatus": "STANDARD_SUPPORT"}]
            return {**found, "clusterVersions": supported}
        if function != "getSubnet":
            return found
        if found["id"] not in self._asked:
            self._asked.append(found["id"])
        number = self._asked.index(found["id"])
        return {
            **found,
            "vpcId": self._vpc_id,
            "cidrBlock": f"10.9.{number * 4}.0/24",
            "availabilityZone": f"zone-{number}",
            "availabilityZoneId": f"zone-id-{number}",
        }
