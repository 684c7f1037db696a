"""Roles and their policies."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar

from sandbox.plugins.aws.types import Context, Operation, Type
from sandbox.plugins.schema import truth

if TYPE_CHECKING:
    from sandbox.engine.values import Properties


def _document(value: Any) -> str:
    """Write a policy that boto3 has parsed as text again."""
    return value if isinstance(value, str) else json.dumps(value)


class Role(Type):
    """A role."""

    pulumi_type = "aws:iam/role:Role"
    service = "iam"
    creates = Operation("create_role", result="Role.RoleName")
    reads = Operation("get_role", key="RoleName", result="Role")
    deletes = Operation("delete_role", key="RoleName")
    renames: ClassVar = {
        "name": "RoleName",
        "assumeRolePolicy": "AssumeRolePolicyDocument",
        "uniqueId": "RoleId",
    }
    name_property = "name"
    name_limit = 64
    local = frozenset({"forceDetachPolicies"})
    in_place: ClassVar = {
        "assumeRolePolicy": "set_trust",
        "description": "set_description",
        "maxSessionDuration": "set_description",
        "permissionsBoundary": "set_boundary",
    }
    tagging = ("tag_role", "untag_role", "RoleName")

    def tag_target(self, context: Context, id_: str, found: dict[str, Any]) -> str:
        """Roles are tagged by name."""
        del context, found
        return id_

    def set_trust(self, context: Context, id_: str) -> None:
        """Say who may assume it."""
        policy = context.inputs["assumeRolePolicy"]
        context.call("iam", "update_assume_role_policy", RoleName=id_, PolicyDocument=policy)

    def set_description(self, context: Context, id_: str) -> None:
        """Set the description and the longest session."""
        given = context.inputs
        context.call(
            "iam",
            "update_role",
            RoleName=id_,
            Description=given.get("description", ""),
            MaxSessionDuration=int(given.get("maxSessionDuration", 3600)),
        )

    def set_boundary(self, context: Context, id_: str) -> None:
        """Set or remove the permissions boundary."""
        boundary = context.inputs.get("permissionsBoundary")
        if boundary:
            context.call("iam", "put_role_permissions_boundary", RoleName=id_, PermissionsBoundary=boundary)
        else:
            context.call("iam", "delete_role_permissions_boundary", RoleName=id_)

    def before_delete(self, context: Context, id_: str) -> None:
        """Detach what others attached, where that is asked for."""
        if not truth(context.inputs.get("forceDetachPolicies", False)):
            return
        for policy in context.call("iam", "list_attached_role_policies", RoleName=id_)["AttachedPolicies"]:
            context.call("iam", "detach_role_policy", RoleName=id_, PolicyArn=policy["PolicyArn"])
        for name in context.call("iam", "list_role_policies", RoleName=id_)["PolicyNames"]:
            context.call("iam", "delete_role_policy", RoleName=id_, PolicyName=name)

    def computed(self, context: Context, id_: str, found: dict[str, Any]) -> Properties:
        """Flatten the boundary."""
        del context, id_
        result: Properties = {"assumeRolePolicy": _document(found["AssumeRolePolicyDocument"])}
        if boundary := (found.get("PermissionsBoundary") or {}).get("PermissionsBoundaryArn"):
            result["permissionsBoundary"] = boundary
        return result


class RolePolicy(Type):
    """A policy inside a role; its id is the role and the name."""

    pulumi_type = "aws:iam/rolePolicy:RolePolicy"
    service = "iam"
    creates = Operation("put_role_policy")
    reads = Operation("get_role_policy", key="RoleName PolicyName")
    deletes = Operation("delete_role_policy", key="RoleName PolicyName")
    renames: ClassVar = {"name": "PolicyName", "role": "RoleName", "policy": "PolicyDocument"}
    name_property = "name"
    name_limit = 128
    in_place: ClassVar = {"policy": "put"}

    def create(self, context: Context) -> str:
        """Write the policy; writing it again makes no second one."""
        self.put(context, "")
        return f"{context.inputs['role']}:{context.inputs['name']}"

    def put(self, context: Context, id_: str) -> None:
        """Write the policy."""
        del id_
        context.call("iam", "put_role_policy", **self.parameters(context))

    def computed(self, context: Context, id_: str, found: dict[str, Any]) -> Properties:
        """Add the policy as text."""
        del context, id_
        return {"policy": _document(found["PolicyDocument"])}


class RolePolicyAttachment(Type):
    """A managed policy attached to a role; its id is the role and the policy's ARN."""

    pulumi_type = "aws:iam/rolePolicyAttachment:RolePolicyAttachment"
    service = "iam"
    creates = Operation("attach_role_policy")
    reads = Operation("list_attached_role_policies", key="RoleName")
    deletes = Operation("detach_role_policy", key="RoleName PolicyArn")
    renames: ClassVar = {"role": "RoleName"}
    separator = "/"

    def identify(self, context: Context, response: dict[str, Any]) -> str:
        """Make the id; attaching twice is attaching once."""
        del response
        return f"{context.inputs['role']}/{context.inputs['policyArn']}"

    def read(self, context: Context, id_: str) -> dict[str, Any] | None:
        """Look for the policy among the role's."""
        role, _, arn = id_.partition("/")
        found = super().read(context, role)
        for policy in (found or {}).get("AttachedPolicies") or ():
            if policy["PolicyArn"] == arn:
                return {"RoleName": role, "PolicyArn": arn}
        return None
