"""Buckets and objects."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, ClassVar

from sandbox.plugins.aws import shapes
from sandbox.plugins.aws.cloud import CloudError
from sandbox.plugins.aws.types import Context, Operation, Type
from sandbox.plugins.schema import truth

if TYPE_CHECKING:
    from sandbox.engine.values import Properties
    from sandbox.plugins.aws.cloud import Cloud

_US_EAST_1 = "us-east-1"


class Bucket(Type):
    """A bucket."""

    pulumi_type = "aws:s3/bucket:Bucket"
    service = "s3"
    creates = Operation("create_bucket")
    reads = Operation("head_bucket", key="Bucket")
    deletes = Operation("delete_bucket", key="Bucket")
    name_property = "bucket"
    name_limit = 63
    name_is_lowercase = True
    local = frozenset({"forceDestroy"})

    def supports(self, cloud: Cloud, name: str) -> bool:
        """All else of a bucket has resource types of its own."""
        del cloud
        return name in {"bucket", "forceDestroy", "region", "tags"}

    def create(self, context: Context) -> str:
        """Make the bucket; its tags follow, as the operation has them in new regions only.

        In us-east-1 making one's own bucket again succeeds, so what is there is looked at first.
        """
        name = str(context.inputs["bucket"])
        try:
            context.call("s3", "head_bucket", Bucket=name)
        except CloudError as error:
            if not error.not_found:
                raise
        else:
            raise CloudError("CreateBucket", "BucketAlreadyOwnedByYou", f"the bucket {name} exists")
        place = {} if context.region == _US_EAST_1 else {"LocationConstraint": context.region}
        parameters = {"CreateBucketConfiguration": place} if place else {}
        context.call("s3", "create_bucket", Bucket=name, **parameters)
        return name

    def after_create(self, context: Context, id_: str) -> None:
        """Set the tags."""
        self.update_tags(context, id_)

    def update_tags(self, context: Context, id_: str) -> None:
        """Write all tags; the operation replaces what there was."""
        tags = [{"Key": key, "Value": value} for key, value in sorted(self.marked(context).items())]
        context.call("s3", "put_bucket_tagging", Bucket=id_, Tagging={"TagSet": tags})

    def tags(self, context: Context, id_: str, found: dict[str, Any]) -> dict[str, str]:
        """Read the tags; a bucket without any is one whose create was cut short before they were set."""
        del found
        try:
            return shapes.tag_map(context.call("s3", "get_bucket_tagging", Bucket=id_)["TagSet"])
        except CloudError as error:
            if error.code != "NoSuchTagSet":
                raise
        return {}

    def before_delete(self, context: Context, id_: str) -> None:
        """Empty the bucket, all versions of all objects, where that is asked for."""
        if not truth(context.inputs.get("forceDestroy", False)):
            return
        while True:
            listing = context.call("s3", "list_object_versions", Bucket=id_)
            found = [*listing.get("Versions", ()), *listing.get("DeleteMarkers", ())]
            if not found:
                return
            objects = [{"Key": item["Key"], "VersionId": item["VersionId"]} for item in found]
            context.call("s3", "delete_objects", Bucket=id_, Delete={"Objects": objects, "Quiet": True})

    def computed(self, context: Context, id_: str, found: dict[str, Any]) -> Properties:
        """All names of a bucket are made of its own."""
        del found
        suffix = context.cloud.dns_suffix
        return {
            "arn": f"arn:{context.cloud.partition}:s3:::{id_}",
            "bucket": id_,
            "bucketDomainName": f"{id_}.s3.{suffix}",
            "bucketRegionalDomainName": f"{id_}.s3.{context.region}.{suffix}",
            "bucketRegion": context.region,
        }


class BucketObjectv2(Type):
    """An object; its id is the bucket and the key."""

    pulumi_type = "aws:s3/bucketObjectv2:BucketObjectv2"
    service = "s3"
    creates = Operation("put_object")
    reads = Operation("head_object", key="Bucket Key")
    deletes = Operation("delete_object", key="Bucket Key")
    separator = "/"
    extra = frozenset({"content", "contentBase64"})
    in_place: ClassVar = dict.fromkeys(
        (
            "content",
            "contentBase64",
            "contentType",
            "cacheControl",
            "contentEncoding",
            "metadata",
            "storageClass",
        ),
        "put",
    )
    local = frozenset({"forceDestroy"})
    recomputed = frozenset({"etag", "versionId"})

    def parameters(self, context: Context) -> dict[str, Any]:
        """The content is given as text or in base64."""
        body = context.inputs.get("content", "").encode()
        if "contentBase64" in context.inputs:
            body = base64.b64decode(context.inputs["contentBase64"])
        return {**super().parameters(context), "Body": body}

    def tag_parameters(self, context: Context, shape: Any) -> dict[str, Any]:
        """Tags travel as a query, and an object has ten at most; writing it again makes no second one."""
        del shape
        from urllib.parse import urlencode  # noqa: PLC0415  # for objects alone

        return {"Tagging": urlencode(context.tags_all())}

    def create(self, context: Context) -> str:
        """Write the object."""
        self.put(context, "")
        return f"{context.inputs['bucket']}/{context.inputs['key']}"

    def put(self, context: Context, id_: str) -> None:
        """Write the whole object."""
        del id_
        context.call("s3", "put_object", **self.parameters(context))

    def update_tags(self, context: Context, id_: str) -> None:
        """Write all tags; the operation replaces what there was."""
        tags = [{"Key": key, "Value": value} for key, value in sorted(context.tags_all().items())]
        place = self.split(self.reads, id_)
        context.call("s3", "put_object_tagging", **place, Tagging={"TagSet": tags})

    def tags(self, context: Context, id_: str, found: dict[str, Any]) -> dict[str, str]:
        """Read the tags."""
        del found
        return shapes.tag_map(
            context.call("s3", "get_object_tagging", **self.split(self.reads, id_))["TagSet"]
        )

    def computed(self, context: Context, id_: str, found: dict[str, Any]) -> Properties:
        """Add the place, and the entity tag without its quotes."""
        place = self.split(self.reads, id_)
        return {
            "arn": f"arn:{context.cloud.partition}:s3:::{id_}",
            "bucket": place["Bucket"],
            "key": place["Key"],
            "etag": str(found.get("ETag", "")).strip('"'),
        }
