"""Launch templates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from sandbox.plugins.aws import shapes
from sandbox.plugins.aws.services.ec2 import Ec2Type
from sandbox.plugins.aws.types import Context, Operation
from sandbox.plugins.schema import truth

if TYPE_CHECKING:
    from collections.abc import Collection

    from sandbox.engine.values import Properties
    from sandbox.plugins.aws.cloud import Cloud

_OF_THE_TEMPLATE = frozenset(
    {"name", "description", "tags", "defaultVersion", "updateDefaultVersion", "region"}
)


class LaunchTemplate(Ec2Type):
    """A launch template; a change makes a new version of it."""

    pulumi_type = "aws:ec2/launchTemplate:LaunchTemplate"
    creates = Operation("create_launch_template", result="LaunchTemplate.LaunchTemplateId")
    reads = Operation("describe_launch_templates", key="LaunchTemplateIds", result="LaunchTemplates[0]")
    deletes = Operation("delete_launch_template", key="LaunchTemplateId")
    listed_id = "LaunchTemplates[].LaunchTemplateId"
    resource_type = "launch-template"
    renames: ClassVar = {
        "name": "LaunchTemplateName",
        "latestVersion": "LatestVersionNumber",
        "defaultVersion": "DefaultVersionNumber",
        "vpcSecurityGroupIds": "SecurityGroupIds",
        "securityGroupNames": "SecurityGroups",
        "description": "VersionDescription",
        "ramDiskId": "RamdiskId",
    }
    name_property = "name"
    name_limit = 128
    local = frozenset({"updateDefaultVersion"})
    recomputed = frozenset({"latestVersion"})

    def _data_shape(self, cloud: Cloud) -> Any:
        return cloud.input_shape("ec2", "create_launch_template").members["LaunchTemplateData"]

    def _data(self, context: Context) -> dict[str, Any]:
        given = {key: value for key, value in context.inputs.items() if key not in _OF_THE_TEMPLATE}
        data: dict[str, Any] = shapes.to_api(given, self._data_shape(context.cloud), self.renames)
        return data

    def parameters(self, context: Context) -> dict[str, Any]:
        """Everything about the instances goes into the template's data."""
        shape = context.cloud.input_shape("ec2", self.creates.name)
        parameters = {"LaunchTemplateName": context.inputs["name"], "LaunchTemplateData": self._data(context)}
        if description := context.inputs.get("description"):
            parameters["VersionDescription"] = description
        return {**parameters, **self.tag_parameters(context, shape)}

    def existing(self, context: Context) -> str | None:
        """Find the template by its name."""
        names = [context.inputs["name"]]
        response = context.call("ec2", "describe_launch_templates", LaunchTemplateNames=names)
        return str(response["LaunchTemplates"][0]["LaunchTemplateId"])

    def supports(self, cloud: Cloud, name: str) -> bool:
        """Everything that the template's data has."""
        if name in _OF_THE_TEMPLATE:
            return True
        return shapes.member(self._data_shape(cloud), name, self.renames) is not None

    def is_in_place(self, path: str, kind: str) -> bool:
        """Only another name needs another template."""
        del kind
        return path != "name"

    def update(self, context: Context, id_: str, paths: Collection[str]) -> None:
        """Make a new version, and the default one where that is asked for."""
        del paths
        parameters: dict[str, Any] = {"LaunchTemplateId": id_, "LaunchTemplateData": self._data(context)}
        if description := context.inputs.get("description"):
            parameters["VersionDescription"] = description
        response = context.call("ec2", "create_launch_template_version", **parameters)
        version = response["LaunchTemplateVersion"]["VersionNumber"]
        if truth(context.inputs.get("updateDefaultVersion", False)):
            wanted = str(version)
        elif context.inputs.get("defaultVersion"):
            wanted = str(context.inputs["defaultVersion"])
        else:
            return
        context.call("ec2", "modify_launch_template", LaunchTemplateId=id_, DefaultVersion=wanted)

    def read(self, context: Context, id_: str) -> dict[str, Any] | None:
        """Describe the template with the data of its latest version."""
        found = super().read(context, id_)
        if found is None:
            return None
        response = context.call(
            "ec2", "describe_launch_template_versions", LaunchTemplateId=id_, Versions=["$Latest"]
        )
        latest = response["LaunchTemplateVersions"][0]
        data = latest.get("LaunchTemplateData") or {}
        described = {"VersionDescription": latest.get("VersionDescription")}
        return {**data, **described, **found}

    def outputs(self, context: Context, id_: str, found: dict[str, Any]) -> Properties:
        """Leave out the template's own tags."""
        specifications = [
            item for item in found.get("TagSpecifications") or () if item["ResourceType"] != "launch-template"
        ]
        return super().outputs(context, id_, {**found, "TagSpecifications": specifications or None})

    def computed(self, context: Context, id_: str, found: dict[str, Any]) -> Properties:
        """A template has an ARN and no owner among its outputs."""
        del found
        return {"arn": context.cloud.arn("ec2", f"launch-template/{id_}", context.region)}
