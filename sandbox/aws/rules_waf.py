"""What WAF refuses and moto does not: web ACLs in use, associations with what is not there.

Importing this module puts the rules in front of moto's operations.
"""

from __future__ import annotations

import json
from typing import Any

from moto.elbv2.models import ELBv2Backend, elbv2_backends
from moto.wafv2.models import WAFV2Backend, wafv2_backends
from moto.wafv2.responses import WAFV2Response
from moto.wafv2.utils import make_arn_for_wacl

from sandbox.aws.cloud import ACCOUNT_ID
from sandbox.aws.errors import AwsError
from sandbox.aws.guards import after, before, replace

_RESOURCE_TYPES = {
    "APPLICATION_LOAD_BALANCER": ":loadbalancer/app/",
    "API_GATEWAY": ":/restapis/",
}


@before(WAFV2Response, "create_web_acl")
def _name_and_rules_are_good(request: Any) -> None:
    body = json.loads(request.body)
    if any(acl.name == body["Name"] for acl in request.wafv2_backend.wacls.values()):
        raise AwsError(
            "WAFDuplicateItemException",
            "AWS WAF couldn’t perform the operation because some resource in your request is a duplicate of "
            "an existing one.",
        )
    _check_rules(body.get("Rules", []))


@before(WAFV2Response, "update_web_acl")
def _changed_rules_are_good(request: Any) -> None:
    _check_rules(json.loads(request.body).get("Rules", []))


def _check_rules(rules: list[dict[str, Any]]) -> None:
    seen: set[int] = set()
    for rule in rules:
        if rule["Priority"] in seen:
            raise _invalid("PRIORITY", str(rule["Priority"]), "Your rules must have different priorities")
        seen.add(rule["Priority"])
        of_group = rule.get("Statement", {}).keys() & {
            "ManagedRuleGroupStatement",
            "RuleGroupReferenceStatement",
        }
        if bool(of_group) != ("OverrideAction" in rule) or bool(of_group) == ("Action" in rule):
            raise _invalid(
                "RULE_ACTION",
                rule["Name"],
                "A reference in your rule statement is not valid: rule groups take OverrideAction, all other "
                "rules take Action",
            )


def _invalid(field: str, parameter: str, reason: str) -> AwsError:
    return AwsError(
        "WAFInvalidParameterException",
        f"Error reason: {reason}, field: {field}, parameter: {parameter}",
    )


@before(WAFV2Backend, "associate_web_acl")
def _resource_is_there_and_free(waf: Any, web_acl_arn: str, resource_arn: str) -> None:
    if web_acl_arn not in waf.wacls or not _exists(waf.region_name, resource_arn):
        raise AwsError(
            "WAFNonexistentItemException",
            "AWS WAF couldn’t perform the operation because your resource doesn’t exist.",
        )
    for acl in waf.wacls.values():  # a resource has one web ACL: the new one takes the place of the old
        while resource_arn in acl.associated_resources:
            acl.associated_resources.remove(resource_arn)


def _exists(region: str, resource_arn: str) -> bool:
    if ":loadbalancer/" not in resource_arn:
        return True
    return resource_arn in elbv2_backends[ACCOUNT_ID][region].load_balancers


@before(WAFV2Backend, "delete_web_acl")
def _web_acl_is_free(waf: Any, name: str, scope: str, _id: str, lock_token: str) -> None:
    arn = make_arn_for_wacl(
        name=name, account_id=waf.account_id, region_name=waf.region_name, _id=_id, scope=scope
    )
    acl = waf.wacls.get(arn)
    if acl is not None and acl.lock_token == lock_token and acl.associated_resources:
        raise AwsError(
            "WAFAssociatedItemException",
            "AWS WAF couldn’t perform the operation because your resource is being used by another resource "
            "or it’s associated with another resource.",
        )


@after(ELBv2Backend, "delete_load_balancer")
def _associations_go_with_it(elb: Any, _: Any, arn: str) -> None:
    wafv2_backends[ACCOUNT_ID][elb.region_name].disassociate_web_acl(arn)


def _list_resources(response: Any) -> tuple[int, dict[str, str], str]:
    """Answer ListResourcesForWebACL, which moto lacks."""
    kind = response._get_param("ResourceType") or "APPLICATION_LOAD_BALANCER"  # noqa: SLF001
    acl = response.wafv2_backend.get_web_acl(response._get_param("WebACLArn"), None, None)  # noqa: SLF001
    arns = [arn for arn in acl.associated_resources if _RESOURCE_TYPES.get(kind, "?") in arn]
    return 200, {"Content-Type": "application/json"}, json.dumps({"ResourceArns": arns})


replace(WAFV2Response, "list_resources_for_web_acl", _list_resources)
