"""A web ACL in front of the load balancer: how often one address may ask, and AWS's own rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pulumi_aws as aws

from infra.options import child

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pulumi

    from infra.naming import Names
    from infra.settings import WafSettings

_WINDOW_SECONDS = 300
# Rules on the body only count: prompts are long, and hold code, paths and mark-up that are meant for a model,
# which runs none of it. Source: AWS WAF, "AWS Managed Rules rule groups list".
_COUNTED = {
    "AWSManagedRulesCommonRuleSet": (
        "SizeRestrictions_BODY",
        "EC2MetaDataSSRF_BODY",
        "GenericLFI_BODY",
        "GenericRFI_BODY",
        "CrossSiteScripting_BODY",
    ),
    "AWSManagedRulesKnownBadInputsRuleSet": (
        "JavaDeserializationRCE_BODY",
        "Log4JRCE_BODY",
    ),
}


def web_acl(
    parent: pulumi.Resource,
    name: str,
    *,
    names: Names,
    settings: WafSettings,
    load_balancer_arn: pulumi.Input[str],
) -> None:
    """Put a web ACL in front of a load balancer.

    Args:
        parent: the component of the load balancer.
        name: the logical name.
        names: the stack's names.
        settings: the stack file's section `eks.load_balancer.waf`.
        load_balancer_arn: the load balancer.
    """
    acl = aws.wafv2.WebAcl(
        name,
        name=names.of("load-balancer"),
        description="What may reach the load balancer in front of the model.",
        scope="REGIONAL",
        default_action={"allow": {}},
        rules=[
            {
                "name": "requests-of-one-address",
                "priority": 0,
                "action": {"block": {}},
                "statement": {
                    "rate_based_statement": {
                        "limit": settings.requests_per_5_minutes,
                        "evaluation_window_sec": _WINDOW_SECONDS,
                        "aggregate_key_type": "IP",
                    }
                },
                "visibility_config": _visibility("requests-of-one-address"),
            },
            *(
                _managed(group, priority, counted)
                for priority, (group, counted) in enumerate(_COUNTED.items(), start=1)
            ),
        ],
        visibility_config=_visibility("load-balancer"),
        opts=child(parent, minutes=10, delete_before_replace=True),
    )
    aws.wafv2.WebAclAssociation(
        f"{name}-association",
        resource_arn=load_balancer_arn,
        web_acl_arn=acl.arn,
        opts=child(parent, minutes=10),
    )


def _managed(group: str, priority: int, counted: Sequence[str]) -> dict[str, Any]:
    return {
        "name": group,
        "priority": priority,
        "override_action": {"none": {}},
        "statement": {
            "managed_rule_group_statement": {
                "vendor_name": "AWS",
                "name": group,
                "rule_action_overrides": [{"name": rule, "action_to_use": {"count": {}}} for rule in counted],
            }
        },
        "visibility_config": _visibility(group),
    }


def _visibility(metric: str) -> dict[str, Any]:
    # No samples: they would show the headers of requests, and in them the API key.
    return {"cloudwatch_metrics_enabled": True, "metric_name": metric, "sampled_requests_enabled": False}
