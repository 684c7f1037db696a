"""Policy on rights: what a role may do is said by name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pulumi_policy import ResourceValidationPolicy

from infra.policy.values import items, within

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pulumi_policy import ReportViolation, ResourceValidationArgs

_WITH_DOCUMENT = (
    "aws:iam/policy:Policy",
    "aws:iam/rolePolicy:RolePolicy",
    "aws:iam/userPolicy:UserPolicy",
    "aws:iam/groupPolicy:GroupPolicy",
)
_WITH_ATTACHMENT = (
    "aws:iam/rolePolicyAttachment:RolePolicyAttachment",
    "aws:iam/userPolicyAttachment:UserPolicyAttachment",
    "aws:iam/groupPolicyAttachment:GroupPolicyAttachment",
)
# Policies of AWS's own that allow everything, or all but the rights themselves.
_ALMIGHTY = ("arn:aws:iam::aws:policy/AdministratorAccess", "arn:aws:iam::aws:policy/PowerUserAccess")


def _documents(type_: str, props: Mapping[str, Any]) -> Iterator[Any]:
    if type_ in _WITH_DOCUMENT:
        yield props.get("policy")
    elif type_ == "aws:iam/role:Role":
        yield props.get("assumeRolePolicy")
        for inline in items(props.get("inlinePolicies")):
            yield inline.get("policy")


def _wildcards(document: Any) -> Iterator[str]:
    """Yield the actions of a policy document that are not said by name."""
    parsed = json.loads(document) if isinstance(document, str) else document
    for statement in items(within(parsed, "Statement")):
        if statement.get("Effect") != "Allow":
            continue
        if "NotAction" in statement:
            yield "NotAction"
        for action in items(statement.get("Action")):
            if action == "*" or action.endswith(":*"):
                yield action


def _named_actions(args: ResourceValidationArgs, report: ReportViolation) -> None:
    for document in _documents(args.resource_type, args.props):
        for action in _wildcards(document):
            report(f"{args.name} allows {action}: name the actions that are needed", args.urn)
    if args.resource_type in _WITH_ATTACHMENT and args.props.get("policyArn") in _ALMIGHTY:
        report(
            f"{args.name} attaches {args.props['policyArn']}: attach a policy with the actions it needs",
            args.urn,
        )


NO_WILDCARD_ACTIONS = ResourceValidationPolicy(
    name="no-wildcard-actions",
    description="IAM policies allow actions by name, never all of a service or of AWS.",
    validate=_named_actions,
)
