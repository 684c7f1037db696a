"""The ECR repository that holds the image, and who may pull from it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pulumi
import pulumi_aws as aws

from infra.options import child

if TYPE_CHECKING:
    from infra.naming import Names

# RunPod's side of ECR delegation; source: RunPod's documentation, "Use private ECR images".
_RUNPOD_PRINCIPALS = (
    "arn:aws:iam::550005742258:role/prod-us-east-1-deployment-role",
    "arn:aws:iam::550005742258:role/prod-us-west-2-deployment-role",
)
_KEPT_IMAGES = 10


class Registry(pulumi.ComponentResource):
    """One repository with immutable tags; its images are scanned, and all but the newest ten expire.

    Args:
        name: the logical name.
        names: the stack's names.
        pulled_by_runpod: whether RunPod may pull.
        opts: must give an AWS provider.
    """

    repository: aws.ecr.Repository
    pull_policy: aws.ecr.RepositoryPolicy | None

    def __init__(
        self,
        name: str,
        *,
        names: Names,
        pulled_by_runpod: bool,
        opts: pulumi.ResourceOptions,
    ) -> None:
        super().__init__("berth:infra:Registry", name, None, opts)
        self.repository = aws.ecr.Repository(
            f"{name}-repository",
            name=names.base,
            image_tag_mutability="IMMUTABLE",
            image_scanning_configuration={"scan_on_push": True},
            encryption_configurations=[{"encryption_type": "AES256"}],
            force_delete=True,  # every image in it can be built again
            opts=child(self, minutes=20, delete_before_replace=True),
        )
        aws.ecr.LifecyclePolicy(
            f"{name}-lifecycle",
            repository=self.repository.name,
            policy=json.dumps(
                {
                    "rules": [
                        {
                            "rulePriority": 1,
                            "description": f"Keep the newest {_KEPT_IMAGES} images.",
                            "selection": {
                                "tagStatus": "any",
                                "countType": "imageCountMoreThan",
                                "countNumber": _KEPT_IMAGES,
                            },
                            "action": {"type": "expire"},
                        }
                    ]
                }
            ),
            opts=child(self),
        )
        self.pull_policy = None
        if pulled_by_runpod:
            self.pull_policy = aws.ecr.RepositoryPolicy(
                f"{name}-runpod",
                repository=self.repository.name,
                policy=json.dumps(
                    {
                        "Version": "2012-10-17",
                        "Statement": [
                            {
                                "Sid": "RunPodPulls",
                                "Effect": "Allow",
                                # By a condition, as RunPod says: a policy that names a role as principal
                                # breaks when that role is made anew.
                                "Principal": "*",
                                "Condition": {"StringEquals": {"aws:PrincipalArn": _RUNPOD_PRINCIPALS}},
                                "Action": [
                                    "ecr:GetAuthorizationToken",
                                    "ecr:BatchCheckLayerAvailability",
                                    "ecr:GetDownloadUrlForLayer",
                                    "ecr:BatchGetImage",
                                ],
                            }
                        ],
                    }
                ),
                opts=child(self),
            )
        self.register_outputs({"url": self.repository.repository_url})
