"""Image repositories and their policies."""

from __future__ import annotations

from typing import Any, ClassVar

from sandbox.plugins.aws import shapes
from sandbox.plugins.aws.types import Context, Operation, Type
from sandbox.plugins.schema import truth


class Repository(Type):
    """An image repository."""

    pulumi_type = "aws:ecr/repository:Repository"
    service = "ecr"
    creates = Operation("create_repository", result="repository.repositoryName")
    reads = Operation("describe_repositories", key="repositoryNames", result="repositories[0]")
    deletes = Operation("delete_repository", key="repositoryName")
    renames: ClassVar = {"name": "repositoryName", "arn": "repositoryArn", "repositoryUrl": "repositoryUri",
               "encryptionConfigurations": "encryptionConfiguration"}  # fmt: skip
    name_property = "name"
    name_limit = 256
    name_is_lowercase = True
    local = frozenset({"forceDelete"})
    in_place: ClassVar = {
        "imageTagMutability": "set_mutability",
        "imageTagMutabilityExclusionFilters": "set_mutability",
        "imageScanningConfiguration": "set_scanning",
    }
    tags_of = Operation("list_tags_for_resource", key="resourceArn", result="tags")
    tagging = ("tag_resource", "untag_resource", "resourceArn")

    def parameters(self, context: Context) -> dict[str, Any]:
        """The official provider has a list of one encryption configuration."""
        given = context.inputs.get("encryptionConfigurations") or []
        shape = context.cloud.input_shape("ecr", self.creates.name)
        parameters = super().parameters(context)
        parameters.pop("encryptionConfiguration", None)
        if given:
            member = shape.members["encryptionConfiguration"]
            parameters["encryptionConfiguration"] = shapes.to_api(given[0], member, self.renames)
        return parameters

    def set_mutability(self, context: Context, id_: str) -> None:
        """Say whether tags can be moved."""
        parameters = self.parameters(context)
        wanted = {key: value for key, value in parameters.items() if key.startswith("imageTagMutability")}
        context.call(
            "ecr",
            "put_image_tag_mutability",
            repositoryName=id_,
            **{"imageTagMutability": "MUTABLE", **wanted},
        )

    def set_scanning(self, context: Context, id_: str) -> None:
        """Say whether images are scanned when they are pushed."""
        wanted = self.parameters(context).get("imageScanningConfiguration", {"scanOnPush": False})
        context.call(
            "ecr", "put_image_scanning_configuration", repositoryName=id_, imageScanningConfiguration=wanted
        )

    def delete(self, context: Context, id_: str) -> None:
        """Delete the images too, where that is asked for."""
        force = truth(context.inputs.get("forceDelete", False))
        context.call("ecr", "delete_repository", repositoryName=id_, force=force)


class _Policy(Type):
    service = "ecr"
    renames: ClassVar = {"repository": "repositoryName"}
    exclusive = True
    in_place: ClassVar = {"policy": "set_policy"}

    def create(self, context: Context) -> str:
        """A repository has one policy, which is written over."""
        self.set_policy(context, str(context.inputs["repository"]))
        return str(context.inputs["repository"])

    def set_policy(self, context: Context, id_: str) -> None:
        """Write the policy."""
        del id_
        context.call("ecr", self.creates.name, **self.parameters(context))


class LifecyclePolicy(_Policy):
    """Which images of a repository expire."""

    pulumi_type = "aws:ecr/lifecyclePolicy:LifecyclePolicy"
    creates = Operation("put_lifecycle_policy")
    reads = Operation("get_lifecycle_policy", key="repositoryName")
    deletes = Operation("delete_lifecycle_policy", key="repositoryName")
    renames: ClassVar = {"repository": "repositoryName", "policy": "lifecyclePolicyText"}


class RepositoryPolicy(_Policy):
    """Who may use a repository."""

    pulumi_type = "aws:ecr/repositoryPolicy:RepositoryPolicy"
    creates = Operation("set_repository_policy")
    reads = Operation("get_repository_policy", key="repositoryName")
    deletes = Operation("delete_repository_policy", key="repositoryName")
    renames: ClassVar = {"repository": "repositoryName", "policy": "policyText"}
