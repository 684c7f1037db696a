"""One build of the image as a resource: CodeBuild builds and pushes it, ECR says its digest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pulumi.dynamic import (
    CreateResult,
    DiffResult,
    ReadResult,
    Resource,
    ResourceProvider,
    UpdateResult,
)

from infra import codebuild
from infra.codebuild import BuildError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pulumi

TAG_VARIABLE = "IMAGE_TAG"
"""The variable of a build that holds the tag it is to push."""


# The class's module and name are in the state of every stack: moving it builds every image again.
class ImageBuildProvider(ResourceProvider):
    """Builds the image whose tag is the hash of its source, unless the registry has it already.

    A deployment that is interrupted, even killed, leaves the build running: the next one finds the image, or
    the build and waits for it. None makes a second build beside it.

    Its own input is `project`, the CodeBuild project that builds it; `timeout_minutes` includes the time in
    the queue.
    """

    serialize_as_secret_always = False
    inputs: ClassVar[tuple[str, ...]] = ("project", "repository", "tag", "region", "endpoint")
    """What makes an image another one; how long its build may take does not."""

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Return the digest of the tag, after a build if there is no such image yet."""
        return CreateResult(f"{props['repository']}:{props['tag']}", self._built(props))

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        """See an update where the source, or the place of the image, is another."""
        return DiffResult(changes=any(_olds.get(key) != _news.get(key) for key in self.inputs))

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        """Build what the registry does not have."""
        return UpdateResult(outs=self._built(_news))

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        """Look the image up; one that is gone is built again by the next update."""
        digest = _digest(codebuild.client("ecr", props), props["repository"], props["tag"])
        return ReadResult(id_ if digest else None, {**props, "digest": digest} if digest else {})

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        """Leave the image: it goes with its repository, or when ten newer ones are there."""

    def build(self, props: dict[str, Any]) -> None:
        """Build the image and push it.

        Raises:
            BuildError: the build failed.
        """
        codebuild.run(
            codebuild.client("codebuild", props),
            codebuild.client("logs", props),
            project=props["project"],
            variable=TAG_VARIABLE,
            value=props["tag"],
            timeout_minutes=int(props["timeout_minutes"]),
        )

    def _built(self, props: dict[str, Any]) -> dict[str, Any]:
        ecr = codebuild.client("ecr", props)
        digest = _digest(ecr, props["repository"], props["tag"])
        if digest is None:
            self.build(props)
            digest = _digest(ecr, props["repository"], props["tag"])
        if digest is None:
            raise BuildError(f"the build succeeded, but pushed no {props['repository']}:{props['tag']}")
        return {**{key: props.get(key) for key in (*self.inputs, "timeout_minutes")}, "digest": digest}


def _digest(ecr: Any, repository: str, tag: str) -> str | None:
    missing = (ecr.exceptions.ImageNotFoundException, ecr.exceptions.RepositoryNotFoundException)
    try:
        found = ecr.describe_images(repositoryName=repository, imageIds=[{"imageTag": tag}])
    except missing:
        return None
    digest: str = found["imageDetails"][0]["imageDigest"]
    return digest


class ImageBuild(Resource, module="image", name="Build"):
    """The image of one content tag, built where it is missing.

    Of one type whoever builds it: a stack that changes its builder keeps the image that it has.

    Args:
        name: the logical name.
        provider: what builds it.
        repository: the name of the ECR repository.
        tag: the content tag.
        region: AWS's region of the repository.
        endpoint: another endpoint of AWS's API; None for AWS itself.
        timeout_minutes: how long to wait for what the provider does.
        inputs: what its provider needs besides.
    """

    digest: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        provider: ImageBuildProvider,
        *,
        repository: pulumi.Input[str],
        tag: str,
        region: pulumi.Input[str],
        endpoint: pulumi.Input[str] | None,
        timeout_minutes: int,
        inputs: Mapping[str, Any],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__(
            provider,
            name,
            {
                "repository": repository,
                "tag": tag,
                "region": region,
                "endpoint": endpoint,
                "timeout_minutes": timeout_minutes,
                **inputs,
                "digest": None,
            },
            opts,
        )
