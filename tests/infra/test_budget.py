"""The budget: what it counts, and who hears of it when."""

from __future__ import annotations

import pytest

from infra.naming import Names
from tests.infra import variants
from tests.infra.graph import STACKS, configuration, run

_TYPE = "aws:budgets/budget:Budget"


@pytest.mark.parametrize("stack", STACKS)
def test_a_stack_has_the_budget_that_its_file_says(stack: str) -> None:
    wanted = configuration(stack)["berth:aws"].get("budget")
    found = [item for item in variants.recorded(stack, False) if item.type == _TYPE]
    assert [item.inputs["limitAmount"] for item in found] == ([str(wanted["monthly_usd"])] if wanted else [])


def test_it_counts_what_carries_the_stacks_tags_and_tells_before_and_after() -> None:
    aws = {**configuration("dev")["berth:aws"]}
    aws["budget"] = {"monthly_usd": 1234, "alert_emails": ["a@example.com", "b@example.com"]}
    (budget,) = run("dev", preview=False, aws=aws).of_type(_TYPE)
    inputs = budget.inputs
    assert (inputs["budgetType"], inputs["timeUnit"], inputs["limitUnit"]) == ("COST", "MONTHLY", "USD")
    assert inputs["limitAmount"] == "1234"
    # Both tags, as the provider puts them on everything: AWS' older filters would take either.
    assert "costFilters" not in inputs
    assert inputs["metrics"] == "UnblendedCost"
    filters = {part["tags"]["key"]: part["tags"]["values"] for part in inputs["filterExpression"]["ands"]}
    tags = Names("berth", "dev", aws["owner"]).tags
    assert filters == {key: [tags[key]] for key in ("project", "stack")}
    told = {(item["notificationType"], item["threshold"]): item for item in inputs["notifications"]}
    assert set(told) == {("FORECASTED", 80), ("ACTUAL", 100)}
    for item in told.values():
        assert item["thresholdType"] == "PERCENTAGE"
        assert item["comparisonOperator"] == "GREATER_THAN"
        assert item["subscriberEmailAddresses"] == ["a@example.com", "b@example.com"]
