"""Budgets and the notifications that warn before they are spent."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, ClassVar, Final

from sandbox.plugins.aws import shapes
from sandbox.plugins.aws.types import Context, Operation, Type

if TYPE_CHECKING:
    from sandbox.engine.values import Properties
    from sandbox.plugins.aws.cloud import Cloud

# How the official provider writes a time.
_TIME: Final = "%Y-%m-%d_%H:%M"
_SUBSCRIBERS: Final = {"subscriberEmailAddresses": "EMAIL", "subscriberSnsTopicArns": "SNS"}
_ALIKE: Final = ("name", "budgetType", "timeUnit", "costTypes", "filterExpression")
_CONTENT: Final = (
    "budgetType",
    "costFilters",
    "costTypes",
    "filterExpression",
    "limitAmount",
    "limitUnit",
    "metrics",
    "timePeriodEnd",
    "timePeriodStart",
    "timeUnit",
)


class Budget(Type):
    """A budget with its notifications; its id is the account and the name."""

    pulumi_type = "aws:budgets/budget:Budget"
    service = "budgets"
    creates = Operation("create_budget")
    reads = Operation("describe_budget", key="AccountId BudgetName", result="Budget")
    deletes = Operation("delete_budget", key="AccountId BudgetName")
    renames: ClassVar = {"name": "BudgetName", "ands": "And", "ors": "Or"}
    name_property = "name"
    name_limit = 100
    in_place: ClassVar = {**dict.fromkeys(_CONTENT, "set_budget"), "notifications": "set_notifications"}
    tags_parameter = "resourceTags"
    tags_of = Operation("list_tags_for_resource", key="ResourceARN", result="ResourceTags")
    tagging = ("tag_resource", "untag_resource", "ResourceARN")

    def supports(self, cloud: Cloud, name: str) -> bool:
        """Budgets that adjust themselves, or whose limit is planned, are refused."""
        del cloud
        return name in {*_CONTENT, "accountId", "name", "notifications", "region", "tags"}

    def _account(self, context: Context) -> str:
        return str(context.inputs.get("accountId") or context.cloud.account)

    def _budget(self, context: Context) -> dict[str, Any]:
        given = context.inputs
        shape = context.cloud.input_shape("budgets", "create_budget").members["Budget"]
        budget: dict[str, Any] = shapes.to_api(
            {key: given[key] for key in _ALIKE if key in given},
            shape,
            self.renames,
        )
        if given.get("limitAmount") is not None:
            budget["BudgetLimit"] = {"Amount": str(given["limitAmount"]), "Unit": str(given["limitUnit"])}
        if filters := given.get("costFilters"):
            budget["CostFilters"] = {item["name"]: item["values"] for item in filters}
        if metric := given.get("metrics"):
            budget["Metrics"] = [metric]
        period = {
            member: dt.datetime.strptime(given[key], _TIME).replace(tzinfo=dt.UTC)
            for key, member in (("timePeriodStart", "Start"), ("timePeriodEnd", "End"))
            if given.get(key)
        }
        return {**budget, "TimePeriod": period} if period else budget

    def parameters(self, context: Context) -> dict[str, Any]:
        """The budget is one parameter, its notifications are another."""
        parameters: dict[str, Any] = {"AccountId": self._account(context), "Budget": self._budget(context)}
        if notifications := self._notifications(context):
            parameters["NotificationsWithSubscribers"] = notifications
        shape = context.cloud.input_shape("budgets", "create_budget")
        return {**parameters, **self.tag_parameters(context, shape)}

    def identify(self, context: Context, response: dict[str, Any]) -> str:
        """Make the id."""
        del response
        return self.existing(context)

    def existing(self, context: Context) -> str:
        """Budgets are named in their account."""
        return f"{self._account(context)}:{context.inputs['name']}"

    def set_budget(self, context: Context, id_: str) -> None:
        """Send the whole budget."""
        del id_
        account, budget = self._account(context), self._budget(context)
        context.call("budgets", "update_budget", AccountId=account, NewBudget=budget)

    # Notifications ------------------------------------------------------------------------------------------

    def _notifications(self, context: Context) -> list[dict[str, Any]]:
        shape = context.cloud.input_shape("budgets", "create_notification").members["Notification"]
        return [
            {
                "Notification": shapes.to_api(given, shape, {}),
                "Subscribers": [
                    {"SubscriptionType": kind, "Address": address}
                    for key, kind in _SUBSCRIBERS.items()
                    for address in given.get(key) or ()
                ],
            }
            for given in context.inputs.get("notifications") or ()
        ]

    def _described_notifications(self, context: Context, id_: str) -> list[dict[str, Any]]:
        place = self.split(self.reads, id_)
        response = context.call("budgets", "describe_notifications_for_budget", **place)
        found = []
        for item in response.get("Notifications") or ():
            notification = {key: value for key, value in item.items() if key != "NotificationState"}
            listed = context.call(
                "budgets", "describe_subscribers_for_notification", **place, Notification=notification
            )
            found.append({"Notification": notification, "Subscribers": listed["Subscribers"]})
        return found

    def set_notifications(self, context: Context, id_: str) -> None:
        """Make the notifications that are missing and delete those that are not wanted."""
        place = self.split(self.reads, id_)
        wanted, actual = self._notifications(context), self._described_notifications(context, id_)
        for item in actual:
            if not any(shapes.same(item, other) for other in wanted):
                notification = item["Notification"]
                context.call("budgets", "delete_notification", **place, Notification=notification)
        for item in wanted:
            if not any(shapes.same(item, other) for other in actual):
                context.call("budgets", "create_notification", **place, **item)

    # Outputs ------------------------------------------------------------------------------------------------

    def computed(self, context: Context, id_: str, found: dict[str, Any]) -> Properties:
        """Flatten the limit and the period, and add the notifications."""
        account = id_.partition(":")[0]
        limit, period = found.get("BudgetLimit") or {}, found.get("TimePeriod") or {}
        filters = found.get("CostFilters") or {}
        result: Properties = {
            "arn": context.cloud.arn("budgets", f"budget/{found['BudgetName']}", "", account),
            "accountId": account,
            "costFilters": [{"name": name, "values": values} for name, values in sorted(filters.items())],
            "notifications": [_notification(item) for item in self._described_notifications(context, id_)],
        }
        if metrics := found.get("Metrics"):
            result["metrics"] = metrics[0]
        if limit:
            result["limitAmount"] = _amount(limit["Amount"], context.inputs.get("limitAmount"))
            result["limitUnit"] = limit["Unit"]
        for key, member in (("timePeriodStart", "Start"), ("timePeriodEnd", "End")):
            if period.get(member):
                result[key] = period[member].astimezone(dt.UTC).strftime(_TIME)
        return result


def _amount(actual: str, given: Any) -> str:
    """Return the amount as it was given where it is the same number: AWS writes 100 as 100.0."""
    return str(given) if given is not None and float(given) == float(actual) else actual


def _notification(found: dict[str, Any]) -> Properties:
    notification = found["Notification"]
    result: Properties = {key[0].lower() + key[1:]: value for key, value in notification.items()}
    for key, kind in _SUBSCRIBERS.items():
        result[key] = [item["Address"] for item in found["Subscribers"] if item["SubscriptionType"] == kind]
    return result
