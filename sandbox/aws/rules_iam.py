"""What IAM answers and moto does not: whether a principal's policies let it do something.

https://docs.aws.amazon.com/IAM/latest/APIReference/API_SimulatePrincipalPolicy.html
"""

from __future__ import annotations

import re
from typing import Any

from moto.core.responses import ActionResult
from moto.iam.access_control import IAMPolicy, PermissionResult
from moto.iam.responses import IamResponse

from sandbox.aws.errors import AwsError
from sandbox.aws.guards import replace

_ENTITY = re.compile(r"arn:aws:iam::\d{12}:(?P<kind>user|role)/(?:.*/)?(?P<name>[^/]+)")
_ACTION = re.compile(r"[a-zA-Z0-9-]+:[a-zA-Z0-9*?]+")


def _simulate(request: Any) -> ActionResult:
    params = request.params
    policies = [IAMPolicy(each) for each in _policies(request.backend, params["PolicySourceArn"])]
    return ActionResult(
        {
            "EvaluationResults": [
                {
                    "EvalActionName": action,
                    "EvalResourceName": resource,
                    "EvalDecision": _decision(policies, action, resource),
                    "MatchedStatements": [],
                    "MissingContextValues": [],
                }
                for action in _checked(params["ActionNames"])
                for resource in params.get("ResourceArns") or ["*"]
            ],
            "IsTruncated": False,
        }
    )


def _policies(iam: Any, arn: str) -> list[Any]:
    """Return the policies of a user, its groups' among them, or of a role, as moto has them."""
    entity = _ENTITY.fullmatch(arn)
    if entity is None:
        message = f"Invalid Entity Arn: {arn} does not clearly define entity type and name."
        raise AwsError("InvalidInput", message)
    name = entity["name"]
    if entity["kind"] == "role":
        iam.get_role(name)
        inline = [iam.get_role_policy(name, each)[1] for each in iam.list_role_policies(name)]
        return [*inline, *iam.list_attached_role_policies(name)[0]]
    iam.get_user(name)
    found = [iam.get_user_policy(name, each) for each in iam.list_user_policies(name)]
    found += iam.list_attached_user_policies(name)[0]
    for group in iam.get_groups_for_user(name):
        found += [iam.get_group_policy(group.name, each) for each in iam.list_group_policies(group.name)]
        found += iam.list_attached_group_policies(group.name)[0]
    return found


def _checked(actions: list[str]) -> list[str]:
    for action in actions:
        if not _ACTION.fullmatch(action):
            raise AwsError("InvalidInput", f"Invalid action name: {action}")
    return actions


def _decision(policies: list[IAMPolicy], action: str, resource: str) -> str:
    said = {policy.is_action_permitted(action, resource) for policy in policies}
    if PermissionResult.DENIED in said:
        return "explicitDeny"
    return "allowed" if PermissionResult.PERMITTED in said else "implicitDeny"


replace(IamResponse, "simulate_principal_policy", _simulate)
