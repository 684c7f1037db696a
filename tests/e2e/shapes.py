"""Cuts an environment's stack file to the size of this machine, by settings alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from pathlib import Path


def cut(stacks: Path, environment: str) -> dict[str, Any]:
    """Return the configuration of an environment with the model, the sizes and the addresses of `local`.

    What makes the environment what it is stays: its network, its node groups, its load balancer, its budget.
    Prometheus and KEDA are not on this machine, so monitoring goes, and replicas by load with it.
    """
    config: dict[str, Any] = _config(stacks, environment)
    local = _config(stacks, "local")
    for key in ("berth:model", "berth:serving", "berth:image", "berth:runpod", "berth:sandbox"):
        config[key] = local[key]
    config["berth:aws"] = {**config["berth:aws"], "region": local["berth:aws"]["region"]}
    config["berth:targets"] = ["eks"]
    eks = config["berth:eks"]
    eks["api"] = local["berth:eks"]["api"]
    eks["pod"] = local["berth:eks"]["pod"]
    eks["deletion_protection"] = False
    eks["load_balancer"].update(port=8080, allowed_cidrs=["127.0.0.0/8"])
    eks.pop("monitoring", None)
    if autoscaling := eks.pop("autoscaling", None):
        eks["replicas"] = autoscaling["min_replicas"]
    return config


def _config(stacks: Path, stack: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((stacks / f"Pulumi.{stack}.yaml").read_text())
    config: dict[str, Any] = document["config"]
    return config
