"""Security groups and their rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from sandbox.plugins.aws.cloud import CloudError
from sandbox.plugins.aws.services.ec2 import Ec2Type, first
from sandbox.plugins.aws.types import Context, Operation
from sandbox.plugins.schema import truth

if TYPE_CHECKING:
    from sandbox.engine.values import Properties

_EVERYWHERE_V4 = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}


class SecurityGroup(Ec2Type):
    """A security group without rules: AWS's default egress rule is removed, as the official provider does."""

    pulumi_type = "aws:ec2/securityGroup:SecurityGroup"
    creates = Operation("create_security_group", result="GroupId")
    reads = Operation("describe_security_groups", key="GroupIds", result="SecurityGroups[0]")
    deletes = Operation("delete_security_group", key="GroupId")
    listed_id = "SecurityGroups[].GroupId"
    resource_type = "security-group"
    renames: ClassVar = {"name": "GroupName"}
    name_property = "name"
    local = frozenset({"revokeRulesOnDelete"})

    def parameters(self, context: Context) -> dict[str, Any]:
        """AWS wants a description."""
        return {"Description": "Managed by Pulumi", **super().parameters(context)}

    def existing(self, context: Context) -> str | None:
        """Find the group by its name, which is its VPC's only."""
        filters = {"group_name": context.inputs["name"], "vpc_id": context.inputs.get("vpcId", "")}
        group = first(context, "describe_security_groups", "SecurityGroups", **filters)
        return group.get("GroupId")

    def after_create(self, context: Context, id_: str) -> None:
        """Remove the rule that lets everything out, so that the stack's own rules are all there are."""
        try:
            context.call("ec2", "revoke_security_group_egress", GroupId=id_, IpPermissions=[_EVERYWHERE_V4])
        except CloudError as error:
            if not error.not_found:
                raise

    def before_delete(self, context: Context, id_: str) -> None:
        """Remove the rules first where that is asked for: groups that name one another cannot be deleted."""
        found = self.read(context, id_)
        if found is None or not truth(context.inputs.get("revokeRulesOnDelete", False)):
            return
        for key, operation in (
            ("IpPermissions", "revoke_security_group_ingress"),
            ("IpPermissionsEgress", "revoke_security_group_egress"),
        ):
            if found.get(key):
                context.call("ec2", operation, GroupId=id_, IpPermissions=found[key])

    def computed(self, context: Context, id_: str, found: dict[str, Any]) -> Properties:
        """The rules are resources of their own."""
        return {
            **super().computed(context, id_, found),
            "ingress": [],
            "egress": [],
            "name": found["GroupName"],
        }


class _Rule(Ec2Type):
    reads = Operation(
        "describe_security_group_rules", key="SecurityGroupRuleIds", result="SecurityGroupRules[0]"
    )
    listed_id = "SecurityGroupRules[].SecurityGroupRuleId"
    resource_type = "security-group-rule"
    exclusive = True
    extra = frozenset(
        {
            "cidrIpv4",
            "cidrIpv6",
            "prefixListId",
            "referencedSecurityGroupId",
            "description",
            "securityGroupId",
        }
    )
    in_place: ClassVar = dict.fromkeys(
        (
            "description",
            "cidrIpv4",
            "fromPort",
            "toPort",
            "ipProtocol",
            "referencedSecurityGroupId",
        ),
        "modify",
    )

    def parameters(self, context: Context) -> dict[str, Any]:
        """A rule is one permission with one peer."""
        given = context.inputs
        description = {"Description": given["description"]} if given.get("description") else {}
        protocol = str(given["ipProtocol"])
        permission: dict[str, Any] = {"IpProtocol": protocol}
        if protocol != "-1":
            permission["FromPort"] = int(given.get("fromPort", -1))
            permission["ToPort"] = int(given.get("toPort", -1))
        peers = {
            "IpRanges": ("CidrIp", given.get("cidrIpv4")),
            "Ipv6Ranges": ("CidrIpv6", given.get("cidrIpv6")),
            "PrefixListIds": ("PrefixListId", given.get("prefixListId")),
            "UserIdGroupPairs": ("GroupId", given.get("referencedSecurityGroupId")),
        }
        for member, (key, value) in peers.items():
            if value:
                permission[member] = [{key: value, **description}]
        shape = context.cloud.input_shape("ec2", self.creates.name)
        tags = self.tag_parameters(context, shape)
        return {"GroupId": given["securityGroupId"], "IpPermissions": [permission], **tags}

    def delete(self, context: Context, id_: str) -> None:
        """A rule is revoked in its group."""
        group = context.request.old_outputs.get("securityGroupId") or context.inputs["securityGroupId"]
        context.call("ec2", self.deletes.name, GroupId=group, SecurityGroupRuleIds=[id_])

    def modify(self, context: Context, id_: str) -> None:
        """Set the whole rule anew under its id."""
        given = context.inputs
        rule: dict[str, Any] = {"IpProtocol": str(given["ipProtocol"])}
        if rule["IpProtocol"] != "-1":
            rule.update(FromPort=int(given.get("fromPort", -1)), ToPort=int(given.get("toPort", -1)))
        names = {"cidrIpv4": "CidrIpv4", "cidrIpv6": "CidrIpv6", "prefixListId": "PrefixListId",
                 "referencedSecurityGroupId": "ReferencedGroupId", "description": "Description"}  # fmt: skip
        rule.update({name: given[key] for key, name in names.items() if given.get(key)})
        updates = [{"SecurityGroupRuleId": id_, "SecurityGroupRule": rule}]
        context.call(
            "ec2", "modify_security_group_rules", GroupId=given["securityGroupId"], SecurityGroupRules=updates
        )

    def computed(self, context: Context, id_: str, found: dict[str, Any]) -> Properties:
        """Add the group, and name the peer as the official provider does."""
        referenced = (found.get("ReferencedGroupInfo") or {}).get("GroupId")
        result: Properties = {
            "arn": context.cloud.arn("ec2", f"security-group-rule/{id_}", context.region),
            "securityGroupRuleId": id_,
            "securityGroupId": found.get("GroupId", ""),
        }
        if referenced:
            result["referencedSecurityGroupId"] = referenced
        return result


class SecurityGroupIngressRule(_Rule):
    """A rule that lets something in."""

    pulumi_type = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"
    creates = Operation(
        "authorize_security_group_ingress", result="SecurityGroupRules[0].SecurityGroupRuleId"
    )
    deletes = Operation("revoke_security_group_ingress", key="SecurityGroupRuleIds")


class SecurityGroupEgressRule(_Rule):
    """A rule that lets something out."""

    pulumi_type = "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule"
    creates = Operation("authorize_security_group_egress", result="SecurityGroupRules[0].SecurityGroupRuleId")
    deletes = Operation("revoke_security_group_egress", key="SecurityGroupRuleIds")
