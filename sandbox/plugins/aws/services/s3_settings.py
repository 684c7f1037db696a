"""Settings of buckets that are resources of their own; each goes by its bucket's name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from sandbox.plugins.aws import shapes
from sandbox.plugins.aws.types import Context, Operation, Type

if TYPE_CHECKING:
    from sandbox.engine.values import Properties


class BucketSetting(Type):
    """A setting that a bucket has once; making it writes over what there was."""

    service = "s3"
    exclusive = True

    def create(self, context: Context) -> str:
        """Write the setting."""
        self.put(context, "")
        return str(context.inputs["bucket"])

    def put(self, context: Context, id_: str) -> None:
        """Write the whole setting."""
        del id_
        context.call("s3", self.creates.name, **self.parameters(context))

    def computed(self, context: Context, id_: str, found: dict[str, Any]) -> Properties:
        """Add the bucket."""
        del context, found
        return {"bucket": id_}


class BucketPublicAccessBlock(BucketSetting):
    """Whether a bucket can be made public."""

    pulumi_type = "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock"
    creates = Operation("put_public_access_block")
    reads = Operation("get_public_access_block", key="Bucket", result="PublicAccessBlockConfiguration")
    deletes = Operation("delete_public_access_block", key="Bucket")
    _SWITCHES = ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets")
    in_place: ClassVar = dict.fromkeys(_SWITCHES, "put")
    local = frozenset({"skipDestroy"})

    def parameters(self, context: Context) -> dict[str, Any]:
        """All four switches; what is not given is off."""
        shape = context.cloud.input_shape("s3", self.creates.name).members["PublicAccessBlockConfiguration"]
        switches = {name: context.inputs.get(name, False) for name in self._SWITCHES}
        block = shapes.to_api(switches, shape, {})
        return {"Bucket": context.inputs["bucket"], "PublicAccessBlockConfiguration": block}


class BucketPolicy(BucketSetting):
    """Who may do what with a bucket."""

    pulumi_type = "aws:s3/bucketPolicy:BucketPolicy"
    creates = Operation("put_bucket_policy")
    reads = Operation("get_bucket_policy", key="Bucket")
    deletes = Operation("delete_bucket_policy", key="Bucket")
    in_place: ClassVar = {"policy": "put"}


class BucketLifecycleConfiguration(BucketSetting):
    """When objects of a bucket expire or move to cheaper storage."""

    pulumi_type = "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration"
    creates = Operation("put_bucket_lifecycle_configuration")
    reads = Operation("get_bucket_lifecycle_configuration", key="Bucket")
    deletes = Operation("delete_bucket_lifecycle", key="Bucket")
    extra = frozenset({"rules"})
    local = frozenset({"timeouts"})
    in_place: ClassVar = {"rules": "put", "transitionDefaultMinimumObjectSize": "put"}

    def parameters(self, context: Context) -> dict[str, Any]:
        """A rule for all objects has an empty prefix in the API."""
        shape = context.cloud.input_shape("s3", self.creates.name).members["LifecycleConfiguration"]
        configuration = shapes.to_api({"rules": context.inputs.get("rules") or []}, shape, {})
        for rule in configuration["Rules"]:
            if "Prefix" not in rule and not rule.get("Filter"):
                rule["Filter"] = {"Prefix": ""}
        return {**super().parameters(context), "LifecycleConfiguration": configuration}


class BucketServerSideEncryptionConfiguration(BucketSetting):
    """How objects of a bucket are encrypted; without it, with keys of S3."""

    pulumi_type = "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration"
    creates = Operation("put_bucket_encryption")
    reads = Operation("get_bucket_encryption", key="Bucket", result="ServerSideEncryptionConfiguration")
    deletes = Operation("delete_bucket_encryption", key="Bucket")
    extra = frozenset({"rules"})
    in_place: ClassVar = {"rules": "put"}
    remains = True

    def parameters(self, context: Context) -> dict[str, Any]:
        """The rules are nested deeper in the API, and the types that they block yet deeper."""
        shape = context.cloud.input_shape("s3", self.creates.name)
        rules = []
        for given in context.inputs["rules"]:
            blocked = given.get("blockedEncryptionTypes")
            nested = {**given, "blockedEncryptionTypes": {"encryptionType": blocked} if blocked else None}
            rules.append(nested)
        member = shape.members["ServerSideEncryptionConfiguration"]
        configuration = shapes.to_api({"rules": rules}, member, {})
        return {**super().parameters(context), "ServerSideEncryptionConfiguration": configuration}

    def outputs(self, context: Context, id_: str, found: dict[str, Any]) -> Properties:
        """The types that are blocked are a plain list among the properties."""
        rules = [
            {
                **rule,
                "BlockedEncryptionTypes": (rule.get("BlockedEncryptionTypes") or {}).get("EncryptionType"),
            }
            for rule in found.get("Rules") or ()
        ]
        return super().outputs(context, id_, {**found, "Rules": rules})
