"""AWS as a node and its pods see it: moto's API, addresses, Pod Identity's associations and credentials."""

from __future__ import annotations

import base64
import json
import threading
from typing import TYPE_CHECKING, Any

import boto3
from werkzeug.serving import make_server

if TYPE_CHECKING:
    from collections.abc import Iterable

REGION = "us-east-1"
_CREDENTIALS = {"aws_access_key_id": "AKIATEST", "aws_secret_access_key": "test", "region_name": REGION}


class Aws:
    """One account, with one VPC."""

    def __init__(self) -> None:
        self.addresses: dict[str, str] = {}
        self.associations: set[str] = set()
        self.credentials_for: list[dict[str, Any]] = []
        # Seconds to import, and most tests need none of it.
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

        self._moto = DomainDispatcherApplication(create_backend_app)
        # Not 127.0.0.1, which is a container's own.
        self._server = make_server("127.1.1.1", 0, self._application, threaded=True)
        self.url = f"http://127.1.1.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()

    def client(self, service: str) -> Any:
        return boto3.client(service, endpoint_url=self.url, **_CREDENTIALS)

    def _application(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if not path.startswith("/_sandbox/"):
            answer: Iterable[bytes] = self._moto(environ, start_response)
            return answer
        status, body = self._answer(path, environ)
        start_response(status, [("Content-Type", "application/json")])
        return [json.dumps(body).encode()]

    def _answer(self, path: str, environ: dict[str, Any]) -> tuple[str, Any]:
        if path == "/_sandbox/addresses":
            return "200 OK", self.addresses
        if path == "/_sandbox/eks/test/pod-identity-credentials":
            token = environ.get("HTTP_AUTHORIZATION", "")
            claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
            self.credentials_for.append(claims)
            key = {"AccessKeyId": "ASIATEST", "SecretAccessKey": "test", "Token": "session"}
            return "200 OK", {**key, "AccountId": "1", "Expiration": "2099-01-01T00:00:00Z"}
        account = path.removeprefix("/_sandbox/eks/test/pod-identity/")
        return ("200 OK", {}) if account in self.associations else ("404 Not Found", {})

    def node_group(self, name: str, instance_type: str, maximum: int, **eks: Any) -> str:
        """Make an EKS node group without nodes, and the Auto Scaling group that EKS makes for it."""
        ec2, eks_client = self.client("ec2"), self.client("eks")
        subnets = [each["SubnetId"] for each in ec2.describe_subnets()["Subnets"]][:2]
        if "test" not in eks_client.list_clusters()["clusters"]:
            vpc = {"subnetIds": subnets}
            eks_client.create_cluster(
                name="test", roleArn="arn:aws:iam::123456789012:role/c", resourcesVpcConfig=vpc
            )
        eks_client.create_nodegroup(
            clusterName="test",
            nodegroupName=name,
            subnets=subnets,
            nodeRole="arn:aws:iam::123456789012:role/n",
            scalingConfig={"minSize": 0, "maxSize": maximum, "desiredSize": 0},
            **eks,
        )
        template = ec2.create_launch_template(
            LaunchTemplateName=name,
            LaunchTemplateData={"InstanceType": instance_type, "ImageId": "ami-12c6146b"},
        )["LaunchTemplate"]["LaunchTemplateId"]
        tags = {
            "eks:cluster-name": "test",
            "eks:nodegroup-name": name,
            "k8s.io/cluster-autoscaler/enabled": "true",
            "k8s.io/cluster-autoscaler/test": "owned",
        }
        self.client("autoscaling").create_auto_scaling_group(
            AutoScalingGroupName=name,
            MinSize=0,
            MaxSize=maximum,
            DesiredCapacity=0,
            LaunchTemplate={"LaunchTemplateId": template, "Version": "$Default"},
            VPCZoneIdentifier=",".join(subnets),
            Tags=[{"Key": key, "Value": value, "PropagateAtLaunch": True} for key, value in tags.items()],
        )
        return name

    def group(self, name: str) -> dict[str, Any]:
        groups = self.client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[name])
        found: dict[str, Any] = groups["AutoScalingGroups"][0]
        return found
