"""IAM roles for a service of AWS, with the managed policies they need."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pulumi_aws as aws

from infra import naming
from infra.options import child

if TYPE_CHECKING:
    import pulumi


def role(
    parent: pulumi.Resource, name: str, *, names: naming.Names, what: str, service: str, policies: list[str]
) -> tuple[aws.iam.Role, list[aws.iam.RolePolicyAttachment]]:
    """Return a role that `service` may take, and its attachments: who uses the role must wait for them.

    Args:
        parent: the component that needs it.
        name: the logical name.
        names: the stack's names.
        what: the role's purpose, for its name.
        service: such as "eks.amazonaws.com".
        policies: names of policies managed by AWS.
    """
    made = aws.iam.Role(
        name,
        name=names.of(what, naming.IAM_ROLE_LENGTH),
        assume_role_policy=json.dumps(
            {
                "Version": "2012-10-17",
                "Statement": [
                    {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
                ],
            }
        ),
        opts=child(parent, delete_before_replace=True),
    )
    attachments = [
        aws.iam.RolePolicyAttachment(
            f"{name}-{policy}",
            role=made.name,
            policy_arn=f"arn:aws:iam::aws:policy/{policy}",
            opts=child(parent),
        )
        for policy in policies
    ]
    return made, attachments
