"""Listeners of load balancers, and their rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from sandbox.plugins.aws import shapes
from sandbox.plugins.aws.services.elb import ElbType
from sandbox.plugins.aws.types import Context, Operation

if TYPE_CHECKING:
    from sandbox.engine.values import Properties

_ACTIONS = {
    "redirect": "RedirectConfig",
    "fixedResponse": "FixedResponseConfig",
    "forward": "ForwardConfig",
    "authenticateOidc": "AuthenticateOidcConfig",
    "authenticateCognito": "AuthenticateCognitoConfig",
    "jwtValidation": "JwtValidationConfig",
}
_TARGETS = {
    "arn": "TargetGroupArn",
    "stickiness": "TargetGroupStickinessConfig",
    "duration": "DurationSeconds",
}


class Listener(ElbType):
    """A port of a load balancer."""

    pulumi_type = "aws:lb/listener:Listener"
    creates = Operation("create_listener", result="Listeners[0].ListenerArn")
    reads = Operation("describe_listeners", key="ListenerArns", result="Listeners[0]")
    deletes = Operation("delete_listener", key="ListenerArn")
    renames: ClassVar = {**_ACTIONS, **_TARGETS}
    exclusive = True
    extra = frozenset({"certificateArn"})
    in_place: ClassVar = dict.fromkeys(
        (
            "defaultActions",
            "port",
            "protocol",
            "sslPolicy",
            "certificateArn",
            "alpnPolicy",
            "mutualAuthentication",
        ),
        "change",
    )

    def parameters(self, context: Context) -> dict[str, Any]:
        """The one certificate is a list in the API."""
        parameters = super().parameters(context)
        if arn := context.inputs.get("certificateArn"):
            parameters["Certificates"] = [{"CertificateArn": arn}]
        return parameters

    def change(self, context: Context, id_: str) -> None:
        """Set everything that the operation takes."""
        wanted = {
            key: value
            for key, value in self.parameters(context).items()
            if key not in {"Tags", "LoadBalancerArn"}
        }
        context.call("elbv2", "modify_listener", ListenerArn=id_, **wanted)

    def existing(self, context: Context) -> str | None:
        """A load balancer has one listener at a port."""
        balancer, port = context.inputs["loadBalancerArn"], int(context.inputs.get("port", 0))
        found = context.call("elbv2", "describe_listeners", LoadBalancerArn=balancer)["Listeners"]
        return next((str(item["ListenerArn"]) for item in found if item.get("Port") == port), None)

    def computed(self, context: Context, id_: str, found: dict[str, Any]) -> Properties:
        """Add ARN and certificate."""
        del context
        certificates = found.get("Certificates") or []
        result: Properties = {"arn": id_}
        if certificates:
            result["certificateArn"] = certificates[0]["CertificateArn"]
        return result


_CONDITIONS = {
    "hostHeader": ("host-header", "HostHeaderConfig"),
    "pathPattern": ("path-pattern", "PathPatternConfig"),
    "httpHeader": ("http-header", "HttpHeaderConfig"),
    "httpRequestMethod": ("http-request-method", "HttpRequestMethodConfig"),
    "sourceIp": ("source-ip", "SourceIpConfig"),
}


class ListenerRule(ElbType):
    """A rule of a listener."""

    pulumi_type = "aws:lb/listenerRule:ListenerRule"
    creates = Operation("create_rule", result="Rules[0].RuleArn")
    reads = Operation("describe_rules", key="RuleArns", result="Rules[0]")
    deletes = Operation("delete_rule", key="RuleArn")
    renames: ClassVar = {**_ACTIONS, **_TARGETS}
    exclusive = True
    in_place: ClassVar = {
        "actions": "change",
        "conditions": "change",
        "transforms": "change",
        "priority": "set_priority",
    }

    def parameters(self, context: Context) -> dict[str, Any]:
        """A condition names its field; rules without a priority come last."""
        parameters = super().parameters(context)
        shape = context.cloud.input_shape("elbv2", "create_rule").members["Conditions"].member
        parameters["Conditions"] = [
            condition for given in context.inputs["conditions"] for condition in _conditions(given, shape)
        ]
        if "Priority" not in parameters:
            rules = context.call("elbv2", "describe_rules", ListenerArn=context.inputs["listenerArn"])[
                "Rules"
            ]
            taken = [int(rule["Priority"]) for rule in rules if rule["Priority"].isdecimal()]
            parameters["Priority"] = max(taken, default=0) + 1
        return parameters

    def change(self, context: Context, id_: str) -> None:
        """Set conditions and actions."""
        wanted = self.parameters(context)
        keys = ("Conditions", "Actions", "Transforms")
        context.call(
            "elbv2", "modify_rule", RuleArn=id_, **{key: wanted[key] for key in keys if key in wanted}
        )

    def set_priority(self, context: Context, id_: str) -> None:
        """Move the rule."""
        place = {"RuleArn": id_, "Priority": int(context.inputs["priority"])}
        context.call("elbv2", "set_rule_priorities", RulePriorities=[place])

    def existing(self, context: Context) -> str | None:
        """A listener has one rule of a priority."""
        listener, priority = context.inputs["listenerArn"], str(context.inputs.get("priority"))
        found = context.call("elbv2", "describe_rules", ListenerArn=listener)["Rules"]
        return next((str(rule["RuleArn"]) for rule in found if rule["Priority"] == priority), None)

    def computed(self, context: Context, id_: str, found: dict[str, Any]) -> Properties:
        """Add ARN, listener and the conditions in the official provider's form."""
        conditions = [_condition_output(item) for item in found.get("Conditions") or ()]
        result: Properties = {
            "arn": id_,
            "conditions": conditions,
            "listenerArn": context.inputs.get("listenerArn") or _listener_of(id_),
        }
        if str(found.get("Priority", "")).isdecimal():
            result["priority"] = int(found["Priority"])
        return result


def _listener_of(rule_arn: str) -> str:
    return rule_arn.replace(":listener-rule/", ":listener/").rpartition("/")[0]


def _conditions(given: dict[str, Any], shape: Any) -> list[dict[str, Any]]:
    found = []
    for key, (field, member) in _CONDITIONS.items():
        if given.get(key):
            found.append({"Field": field, member: shapes.to_api(given[key], shape.members[member], {})})
    if given.get("queryStrings"):
        values = shapes.to_api({"values": given["queryStrings"]}, shape.members["QueryStringConfig"], {})
        found.append({"Field": "query-string", "QueryStringConfig": values})
    return found


def _condition_output(found: dict[str, Any]) -> Properties:
    for key, (field, member) in _CONDITIONS.items():
        if found.get("Field") == field:
            config = found.get(member) or {"Values": found.get("Values") or []}
            return {key: {name[0].lower() + name[1:]: value for name, value in config.items()}}
    values = (found.get("QueryStringConfig") or {}).get("Values") or ()
    return {"queryStrings": [{name.lower(): value for name, value in item.items()} for item in values]}
