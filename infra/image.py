"""The container image: built in the region from `image/`, so that no laptop pushes ten gigabytes."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pulumi
import pulumi_aws as aws

from infra import naming
from infra.image_build import TAG_VARIABLE, ImageBuild
from infra.options import child

if TYPE_CHECKING:
    from infra.image_bundle import Bundle
    from infra.registry import Registry
    from infra.settings import ImageSettings

_TAG_LENGTH = 16
_LOG_RETENTION_DAYS = 30
_QUEUE_MINUTES = 30  # CodeBuild's default is 8 hours, and `up` waits
_MARGIN_MINUTES = 5  # CodeBuild's own end of a build comes first: it says more
_BUILDER = "aws/codebuild/amazonlinux-x86_64-standard:5.0"
_BUILDSPEC = """\
version: 0.2
phases:
  pre_build:
    commands:
      - aws ecr get-login-password | docker login --username AWS --password-stdin "${IMAGE_REPOSITORY%%/*}"
  build:
    commands:
      - docker build --platform linux/amd64 --tag "$IMAGE_REPOSITORY:$IMAGE_TAG" .
      - docker push "$IMAGE_REPOSITORY:$IMAGE_TAG"
"""


class Image(pulumi.ComponentResource):
    """The image of the source bundle, by digest.

    The tag is the hash of the source: an image is built once for each content, whatever is deployed when.

    Args:
        name: the logical name.
        names: the stack's names.
        settings: the stack file's section `image`.
        bundle: the source.
        registry: where the image is pushed.
        account_id: the account.
        region: its region.
        endpoint: another endpoint of AWS's API; None for AWS itself.
        opts: must give an AWS provider.
    """

    reference: pulumi.Output[str]
    """The image as `repository@sha256:...`."""

    def __init__(
        self,
        name: str,
        *,
        names: naming.Names,
        settings: ImageSettings,
        bundle: Bundle,
        registry: Registry,
        account_id: pulumi.Input[str],
        region: pulumi.Input[str],
        endpoint: pulumi.Input[str] | None,
        opts: pulumi.ResourceOptions,
    ) -> None:
        super().__init__("berth:infra:Image", name, None, opts)
        bucket = aws.s3.Bucket(
            f"{name}-source",
            # Buckets share one namespace with all of AWS: the account makes the name ours.
            bucket=pulumi.Output.from_input(account_id).apply(
                lambda account: names.of(f"source-{account}", naming.BUCKET_LENGTH)
            ),
            force_destroy=True,  # holds copies of what is in this repository
            opts=child(self, minutes=20),
        )
        closed = aws.s3.BucketPublicAccessBlock(
            f"{name}-source-closed",
            bucket=bucket.id,
            block_public_acls=True,
            block_public_policy=True,
            ignore_public_acls=True,
            restrict_public_buckets=True,
            opts=child(self),
        )
        source = aws.s3.BucketObjectv2(
            f"{name}-source-bundle",
            bucket=bucket.id,
            key=f"{bundle.sha256}.zip",
            content_base64=base64.b64encode(bundle.content).decode(),
            content_type="application/zip",
            opts=child(self, after=[closed]),
        )
        logs = aws.cloudwatch.LogGroup(
            f"{name}-logs",
            name=f"/aws/codebuild/{names.base}",
            retention_in_days=_LOG_RETENTION_DAYS,
            opts=child(self, delete_before_replace=True),
        )
        role = aws.iam.Role(
            f"{name}-builder",
            name=names.of("image-builder", naming.IAM_ROLE_LENGTH),
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
            opts=child(self, delete_before_replace=True),
        )
        rights = aws.iam.RolePolicy(
            f"{name}-builder-rights",
            role=role.name,
            policy=pulumi.Output.json_dumps(_rights(bucket.arn, logs.arn, registry.repository.arn)),
            opts=child(self),
        )
        tag = bundle.sha256[:_TAG_LENGTH]
        wait_minutes = _QUEUE_MINUTES + settings.build_timeout_minutes + _MARGIN_MINUTES
        project = aws.codebuild.Project(
            f"{name}-project",
            name=names.base,
            description="Builds the image of the model server.",
            service_role=role.arn,
            build_timeout=settings.build_timeout_minutes,
            queued_timeout=_QUEUE_MINUTES,
            artifacts={"type": "NO_ARTIFACTS"},
            source={
                "type": "S3",
                "location": pulumi.Output.concat(bucket.bucket, "/", source.key),
                "buildspec": _BUILDSPEC,
            },
            environment={
                "type": "LINUX_CONTAINER",
                "image": _BUILDER,
                "compute_type": "BUILD_GENERAL1_LARGE",  # 128 GB of disk: vLLM's image unpacks to 25
                "privileged_mode": True,  # docker in a container
                "environment_variables": [
                    {"name": "IMAGE_REPOSITORY", "value": registry.repository.repository_url},
                    {"name": TAG_VARIABLE, "value": tag},
                ],
            },
            logs_config={"cloudwatch_logs": {"group_name": logs.name}},
            opts=child(self, after=[rights], delete_before_replace=True),
        )
        build = ImageBuild(
            f"{name}-build",
            project=project.name,
            repository=registry.repository.name,
            tag=tag,
            region=region,
            endpoint=endpoint,
            timeout_minutes=wait_minutes,
            opts=child(self, after=[project, source, rights], minutes=wait_minutes + _MARGIN_MINUTES),
        )
        self.reference = pulumi.Output.concat(registry.repository.repository_url, "@", build.digest)
        self.register_outputs({"reference": self.reference})


def _rights(
    bucket_arn: pulumi.Input[str], logs_arn: pulumi.Input[str], repository_arn: pulumi.Input[str]
) -> dict[str, object]:
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": ["s3:GetObject", "s3:GetObjectVersion"],
                "Resource": pulumi.Output.concat(bucket_arn, "/*"),
            },
            {
                "Effect": "Allow",
                "Action": ["logs:CreateLogStream", "logs:PutLogEvents"],
                "Resource": pulumi.Output.concat(logs_arn, ":*"),
            },
            # A token is not for one repository: AWS knows no narrower resource for it.
            {"Effect": "Allow", "Action": "ecr:GetAuthorizationToken", "Resource": "*"},
            {
                "Effect": "Allow",
                "Action": [
                    "ecr:BatchCheckLayerAvailability",
                    "ecr:BatchGetImage",
                    "ecr:CompleteLayerUpload",
                    "ecr:GetDownloadUrlForLayer",
                    "ecr:InitiateLayerUpload",
                    "ecr:PutImage",
                    "ecr:UploadLayerPart",
                ],
                "Resource": repository_arn,
            },
        ],
    }
