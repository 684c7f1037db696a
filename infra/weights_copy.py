"""The copy of a model's weights in a bucket as a resource: CodeBuild takes them from the hub."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
    import pulumi

_INPUTS = ("project", "bucket", "prefix", "region", "endpoint")
"""What makes a copy another one; how long it may take does not."""
PREFIX_VARIABLE = "WEIGHTS_PREFIX"
"""The variable of a build that holds the prefix under which it is to copy."""
COMPLETE_SUFFIX = ".complete"
"""A build writes this object beside the prefix when all is there: a copy that was cut short has none."""


# The class's module and name are in the state of every stack: moving it looks for every copy again.
class WeightsCopyProvider(ResourceProvider):
    """Copies the weights of one commit of a model, unless the bucket has them already."""

    serialize_as_secret_always = False

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Return the place of the weights, after a copy if they are not there yet."""
        return CreateResult(f"{props['bucket']}/{props['prefix']}", self._copied(props))

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        """See an update where the model, or the place, is another."""
        return DiffResult(changes=any(_olds.get(key) != _news.get(key) for key in _INPUTS))

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        """Copy what is not there; what was copied before stays, for the pods that still run with it."""
        return UpdateResult(outs=self._copied(_news))

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        """Look whether the copy is there; one that is gone is made again by the next update."""
        there = _is_complete(codebuild.client("s3", props), props)
        return ReadResult(id_ if there else None, props if there else {})

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        """Leave the copy: it goes with the stack's bucket, and another's bucket is another's."""

    def _copied(self, props: dict[str, Any]) -> dict[str, Any]:
        s3 = codebuild.client("s3", props)
        if not _is_complete(s3, props):
            codebuild.run(
                codebuild.client("codebuild", props),
                codebuild.client("logs", props),
                project=props["project"],
                variable=PREFIX_VARIABLE,
                value=props["prefix"],
                timeout_minutes=int(props["timeout_minutes"]),
            )
            if not _is_complete(s3, props):
                raise BuildError(
                    f"the build succeeded, but left no s3://{props['bucket']}/{props['prefix']}{COMPLETE_SUFFIX}"
                )
        return {key: props.get(key) for key in (*_INPUTS, "timeout_minutes")}


def _is_complete(s3: Any, props: dict[str, Any]) -> bool:
    key = f"{props['prefix']}{COMPLETE_SUFFIX}"
    found = s3.list_objects_v2(Bucket=props["bucket"], Prefix=key, MaxKeys=1)
    return any(item["Key"] == key for item in found.get("Contents", []))


class WeightsCopy(Resource, module="weights", name="Copy"):
    """The weights of one commit of a model under a prefix of a bucket, copied where they are missing.

    Args:
        name: the logical name.
        project: the CodeBuild project that copies them.
        bucket: the bucket's name.
        prefix: where in it, without a slash at the end.
        region: AWS's region of both.
        endpoint: another endpoint of AWS's API; None for AWS itself.
        timeout_minutes: how long to wait for a copy, its time in the queue included.
    """

    def __init__(
        self,
        name: str,
        *,
        project: pulumi.Input[str],
        bucket: pulumi.Input[str],
        prefix: str,
        region: pulumi.Input[str],
        endpoint: pulumi.Input[str] | None,
        timeout_minutes: int,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__(
            WeightsCopyProvider(),
            name,
            {
                "project": project,
                "bucket": bucket,
                "prefix": prefix,
                "region": region,
                "endpoint": endpoint,
                "timeout_minutes": timeout_minutes,
            },
            opts,
        )
