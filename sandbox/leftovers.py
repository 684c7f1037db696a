"""What the sandbox's clouds still hold: asked before they go, as nobody can see it afterwards.

It looks at every kind of object that a stack makes or makes AWS make, whoever made it and however it is
tagged. It asks by the clouds' own APIs, and changes nothing.
"""

from __future__ import annotations

from typing import Any

import boto3
import httpx
import jmespath
from botocore.exceptions import BotoCoreError, ClientError

NO_ANSWER = (BotoCoreError, ClientError, httpx.HTTPError)
"""What a cloud that does not answer, or refuses to, makes these functions raise."""

# Service, operation, and what of its answer is left. What every account has is not: the default VPC, AWS's
# own keys and service-linked roles; nor are keys that wait for their deletion, which takes a week at least.
_QUESTIONS = (
    ("ec2", "describe_vpcs", "Vpcs[?!IsDefault].VpcId"),
    ("ec2", "describe_instances", "Reservations[].Instances[?State.Name!='terminated'][].InstanceId"),
    ("ec2", "describe_network_interfaces", "NetworkInterfaces[].NetworkInterfaceId"),
    ("ec2", "describe_volumes", "Volumes[].VolumeId"),
    ("ec2", "describe_addresses", "Addresses[].AllocationId"),
    ("ec2", "describe_nat_gateways", "NatGateways[?State!='deleted'].NatGatewayId"),
    ("ec2", "describe_vpc_endpoints", "VpcEndpoints[?State!='deleted'].VpcEndpointId"),
    ("ec2", "describe_launch_templates", "LaunchTemplates[].LaunchTemplateName"),
    ("ec2", "describe_flow_logs", "FlowLogs[].FlowLogId"),
    ("autoscaling", "describe_auto_scaling_groups", "AutoScalingGroups[].AutoScalingGroupName"),
    ("elbv2", "describe_load_balancers", "LoadBalancers[].LoadBalancerName"),
    ("elbv2", "describe_target_groups", "TargetGroups[].TargetGroupName"),
    ("eks", "list_clusters", "clusters"),
    ("ecr", "describe_repositories", "repositories[].repositoryName"),
    ("codebuild", "list_projects", "projects"),
    ("s3", "list_buckets", "Buckets[].Name"),
    ("logs", "describe_log_groups", "logGroups[].logGroupName"),
    ("iam", "list_roles", "Roles[?!starts_with(Path, '/aws-service-role/')].RoleName"),
    ("ssm", "describe_parameters", "Parameters[].Name"),
)


# Path, and the key of the list in its answer.
_RUNPOD_LISTS = (
    ("serverless", "endpoints"),
    ("network-volumes", "networkVolumes"),
    ("registries", "registries"),
    ("registries/delegations", "delegations"),
)


def on_aws(*, endpoint: str, region: str, access_key_id: str, secret_access_key: str) -> list[str]:
    """Return what is left in the account, each as "service operation name"; empty if there is nothing.

    Args:
        endpoint: the sandbox's AWS.
        region: the only region with anything in it.
        access_key_id: of a principal that may look at everything.
        secret_access_key: the same principal's.
    """
    session = boto3.Session(
        aws_access_key_id=access_key_id, aws_secret_access_key=secret_access_key, region_name=region
    )

    def ask(service: str, operation: str, wanted: str, **parameters: Any) -> list[str]:
        answer = getattr(session.client(service, endpoint_url=endpoint), operation)(**parameters)
        return [f"{service} {operation} {name}" for name in jmespath.search(wanted, answer) or ()]

    account = session.client("sts", endpoint_url=endpoint).get_caller_identity()["Account"]
    found = [item for question in _QUESTIONS for item in ask(*question)]
    found += ask("budgets", "describe_budgets", "Budgets[].BudgetName", AccountId=account)
    found += ask("wafv2", "list_web_acls", "WebACLs[].Name", Scope="REGIONAL")
    kms = session.client("kms", endpoint_url=endpoint)
    for key in kms.list_keys()["Keys"]:
        described = kms.describe_key(KeyId=key["KeyId"])["KeyMetadata"]
        if described["KeyManager"] == "CUSTOMER" and described["KeyState"] != "PendingDeletion":
            found.append(f"kms list_keys {key['KeyId']} ({described['Description']})")
    return found


def on_runpod(*, url: str, key: str) -> list[str]:
    """Return what is left in RunPod's account, each as "RunPod list name"; empty if there is nothing.

    Args:
        url: base URL of REST v2.
        key: the account's API key.
    """
    with httpx.Client(headers={"Authorization": f"Bearer {key}"}, trust_env=False) as http:
        return [
            f"RunPod {path} {item['name']}"
            for path, name in _RUNPOD_LISTS
            for item in http.get(f"{url}/{path}").raise_for_status().json()[name]
        ]
