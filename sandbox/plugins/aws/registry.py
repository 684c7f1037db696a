"""Finds a resource type by its token; a service's file is imported when it is first needed."""

from __future__ import annotations

import functools
import importlib
from typing import Final

from sandbox.plugins.aws.types import Type
from sandbox.plugins.errors import PluginError

# Which file has the types of a module of the official provider.
_FILES: Final[dict[str, tuple[str, ...]]] = {
    "autoscaling": ("autoscaling",),
    "budgets": ("budgets",),
    "cloudwatch": ("logs",),
    "codebuild": ("codebuild",),
    "ec2": ("ec2_network", "ec2_routes", "ec2_security", "ec2_launch", "ec2_flow_logs"),
    "ecr": ("ecr",),
    "eks": ("eks", "eks_nodes", "eks_addons", "eks_access"),
    "iam": ("iam",),
    "kms": ("kms",),
    "lb": ("elb", "elb_listeners"),
    "s3": ("s3", "s3_settings"),
    "ssm": ("ssm",),
    "vpc": ("ec2_security",),
    "wafv2": ("wafv2",),
}


@functools.cache
def type_of(token: str) -> Type:
    """Return the type of a token such as `aws:ec2/vpc:Vpc`.

    Raises:
        PluginError: this plugin does not have it.
    """
    module = token.split(":")[1].partition("/")[0]
    for file in _FILES.get(module, ()):
        services = importlib.import_module(f"sandbox.plugins.aws.services.{file}")
        for item in vars(services).values():
            if (
                isinstance(item, type)
                and issubclass(item, Type)
                and getattr(item, "pulumi_type", "") == token
            ):
                return item()
    raise PluginError(
        f"the resource type {token} is not supported by this plugin; the official aws plugin has it"
    )
