"""The Pulumi program: settings -> components -> outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pulumi
import pulumi_aws as aws
from pulumi.runtime.config import CONFIG

from infra import serving, settings
from infra.accounts import accounts
from infra.api_key import ApiKey
from infra.budget import Budget
from infra.eks.deployment import deploy
from infra.image import Image
from infra.image_bundle import bundle
from infra.naming import Names
from infra.options import component
from infra.registry import Registry
from infra.runpod.endpoint import RunpodEndpoint

_IMAGE_FOLDER = Path(__file__).resolve().parent.parent / "image"


def main() -> None:
    """Declare what the stack's file says."""
    stack = pulumi.get_stack()
    try:
        wanted = settings.from_config(CONFIG.get(), f"stacks/Pulumi.{stack}.yaml")
    except settings.SettingsError as error:
        raise pulumi.RunError(str(error)) from None
    names = Names(pulumi.get_project(), stack, wanted.aws.owner)
    spec = serving.spec(wanted)
    where = accounts(wanted, names)
    caller = aws.get_caller_identity_output(opts=pulumi.InvokeOutputOptions(provider=where.aws))
    if wanted.aws.budget is not None:
        Budget("budget", names=names, settings=wanted.aws.budget, opts=component(where.aws))
    secrets = pulumi.Config()
    hub_token = secrets.get_secret("hubToken")
    on_runpod = "runpod" in wanted.targets

    image: pulumi.Input[str]
    registry: Registry | None = None
    if wanted.image.reference is not None:
        image = wanted.image.reference
    else:
        registry = Registry(
            "registry",
            names=names,
            pulled_by_runpod=on_runpod,
            opts=component(where.aws),
        )
        image = Image(
            "image",
            names=names,
            settings=wanted.image,
            bundle=bundle(_IMAGE_FOLDER),
            registry=registry,
            account_id=caller.account_id,
            region=where.region,
            endpoint=where.aws_endpoint,
            model=wanted.model if wanted.model.weights == "image" else None,
            hub_token=hub_token,
            opts=component(where.aws),
        ).reference

    endpoints: dict[str, Any] = {}
    if "eks" in wanted.targets:
        api_key = secrets.get_secret("apiKey") or ApiKey("api-key").key
        deployed = deploy(
            names=names,
            settings=wanted.require_eks(),
            serving=spec,
            accounts=where,
            caller_arn=caller.arn,
            account_id=caller.account_id,
            image=image,
            api_key=api_key,
            hub_token=hub_token,
        )
        endpoints["eks"] = {
            "url": pulumi.Output.concat(deployed.url, "/v1"),
            "health": pulumi.Output.concat(deployed.url, spec.health_path),
            "asks_for_key": spec.api_key_variable is not None,
        }
        pulumi.export("api_key", pulumi.Output.secret(api_key))
        pulumi.export("kubeconfig", deployed.kubeconfig)
        pulumi.export("cluster_name", deployed.cluster_name)
    if on_runpod:
        endpoint = RunpodEndpoint(
            "runpod",
            settings=wanted.require_runpod(),
            serving=spec,
            image=image,
            api_url=where.runpod_url,
            repository_arn=registry.repository.arn if registry else None,
            repository_access=[registry.pull_policy] if registry and registry.pull_policy else [],
            registry_password=secrets.get_secret("registryPassword"),
            secret_environment={} if hub_token is None else {"HF_TOKEN": hub_token},
            opts=pulumi.ResourceOptions(depends_on=list(where.clouds)),
        )
        endpoints["runpod"] = {
            "url": pulumi.Output.concat(endpoint.base_url, "/v1"),
            "health": endpoint.health_url,
            "id": endpoint.endpoint_id,
            "type": wanted.require_runpod().endpoint_type,
            "console": endpoint.console_url,
            **({} if endpoint.jobs_url is None else {"jobs": endpoint.jobs_url}),
        }
    pulumi.export("targets", list(wanted.targets))
    pulumi.export("model", wanted.served_name)
    pulumi.export("task", wanted.model.task)
    pulumi.export("models", list(wanted.model.request_names))
    if wanted.model.query_instruction is not None:
        pulumi.export("query_instruction", wanted.model.query_instruction)
    pulumi.export("image", image)
    pulumi.export("endpoints", endpoints)


main()
