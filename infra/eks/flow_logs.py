"""Records of the VPC's traffic, in a log group of ours."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pulumi
import pulumi_aws as aws

from infra import naming
from infra.options import child

if TYPE_CHECKING:
    from infra.naming import Names
    from infra.settings import FlowLogSettings


class FlowLogs(pulumi.ComponentResource):
    """A flow log of a whole VPC, the log group that it fills and the role that lets it.

    Args:
        name: the logical name.
        names: the stack's names.
        settings: the stack file's section `eks.network.flow_logs`.
        retention_days: how long records are kept.
        vpc: the VPC.
        opts: must give an AWS provider.
    """

    def __init__(
        self,
        name: str,
        *,
        names: Names,
        settings: FlowLogSettings,
        retention_days: int,
        vpc: aws.ec2.Vpc,
        opts: pulumi.ResourceOptions,
    ) -> None:
        super().__init__("berth:eks:FlowLogs", name, None, opts)
        group = aws.cloudwatch.LogGroup(
            f"{name}-group",
            name=f"/aws/vpc/{names.base}/flow-logs",
            retention_in_days=retention_days,
            opts=child(self, delete_before_replace=True),
        )
        role = aws.iam.Role(
            f"{name}-role",
            name=names.of("flow-logs", naming.IAM_ROLE_LENGTH),
            assume_role_policy=vpc.owner_id.apply(_only_for),
            opts=child(self, delete_before_replace=True),
        )
        # Not the right to make groups: the last records would make this one again after its deletion.
        rights = aws.iam.RolePolicy(
            f"{name}-write",
            role=role.id,
            policy=pulumi.Output.json_dumps(
                {
                    "Version": "2012-10-17",
                    "Statement": [
                        {
                            "Effect": "Allow",
                            "Action": [
                                "logs:CreateLogStream",
                                "logs:DescribeLogGroups",
                                "logs:DescribeLogStreams",
                                "logs:PutLogEvents",
                            ],
                            "Resource": pulumi.Output.concat(group.arn, ":*"),
                        }
                    ],
                }
            ),
            opts=child(self),
        )
        aws.ec2.FlowLog(
            f"{name}-log",
            vpc_id=vpc.id,
            traffic_type=settings.traffic,
            log_destination_type="cloud-watch-logs",
            log_destination=group.arn,
            iam_role_arn=role.arn,
            tags={"Name": names.base},
            # AWS refuses a second one of the same VPC into the same group.
            opts=child(self, after=[rights], minutes=10, delete_before_replace=True),
        )
        self.register_outputs({"group": group.name})


def _only_for(account: str) -> str:
    """Return the trust in the service, for flow logs of this account and no other's."""
    return json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": {"Service": "vpc-flow-logs.amazonaws.com"},
                    "Action": "sts:AssumeRole",
                    "Condition": {"StringEquals": {"aws:SourceAccount": account}},
                }
            ],
        }
    )
