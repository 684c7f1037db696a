"""Build projects."""

from __future__ import annotations

from typing import Any, ClassVar

from sandbox.plugins.aws import shapes
from sandbox.plugins.aws.types import Context, Operation, Type


class Project(Type):
    """A build project."""

    pulumi_type = "aws:codebuild/project:Project"
    service = "codebuild"
    creates = Operation("create_project", result="project.arn")
    reads = Operation("batch_get_projects", key="names", result="projects[0]")
    deletes = Operation("delete_project", key="name")
    name_property = "name"
    renames: ClassVar = {"buildTimeout": "timeoutInMinutes", "queuedTimeout": "queuedTimeoutInMinutes"}
    _PROPERTIES = (
        "artifacts", "environment", "serviceRole", "source", "autoRetryLimit", "buildTimeout", "cache",
        "concurrentBuildLimit", "description", "encryptionKey", "fileSystemLocations", "logsConfig",
        "queuedTimeout", "secondaryArtifacts", "secondarySourceVersions", "secondarySources", "sourceVersion",
        "vpcConfig",
    )  # fmt: skip
    in_place: ClassVar = dict.fromkeys(_PROPERTIES, "change")

    def split(self, operation: Operation, id_: str) -> dict[str, Any]:
        """The id is the ARN, the operations take the name."""
        return {operation.key: id_.rpartition("project/")[2]}

    def existing(self, context: Context) -> str:
        """Projects are named in their account and region."""
        return context.cloud.arn("codebuild", f"project/{context.inputs['name']}", context.region)

    def change(self, context: Context, id_: str) -> None:
        """Send the whole project, tags among it."""
        del id_
        context.call("codebuild", "update_project", **self.parameters(context))

    def update_tags(self, context: Context, id_: str) -> None:
        """Tags are changed with the project."""
        del id_
        shape = context.cloud.input_shape("codebuild", "update_project")
        tags = shapes.tag_list(shape.members["tags"], self.marked(context))
        context.call("codebuild", "update_project", name=context.inputs["name"], tags=tags)

    def parameters(self, context: Context) -> dict[str, Any]:
        """The official provider's defaults for the logs, whose statuses AWS requires."""
        parameters = super().parameters(context)
        logs = parameters.get("logsConfig", {})
        for name, status in (("cloudWatchLogs", "ENABLED"), ("s3Logs", "DISABLED")):
            if name in logs:
                logs[name] = {"status": status, **logs[name]}
        return parameters

    def supports(self, cloud: Any, name: str) -> bool:
        """Everything that the operation takes."""
        return shapes.member(
            cloud.input_shape("codebuild", "create_project"), name, self.renames
        ) is not None or (name in {"tags", "region"})
