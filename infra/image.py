"""The container image: built from `image/` in the region, so that no laptop pushes ten gigabytes, or here."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

import pulumi
import pulumi_aws as aws

from infra.bucket import private_bucket
from infra.build_project import build_project
from infra.image_build import TAG_VARIABLE, ImageBuild, ImageBuildProvider
from infra.image_local import LocalImageBuildProvider
from infra.options import child

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.build_project import BuildProject
    from infra.image_bundle import Bundle
    from infra.naming import Names
    from infra.registry import Registry
    from infra.settings import ImageSettings, ModelSettings

_TAG_LENGTH = 16
_STEPS = 4  # of a build here: build, login, push, logout
_BUILDSPEC = """\
version: 0.2
phases:
  pre_build:
    commands:
      - aws ecr get-login-password | docker login --username AWS --password-stdin "${IMAGE_REPOSITORY%%/*}"
  build:
    commands:
      - docker build OPTIONS --tag "$IMAGE_REPOSITORY:$IMAGE_TAG" .
      - docker push "$IMAGE_REPOSITORY:$IMAGE_TAG"
"""


class Image(pulumi.ComponentResource):
    """The image of the source bundle, by digest.

    The tag is the hash of the source, and of the model whose weights are in the image: an image is built once
    for each content, whatever is deployed when.

    Args:
        name: the logical name.
        names: the stack's names.
        settings: the stack file's section `image`.
        bundle: the source.
        registry: where the image is pushed.
        account_id: the account.
        region: its region.
        endpoint: another endpoint of AWS's API; None for AWS itself.
        model: whose weights are put into the image; None for an image without weights.
        hub_token: for models that are not public; None without one.
        opts: must give an AWS provider.
    """

    reference: pulumi.Output[str]
    """The image as `repository@sha256:...`."""

    def __init__(
        self,
        name: str,
        *,
        names: Names,
        settings: ImageSettings,
        bundle: Bundle,
        registry: Registry,
        account_id: pulumi.Input[str],
        region: pulumi.Input[str],
        endpoint: pulumi.Input[str] | None,
        model: ModelSettings | None,
        hub_token: pulumi.Input[str] | None,
        opts: pulumi.ResourceOptions,
    ) -> None:
        super().__init__("berth:infra:Image", name, None, opts)
        tag = _tag(bundle, model)
        if settings.builder == "local":
            provider: ImageBuildProvider = LocalImageBuildProvider()
            inputs = {
                "url": registry.repository.repository_url,
                "source_sha256": bundle.sha256,
                "arguments": _arguments(model),
                "hub_token": hub_token if model else None,
            }
            timeout_minutes = settings.build_timeout_minutes
            build_opts = child(self, minutes=_STEPS * timeout_minutes)
        else:
            project = self._project(
                name,
                names=names,
                settings=settings,
                bundle=bundle,
                registry=registry,
                account_id=account_id,
                model=model,
                hub_token=hub_token,
                tag=tag,
            )
            provider, inputs = ImageBuildProvider(), {"project": project.name}
            timeout_minutes = project.wait_minutes
            build_opts = child(self, after=project.needs, minutes=project.minutes())
        build = ImageBuild(
            f"{name}-build",
            provider,
            repository=registry.repository.name,
            tag=tag,
            region=region,
            endpoint=endpoint,
            timeout_minutes=timeout_minutes,
            inputs=inputs,
            opts=build_opts,
        )
        self.reference = pulumi.Output.concat(registry.repository.repository_url, "@", build.digest)
        self.register_outputs({"reference": self.reference})

    def _project(
        self,
        name: str,
        *,
        names: Names,
        settings: ImageSettings,
        bundle: Bundle,
        registry: Registry,
        account_id: pulumi.Input[str],
        model: ModelSettings | None,
        hub_token: pulumi.Input[str] | None,
        tag: str,
    ) -> BuildProject:
        """Return a project of CodeBuild that builds the source in a bucket."""
        bucket, closed = private_bucket(
            self,
            f"{name}-source",
            names=names,
            what="source",
            account_id=account_id,
            force_destroy=True,  # holds copies of what is in this repository
        )
        source = aws.s3.BucketObjectv2(
            f"{name}-source-bundle",
            bucket=bucket.id,
            key=f"{bundle.sha256}.zip",
            content_base64=base64.b64encode(bundle.content).decode(),
            content_type="application/zip",
            opts=child(self, after=closed),
        )
        return build_project(
            self,
            name,
            names=names,
            project_name=names.base,
            description="Builds the image of the model server.",
            source={
                "type": "S3",
                "location": pulumi.Output.concat(bucket.bucket, "/", source.key),
                "buildspec": _buildspec(model, hub_token is not None),
            },
            variables={
                "IMAGE_REPOSITORY": registry.repository.repository_url,
                TAG_VARIABLE: tag,
                "SOURCE_REVISION": bundle.sha256,
                **_arguments(model),
            },
            secrets={"HF_TOKEN": hub_token} if model and hub_token is not None else {},
            statements=_statements(bucket.arn, registry.repository.arn),
            timeout_minutes=settings.build_timeout_minutes,
            docker=True,
            after=[source],
        )


def _arguments(model: ModelSettings | None) -> dict[str, str]:
    """Return the Dockerfile's arguments that put a model's weights into the image."""
    return {"MODEL": model.name, "REVISION": model.revision} if model else {}


def _tag(bundle: Bundle, model: ModelSettings | None) -> str:
    if model is None:
        return bundle.sha256[:_TAG_LENGTH]
    facts = f"{bundle.sha256} {model.name} {model.revision}"
    return hashlib.sha256(facts.encode()).hexdigest()[:_TAG_LENGTH]


def _buildspec(model: ModelSettings | None, has_hub_token: bool) -> str:
    options = ["--platform linux/amd64", '--build-arg VERSION="$IMAGE_TAG"']
    options += ['--build-arg SOURCE="$CODEBUILD_SOURCE_REPO_URL"', "--build-arg SOURCE_REVISION"]
    if model is not None:
        # Their values are in the environment.
        options += [f"--build-arg {name}" for name in _arguments(model)]
        if has_hub_token:
            options.append("--secret id=hub-token,env=HF_TOKEN")
    return _BUILDSPEC.replace("OPTIONS", " ".join(options))


def _statements(
    bucket_arn: pulumi.Input[str], repository_arn: pulumi.Input[str]
) -> list[Mapping[str, object]]:
    return [
        {
            "Effect": "Allow",
            "Action": ["s3:GetObject", "s3:GetObjectVersion"],
            "Resource": pulumi.Output.concat(bucket_arn, "/*"),
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
    ]
