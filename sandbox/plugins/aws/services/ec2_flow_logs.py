"""Logs of the traffic in a network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from sandbox.plugins.aws.services.ec2 import Ec2Type, refuse_failures
from sandbox.plugins.aws.types import Context, Operation

if TYPE_CHECKING:
    from sandbox.engine.values import Properties

# What is logged: the API's resource type by property; ids begin with the property's own word.
_PLACES: Final = {"vpcId": "VPC", "subnetId": "Subnet", "eniId": "NetworkInterface"}


class FlowLog(Ec2Type):
    """A flow log; nothing but its tags can be changed."""

    pulumi_type = "aws:ec2/flowLog:FlowLog"
    creates = Operation("create_flow_logs", result="FlowLogIds[0]")
    reads = Operation("describe_flow_logs", key="FlowLogIds", result="FlowLogs[0]")
    deletes = Operation("delete_flow_logs", key="FlowLogIds")
    listed_id = "FlowLogs[].FlowLogId"
    resource_type = "vpc-flow-log"
    filters_parameter = "Filter"
    renames: ClassVar = {"iamRoleArn": "DeliverLogsPermissionArn"}
    extra = frozenset(_PLACES)

    def parameters(self, context: Context) -> dict[str, Any]:
        """What is logged is a type and an id in the API."""
        parameters = super().parameters(context)
        for key, kind in _PLACES.items():
            if context.inputs.get(key):
                parameters.update(ResourceType=kind, ResourceIds=[context.inputs[key]])
        return parameters

    def identify(self, context: Context, response: dict[str, Any]) -> str:
        """The operation takes several places and fails for none."""
        refuse_failures("CreateFlowLogs", response)
        return super().identify(context, response)

    def delete(self, context: Context, id_: str) -> None:
        """The operation takes several logs and fails for none."""
        refuse_failures("DeleteFlowLogs", context.call("ec2", "delete_flow_logs", FlowLogIds=[id_]))

    def computed(self, context: Context, id_: str, found: dict[str, Any]) -> Properties:
        """Name the place by its kind, and a log group by its ARN."""
        result: Properties = {"arn": context.cloud.arn("ec2", f"vpc-flow-log/{id_}", context.region)}
        place = str(found["ResourceId"])
        for key in _PLACES:
            if place.startswith(f"{key.removesuffix('Id')}-"):
                result[key] = place
        if not found.get("LogDestination") and found.get("LogGroupName"):
            group = f"log-group:{found['LogGroupName']}"
            result["logDestination"] = context.cloud.arn("logs", group, context.region)
        return result
