"""Encryption keys and their aliases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from sandbox.plugins.aws.cloud import CloudError
from sandbox.plugins.aws.types import MARKER, Context, Operation, Status, Type
from sandbox.plugins.schema import truth

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandbox.engine.values import Properties

# What the official provider, and AWS, wait by default before a key's material is destroyed.
_DELETION_WINDOW_DAYS: Final = 30
_ROTATION_PERIOD_DAYS: Final = 365
_POLICY: Final = "default"


def _listed(context: Context, operation: str, items: str, **parameters: Any) -> Iterator[dict[str, Any]]:
    """Give all items of a listing, page by page."""
    while True:
        response = context.call("kms", operation, **parameters)
        yield from response[items]
        if not response.get("Truncated"):
            return
        parameters["Marker"] = response["NextMarker"]


class Key(Type):
    """A key; a deleted one waits for its destruction, and counts as gone."""

    pulumi_type = "aws:kms/key:Key"
    service = "kms"
    creates = Operation("create_key", result="KeyMetadata.KeyId")
    reads = Operation("describe_key", key="KeyId", result="KeyMetadata")
    deletes = Operation("schedule_key_deletion", key="KeyId")
    status = Status("KeyState", frozenset({"Enabled", "Disabled"}), frozenset({"Unavailable"}))
    gone = frozenset({"PendingDeletion", "PendingReplicaDeletion"})
    local = frozenset({"deletionWindowInDays", "bypassPolicyLockoutSafetyCheck"})
    in_place: ClassVar = {
        "policy": "set_policy",
        "description": "set_description",
        "isEnabled": "set_enabled",
        "enableKeyRotation": "set_rotation",
        "rotationPeriodInDays": "set_rotation",
    }
    tags_of = Operation("list_resource_tags", key="KeyId", result="Tags")
    tagging = ("tag_resource", "untag_resource", "KeyId")

    def tag_target(self, context: Context, id_: str, found: dict[str, Any]) -> str:
        """Keys are tagged by id."""
        del context, found
        return id_

    def orphans(self, context: Context) -> list[str]:
        """Look at all keys, which cannot be listed by tag; those that this caller may not see are skipped."""
        mark = context.marker.partition(".")[0]
        found = []
        for key in _listed(context, "list_keys", "Keys"):
            try:
                tags = self.tags(context, key["KeyId"], {})
            except CloudError as error:
                if error.code == "AccessDeniedException" or error.not_found:
                    continue
                raise
            if tags.get(MARKER, "").partition(".")[0] == mark:
                found.append(str(key["KeyId"]))
        return found

    def after_create(self, context: Context, id_: str) -> None:
        """The create operation takes neither."""
        if truth(context.inputs.get("enableKeyRotation", False)):
            self.set_rotation(context, id_)
        if not truth(context.inputs.get("isEnabled", True)):
            self.set_enabled(context, id_)

    def set_policy(self, context: Context, id_: str) -> None:
        """Say who may use the key; without a policy of its own it has AWS's default."""
        policy = context.inputs.get("policy")
        if policy is not None:
            bypass = truth(context.inputs.get("bypassPolicyLockoutSafetyCheck", False))
            context.call(
                "kms",
                "put_key_policy",
                KeyId=id_,
                PolicyName=_POLICY,
                Policy=policy,
                BypassPolicyLockoutSafetyCheck=bypass,
            )

    def set_description(self, context: Context, id_: str) -> None:
        """Set the description."""
        description = context.inputs.get("description", "")
        context.call("kms", "update_key_description", KeyId=id_, Description=description)

    def set_enabled(self, context: Context, id_: str) -> None:
        """Say whether the key can be used."""
        enabled = truth(context.inputs.get("isEnabled", True))
        context.call("kms", "enable_key" if enabled else "disable_key", KeyId=id_)

    def set_rotation(self, context: Context, id_: str) -> None:
        """Say whether and how often the key's material is renewed."""
        if not truth(context.inputs.get("enableKeyRotation", False)):
            context.call("kms", "disable_key_rotation", KeyId=id_)
            return
        period = int(context.inputs.get("rotationPeriodInDays", _ROTATION_PERIOD_DAYS))
        context.call("kms", "enable_key_rotation", KeyId=id_, RotationPeriodInDays=period)

    def delete(self, context: Context, id_: str) -> None:
        """Have the key destroyed after its waiting period, unless that is under way."""
        if self.read(context, id_) is not None:
            days = int(context.inputs.get("deletionWindowInDays", _DELETION_WINDOW_DAYS))
            context.call("kms", "schedule_key_deletion", KeyId=id_, PendingWindowInDays=days)

    def computed(self, context: Context, id_: str, found: dict[str, Any]) -> Properties:
        """Add what other operations tell."""
        rotation = context.call("kms", "get_key_rotation_status", KeyId=id_)
        policy = context.call("kms", "get_key_policy", KeyId=id_, PolicyName=_POLICY)["Policy"]
        result: Properties = {
            "isEnabled": found["KeyState"] == "Enabled",
            "enableKeyRotation": rotation.get("KeyRotationEnabled", False),
            "policy": policy,
        }
        if period := rotation.get("RotationPeriodInDays"):
            result["rotationPeriodInDays"] = period
        return result


class Alias(Type):
    """A name of a key."""

    pulumi_type = "aws:kms/alias:Alias"
    service = "kms"
    creates = Operation("create_alias")
    reads = Operation("list_aliases")
    deletes = Operation("delete_alias", key="AliasName")
    renames: ClassVar = {"name": "AliasName", "arn": "AliasArn"}
    name_property = "name"
    name_limit = 256
    name_prefix = "alias/"
    in_place: ClassVar = {"targetKeyId": "set_target"}

    def identify(self, context: Context, response: dict[str, Any]) -> str:
        """An alias goes by its name."""
        del response
        return str(context.inputs["name"])

    def set_target(self, context: Context, id_: str) -> None:
        """Point the name at another key."""
        context.call("kms", "update_alias", AliasName=id_, TargetKeyId=context.inputs["targetKeyId"])

    def read(self, context: Context, id_: str) -> dict[str, Any] | None:
        """Look for the name among all."""
        aliases = _listed(context, "list_aliases", "Aliases")
        return next((alias for alias in aliases if alias["AliasName"] == id_), None)

    def computed(self, context: Context, id_: str, found: dict[str, Any]) -> Properties:
        """The key may be given by its ARN, and is described by its id."""
        del id_
        arn = context.cloud.arn("kms", f"key/{found['TargetKeyId']}", context.region)
        given = context.inputs.get("targetKeyId")
        return {"targetKeyArn": arn, "targetKeyId": arn if given == arn else found["TargetKeyId"]}
