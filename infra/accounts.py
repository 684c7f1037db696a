"""The providers of AWS and RunPod: the clouds themselves, or those of this machine's sandbox."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pulumi
import pulumi_aws as aws

from infra.sandbox import Sandbox

if TYPE_CHECKING:
    from infra.naming import Names
    from infra.settings import Settings

_RUNPOD_URL = "https://api.runpod.io/v2"
_SERVICES = (
    "autoscaling",
    "budgets",
    "codebuild",
    "ec2",
    "ecr",
    "eks",
    "elbv2",
    "iam",
    "kms",
    "logs",
    "s3",
    "ssm",
    "sts",
    "wafv2",
)


@dataclass(frozen=True)
class Accounts:
    """Where a stack's resources are made.

    Attributes:
        aws: the explicit provider of every AWS resource, which tags them all.
        region: AWS's region.
        aws_endpoint: another endpoint of AWS's API; None for AWS itself.
        runpod_url: base URL of RunPod's REST API.
        clouds: what must be there before anything else and go last; empty where the clouds are not ours.
    """

    aws: aws.Provider
    region: pulumi.Input[str]
    aws_endpoint: pulumi.Output[str] | None
    runpod_url: pulumi.Input[str]
    clouds: tuple[pulumi.Resource, ...]


def accounts(settings: Settings, names: Names) -> Accounts:
    """Return the providers of a stack. Credentials are those of the environment, and in no stack file.

    Raises:
        pulumi.RunError: the stack has a sandbox, and the environment is not the sandbox's.
    """
    if settings.sandbox is None:
        provider = aws.Provider(
            "aws",
            region=settings.aws.region,
            allowed_account_ids=settings.aws.account_id and [settings.aws.account_id],
            default_tags={"tags": names.tags},
        )
        return Accounts(provider, settings.aws.region, None, _RUNPOD_URL, ())
    _refuse_another_environment()
    sandbox = Sandbox(
        "sandbox",
        block=settings.sandbox.loopback_block,
        targets=settings.targets,
        model=settings.model.name,
        # What somebody else's server loads, it has to bring.
        revision="" if settings.server is not None else settings.model.revision,
        task=settings.model.task,
        adapters={adapter.name: adapter.revision for adapter in settings.model.adapters.values()},
    )
    provider = aws.Provider(
        "aws",
        region=settings.aws.region,
        # Said here, so that neither a profile nor a role of this machine is used against the sandbox.
        access_key=pulumi.Output.secret(os.environ.get("AWS_ACCESS_KEY_ID", "")),
        secret_key=pulumi.Output.secret(os.environ.get("AWS_SECRET_ACCESS_KEY", "")),
        endpoints=[dict.fromkeys(_SERVICES, sandbox.aws_endpoint)],
        s3_use_path_style=True,
        skip_metadata_api_check=True,
        default_tags={"tags": names.tags},
        opts=pulumi.ResourceOptions(depends_on=[sandbox]),
    )
    return Accounts(provider, settings.aws.region, sandbox.aws_endpoint, sandbox.runpod_url, (sandbox,))


def _refuse_another_environment() -> None:
    """Refuse keys that may be of a paid account: this stack's state would hold them, and all can read it."""
    address = urlsplit(os.environ.get("AWS_ENDPOINT_URL", ""))
    try:
        is_sandbox = address.scheme == "http" and ipaddress.ip_address(address.hostname or "").is_loopback
    except ValueError:
        is_sandbox = False
    if not is_sandbox:
        raise pulumi.RunError(
            "the environment's AWS credentials are not the sandbox's, as AWS_ENDPOINT_URL is not an address "
            'http://127...: run `eval "$(./berth env --stack local)"` first, or use ./berth'
        )
