"""A CodeBuild project with its log and a role that may do what its build does, and no more."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pulumi
import pulumi_aws as aws

from infra import naming
from infra.options import child

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_LOG_RETENTION_DAYS = 30
_QUEUE_MINUTES = 30  # CodeBuild's default is 8 hours, and `up` waits
_MARGIN_MINUTES = 5  # CodeBuild's own end of a build comes first: it says more
_BUILDER = "aws/codebuild/amazonlinux-x86_64-standard:5.0"


@dataclass(frozen=True)
class BuildProject:
    """A project, and what a build of it needs.

    Attributes:
        name: the project's name.
        needs: what must be there before a build starts and until it has ended.
        wait_minutes: how long a build may take, its time in the queue included.
    """

    name: pulumi.Output[str]
    needs: tuple[pulumi.Resource, ...]
    wait_minutes: int

    def minutes(self) -> int:
        """Return the timeout of a resource that waits for a build: the resource's own words come first."""
        return self.wait_minutes + _MARGIN_MINUTES


def build_project(
    parent: pulumi.Resource,
    name: str,
    *,
    names: naming.Names,
    project_name: str,
    description: str,
    source: Mapping[str, pulumi.Input[str]],
    variables: Mapping[str, pulumi.Input[str]],
    secrets: Mapping[str, pulumi.Input[str]],
    statements: Sequence[Mapping[str, Any]],
    timeout_minutes: int,
    docker: bool,
    after: Sequence[pulumi.Resource] = (),
) -> BuildProject:
    """Return a project that runs a buildspec on a machine with 8 CPUs and 128 GB of disk.

    Args:
        parent: the component that needs it.
        name: the beginning of the logical names, and of the role's name.
        names: the stack's names.
        project_name: the project's name, and its log's.
        description: what its builds make.
        source: where the source is, with the buildspec.
        variables: what the buildspec reads from its environment.
        secrets: the same, of what is in no log and no description of the project: CodeBuild itself takes
            them from encrypted parameters.
        statements: what its role may do, besides writing the log and reading the secrets.
        timeout_minutes: how long a build may take.
        docker: whether it builds images.
        after: what else a build needs.
    """
    logs = aws.cloudwatch.LogGroup(
        f"{name}-logs",
        name=f"/aws/codebuild/{project_name}",
        retention_in_days=_LOG_RETENTION_DAYS,
        opts=child(parent, delete_before_replace=True),
    )
    parameters = {
        variable: aws.ssm.Parameter(
            f"{name}-{variable.lower().replace('_', '-')}",
            name=f"/{names.project}/{names.stack}/{name}/{variable}",
            type="SecureString",
            value=pulumi.Output.secret(value),
            opts=child(parent, delete_before_replace=True),
        )
        for variable, value in secrets.items()
    }
    role = aws.iam.Role(
        f"{name}-builder",
        name=names.of(f"{name}-builder", naming.IAM_ROLE_LENGTH),
        assume_role_policy=json.dumps(
            {
                "Version": "2012-10-17",
                "Statement": [
                    {
                        "Effect": "Allow",
                        "Principal": {"Service": "codebuild.amazonaws.com"},
                        "Action": "sts:AssumeRole",
                    }
                ],
            }
        ),
        opts=child(parent, delete_before_replace=True),
    )
    allowed: list[Mapping[str, Any]] = [
        *statements,
        {
            "Effect": "Allow",
            "Action": ["logs:CreateLogStream", "logs:PutLogEvents"],
            "Resource": pulumi.Output.concat(logs.arn, ":*"),
        },
    ]
    if parameters:
        # The key of SSM's own serves whoever may read the parameter.
        allowed.append(
            {
                "Effect": "Allow",
                "Action": "ssm:GetParameters",
                "Resource": [parameter.arn for parameter in parameters.values()],
            }
        )
    rights = aws.iam.RolePolicy(
        f"{name}-builder-rights",
        role=role.name,
        policy=pulumi.Output.json_dumps({"Version": "2012-10-17", "Statement": allowed}),
        opts=child(parent),
    )
    project = aws.codebuild.Project(
        f"{name}-project",
        name=project_name,
        description=description,
        service_role=role.arn,
        build_timeout=timeout_minutes,
        queued_timeout=_QUEUE_MINUTES,
        artifacts={"type": "NO_ARTIFACTS"},
        source=dict(source),
        environment={
            "type": "LINUX_CONTAINER",
            "image": _BUILDER,
            "compute_type": "BUILD_GENERAL1_LARGE",
            "privileged_mode": docker,  # docker in a container
            "environment_variables": [
                *({"name": key, "value": value} for key, value in variables.items()),
                *(
                    {"name": key, "type": "PARAMETER_STORE", "value": parameter.name}
                    for key, parameter in parameters.items()
                ),
            ],
        },
        logs_config={"cloudwatch_logs": {"group_name": logs.name}},
        opts=child(parent, after=[rights, *after], delete_before_replace=True),
    )
    return BuildProject(
        project.name,
        (project, rights, *parameters.values(), *after),
        _QUEUE_MINUTES + timeout_minutes + _MARGIN_MINUTES,
    )
