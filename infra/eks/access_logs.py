"""The load balancer's access logs: a bucket of the stack that Elastic Load Balancing may write to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pulumi
import pulumi_aws as aws

from infra.bucket import private_bucket
from infra.options import child

if TYPE_CHECKING:
    from infra.naming import Names

PREFIX = "load-balancer"
_WRITER = "logdelivery.elasticloadbalancing.amazonaws.com"


@dataclass(frozen=True)
class AccessLogs:
    """Where a load balancer writes its logs.

    Attributes:
        bucket: the bucket's name.
        ready: what must be there before a load balancer writes: it tries at once, and refuses otherwise.
    """

    bucket: pulumi.Output[str]
    ready: list[pulumi.Resource]


def access_logs(
    parent: pulumi.Resource,
    name: str,
    *,
    names: Names,
    account_id: pulumi.Input[str],
    retention_days: int,
    keep: bool,
) -> AccessLogs:
    """Return a bucket for the logs of the account's load balancers.

    Args:
        parent: the component of the load balancer.
        name: the logical name.
        names: the stack's names.
        account_id: the account.
        retention_days: when a log is deleted.
        keep: whether AWS refuses to delete the bucket while logs are in it.
    """
    bucket, closed = private_bucket(
        parent,
        name,
        names=names,
        what="access-logs",
        account_id=account_id,
        force_destroy=not keep,
        expire_after_days=retention_days,
    )
    policy = aws.s3.BucketPolicy(
        f"{name}-policy",
        bucket=bucket.id,
        # In the path is the account whose load balancer writes: nobody else's can.
        # Source: Elastic Load Balancing, "Access logs for your Application Load Balancer".
        policy=pulumi.Output.json_dumps(
            {
                "Version": "2012-10-17",
                "Statement": [
                    {
                        "Effect": "Allow",
                        "Principal": {"Service": _WRITER},
                        "Action": "s3:PutObject",
                        "Resource": pulumi.Output.concat(bucket.arn, f"/{PREFIX}/AWSLogs/", account_id, "/*"),
                    }
                ],
            }
        ),
        opts=child(parent, after=closed),
    )
    return AccessLogs(bucket.bucket, [*closed, policy])
