"""A monthly budget for what carries the stack's tags, with an alert before it is spent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pulumi
import pulumi_aws as aws

from infra.options import child

if TYPE_CHECKING:
    from infra.naming import Names
    from infra.settings import BudgetSettings

COST_TAGS = ("project", "stack")
"""The tags whose costs are counted: to be activated once as cost allocation tags."""

_FORECAST_PERCENT = 80
_ACTUAL_PERCENT = 100


class Budget(pulumi.ComponentResource):
    """Tells by e-mail when the month's costs will pass 80 % of the budget, and when they passed all of it.

    AWS counts by a tag only from when it is activated as a cost allocation tag: once in an account, in the
    console of the organization's payer, for the tags in `COST_TAGS` (AWS Billing, "Activating user-defined
    cost allocation tags"). Until then, and for a day after, the budget sees no costs at all.

    It stops nothing: AWS itself has costs some hours late, so no budget could.

    Args:
        name: the logical name.
        names: the stack's names.
        settings: the stack file's section `aws.budget`.
        opts: must give an AWS provider.
    """

    budget: aws.budgets.Budget

    def __init__(
        self, name: str, *, names: Names, settings: BudgetSettings, opts: pulumi.ResourceOptions
    ) -> None:
        super().__init__("berth:aws:Budget", name, None, opts)
        self.budget = aws.budgets.Budget(
            f"{name}-monthly",
            name=names.base,
            budget_type="COST",
            time_unit="MONTHLY",
            limit_amount=str(settings.monthly_usd),
            limit_unit="USD",
            # Both must hold, as another project may have a stack of that name: older filters cannot say so.
            filter_expression={
                "ands": [
                    {"tags": {"key": key, "values": [names.tags[key]], "match_options": ["EQUALS"]}}
                    for key in COST_TAGS
                ]
            },
            metrics="UnblendedCost",
            notifications=[
                _notification("FORECASTED", _FORECAST_PERCENT, settings),
                _notification("ACTUAL", _ACTUAL_PERCENT, settings),
            ],
            opts=child(self, delete_before_replace=True),
        )
        self.register_outputs({})


def _notification(kind: str, percent: int, settings: BudgetSettings) -> dict[str, Any]:
    return {
        "notification_type": kind,
        "comparison_operator": "GREATER_THAN",
        "threshold": percent,
        "threshold_type": "PERCENTAGE",
        "subscriber_email_addresses": list(settings.alert_emails),
    }
