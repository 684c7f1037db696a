"""Policy on cost: somebody hears of it when production costs more than was meant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pulumi_policy import StackValidationPolicy

from infra.policy.values import items

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pulumi_policy import ReportViolation, StackValidationArgs

_PRODUCTION = "prod"


def _budget(args: StackValidationArgs, report: ReportViolation) -> None:
    # urn:pulumi:<stack>::<project>::<type>::<name>
    stacks = {resource.urn.split("::")[0].removeprefix("urn:pulumi:") for resource in args.resources}
    if _PRODUCTION not in stacks:
        return
    budgets = [
        resource for resource in args.resources if resource.resource_type == "aws:budgets/budget:Budget"
    ]
    if not any(
        _is_heard(notice) for budget in budgets for notice in items(budget.props.get("notifications"))
    ):
        report(
            f"the stack {_PRODUCTION} has no budget that somebody is told of: set aws.budget with "
            "alert_emails in its stack file",
            None,
        )


def _is_heard(notice: Mapping[str, Any]) -> bool:
    return any(items(notice.get(key)) for key in ("subscriberEmailAddresses", "subscriberSnsTopicArns"))


PROD_HAS_A_BUDGET = StackValidationPolicy(
    name="prod-has-a-budget",
    description="The stack prod has a budget with an alert that reaches somebody.",
    validate=_budget,
)
