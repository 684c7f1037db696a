# ruff: noqa: D102, N803  # the methods are AWS's operations, with the names of their parameters
"""AWS Budgets: budgets with their notifications and subscribers, checked as AWS checks them.

In place of moto's, which keeps no subscribers and cannot change a budget. Limits:
https://docs.aws.amazon.com/cost-management/latest/userguide/management-limits.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sandbox.aws.errors import AwsError
from sandbox.aws.service import JsonService

if TYPE_CHECKING:
    from sandbox.aws.cloud import Cloud

_MOST_NOTIFICATIONS = 10
_MOST_EMAIL_SUBSCRIBERS = 10
_EMAIL = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")
_FOREVER = datetime(2087, 6, 15, tzinfo=UTC).timestamp()


@dataclass
class _Notification:
    details: dict[str, Any]
    subscribers: list[dict[str, str]]


@dataclass
class _Budget:
    data: dict[str, Any]
    notifications: list[_Notification] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)


class Budgets(JsonService):
    """The operations on budgets.

    Args:
        cloud: the account.
    """

    name = "budgets"
    invalid_code = "InvalidParameterException"

    def __init__(self, cloud: Cloud) -> None:
        super().__init__(cloud)
        self._budgets: dict[str, _Budget] = {}

    def _budget(self, account_id: str, name: str) -> _Budget:
        if account_id != self.account_id:
            raise AwsError(
                "AccessDeniedException", f"Account {account_id} is not authorized to perform this."
            )
        if name not in self._budgets:
            raise AwsError("NotFoundException", f"Unable to get budget: {name} - the budget doesn't exist.")
        return self._budgets[name]

    def create_budget(
        self,
        AccountId: str,
        Budget: dict[str, Any],
        NotificationsWithSubscribers: list[dict[str, Any]] | None = None,
        ResourceTags: list[dict[str, str]] | None = None,
    ) -> None:
        name = Budget["BudgetName"]
        if name in self._budgets:
            raise AwsError(
                "DuplicateRecordException", f"Error creating budget: {name} - the budget already exists."
            )
        made = _Budget(
            self._completed(Budget), tags={each["Key"]: each["Value"] for each in ResourceTags or []}
        )
        for each in NotificationsWithSubscribers or []:
            self._add_notification(made, each["Notification"], each["Subscribers"])
        self._budgets[name] = made
        self._budget(AccountId, name)

    def _completed(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Return a budget with what AWS fills in."""
        if ":" in wanted["BudgetName"] or "\\" in wanted["BudgetName"]:
            raise self.invalid("BudgetName can't contain ':' or '\\'")
        if not wanted.keys() & {"BudgetLimit", "PlannedBudgetLimits", "AutoAdjustData"}:
            raise self.invalid(
                "Unable to create/update budget - please provide one of the followings: Budget Limit/ "
                "Planned Budget Limit/ Auto Adjust Data"
            )
        amount = wanted.get("BudgetLimit", {}).get("Amount", "1")
        if not re.fullmatch(r"\d+(\.\d+)?", amount) or float(amount) <= 0:
            raise self.invalid(f"Budget Limit must be a positive number: {amount}")
        if "CostFilters" in wanted and "FilterExpression" in wanted:
            raise self.invalid("CostFilters and FilterExpression can't both be given")
        for value in wanted.get("CostFilters", {}).get("TagKeyValue", []):
            if "$" not in value:
                raise self.invalid(f"TagKeyValue filter must be of the form user:Key$Value: {value}")
        now = self.cloud.now()
        month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0).timestamp()
        costs = (
            "CostTypes" not in wanted and wanted["BudgetType"] == "COST" and "FilterExpression" not in wanted
        )
        return {
            "CostFilters": {},
            **({"CostTypes": dict(_COST_TYPES)} if costs else {}),
            **wanted,
            "TimePeriod": {"Start": month, "End": _FOREVER, **wanted.get("TimePeriod", {})},
            "CalculatedSpend": {"ActualSpend": {"Amount": "0.0", "Unit": "USD"}},
            "LastUpdatedTime": now,
            "HealthStatus": {"Status": "HEALTHY", "LastUpdatedTime": now},
        }

    def describe_budget(self, AccountId: str, BudgetName: str, **_: Any) -> dict[str, Any]:
        return {"Budget": self._budget(AccountId, BudgetName).data}

    def describe_budgets(self, **_: Any) -> dict[str, Any]:
        return {"Budgets": [each.data for each in self._budgets.values()]}

    def update_budget(self, AccountId: str, NewBudget: dict[str, Any]) -> None:
        budget = self._budget(AccountId, NewBudget["BudgetName"])
        budget.data = self._completed(NewBudget)

    def delete_budget(self, AccountId: str, BudgetName: str) -> None:
        self._budget(AccountId, BudgetName)
        del self._budgets[BudgetName]

    # Notifications and who gets them

    def _add_notification(
        self, budget: _Budget, wanted: dict[str, Any], subscribers: list[dict[str, str]]
    ) -> None:
        details = {"ThresholdType": "PERCENTAGE", "NotificationState": "OK", **wanted}
        if any(_same(each.details, details) for each in budget.notifications):
            raise AwsError("DuplicateRecordException", "Error creating notification - it already exists.")
        if len(budget.notifications) >= _MOST_NOTIFICATIONS:
            raise AwsError(
                "CreationLimitExceededException", f"A budget has at most {_MOST_NOTIFICATIONS} notifications"
            )
        if not 0 < details["Threshold"] <= 1_000_000_000:
            raise self.invalid(f"Threshold must be between 0 and 1000000000: {details['Threshold']}")
        for subscriber in subscribers:
            self._check_subscriber(subscriber)
        if sum(each["SubscriptionType"] == "EMAIL" for each in subscribers) > _MOST_EMAIL_SUBSCRIBERS:
            raise AwsError(
                "CreationLimitExceededException", "A notification has at most 10 e-mail subscribers"
            )
        budget.notifications.append(_Notification(details, list(subscribers)))

    def _check_subscriber(self, subscriber: dict[str, str]) -> None:
        if subscriber["SubscriptionType"] == "EMAIL" and not _EMAIL.fullmatch(subscriber["Address"]):
            raise self.invalid("Subscriber address is not a valid e-mail address")

    def _notification(self, account_id: str, name: str, wanted: dict[str, Any]) -> _Notification:
        for each in self._budget(account_id, name).notifications:
            if _same(each.details, wanted):
                return each
        raise AwsError("NotFoundException", "Unable to find the notification: it doesn't exist.")

    def create_notification(
        self,
        AccountId: str,
        BudgetName: str,
        Notification: dict[str, Any],
        Subscribers: list[dict[str, str]],
    ) -> None:
        self._add_notification(self._budget(AccountId, BudgetName), Notification, Subscribers)

    def update_notification(
        self,
        AccountId: str,
        BudgetName: str,
        OldNotification: dict[str, Any],
        NewNotification: dict[str, Any],
    ) -> None:
        found = self._notification(AccountId, BudgetName, OldNotification)
        found.details = {**found.details, **NewNotification}

    def delete_notification(self, AccountId: str, BudgetName: str, Notification: dict[str, Any]) -> None:
        found = self._notification(AccountId, BudgetName, Notification)
        self._budget(AccountId, BudgetName).notifications.remove(found)

    def describe_notifications_for_budget(self, AccountId: str, BudgetName: str, **_: Any) -> dict[str, Any]:
        return {"Notifications": [each.details for each in self._budget(AccountId, BudgetName).notifications]}

    def describe_subscribers_for_notification(
        self, AccountId: str, BudgetName: str, Notification: dict[str, Any], **_: Any
    ) -> dict[str, Any]:
        return {"Subscribers": self._notification(AccountId, BudgetName, Notification).subscribers}

    def create_subscriber(
        self, AccountId: str, BudgetName: str, Notification: dict[str, Any], Subscriber: dict[str, str]
    ) -> None:
        found = self._notification(AccountId, BudgetName, Notification)
        self._check_subscriber(Subscriber)
        if Subscriber in found.subscribers:
            raise AwsError("DuplicateRecordException", "Error creating subscriber - it already exists.")
        found.subscribers.append(Subscriber)

    def delete_subscriber(
        self, AccountId: str, BudgetName: str, Notification: dict[str, Any], Subscriber: dict[str, str]
    ) -> None:
        found = self._notification(AccountId, BudgetName, Notification)
        if Subscriber not in found.subscribers:
            raise AwsError("NotFoundException", "Unable to delete subscriber - it doesn't exist.")
        found.subscribers.remove(Subscriber)

    # Tags

    def _tagged(self, arn: str) -> dict[str, str]:
        return self._budget(self.account_id, arn.partition(":budget/")[2]).tags

    def list_tags_for_resource(self, ResourceARN: str) -> dict[str, Any]:
        tags = self._tagged(ResourceARN)
        return {"ResourceTags": [{"Key": key, "Value": value} for key, value in tags.items()]}

    def tag_resource(self, ResourceARN: str, ResourceTags: list[dict[str, str]]) -> None:
        self._tagged(ResourceARN).update({each["Key"]: each["Value"] for each in ResourceTags})

    def untag_resource(self, ResourceARN: str, ResourceTagKeys: list[str]) -> None:
        for key in ResourceTagKeys:
            self._tagged(ResourceARN).pop(key, None)


_COST_TYPES = {
    "IncludeCredit": True,
    "IncludeDiscount": True,
    "IncludeOtherSubscription": True,
    "IncludeRecurring": True,
    "IncludeRefund": True,
    "IncludeSubscription": True,
    "IncludeSupport": True,
    "IncludeTax": True,
    "IncludeUpfront": True,
    "UseAmortized": False,
    "UseBlended": False,
}


def _same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Say whether two notifications are the same one; the kind of threshold is in percent by default."""
    kind = "ThresholdType"
    return first.get(kind, "PERCENTAGE") == second.get(kind, "PERCENTAGE") and all(
        first.get(key) == second.get(key) for key in ("NotificationType", "ComparisonOperator", "Threshold")
    )
