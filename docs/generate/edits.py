"""What people change in a stack file, as values that fit the stack: what its page proposes, tests load."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from infra.serving import spec
from ops.stacks import LOCAL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.settings import EksSettings, GpuNodeSettings, RunpodSettings, Settings

_CERTIFICATE = "arn:aws:acm:us-east-1:111122223333:certificate/0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9"


@dataclass(frozen=True)
class Edit:
    """One change to a stack file.

    Attributes:
        aim: what it is for.
        values: path of the setting, such as `eks.replicas` -> its new value.
        removed: paths of settings that do not go with it.
    """

    aim: str
    values: Mapping[str, Any]
    removed: tuple[str, ...] = ()

    def applied(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return a stack file's configuration with the change."""
        changed: dict[str, Any] = yaml.safe_load(yaml.safe_dump(dict(config)))
        for path, value in self.values.items():
            *sections, key = _keys(path)
            place = changed
            for section in sections:
                place = place.setdefault(section, {})
            place[key] = value
        for path in self.removed:
            *sections, key = _keys(path)
            place = changed
            for section in sections:
                place = place[section]
            del place[key]
        return changed

    def text(self) -> str:
        """Return it as lines of a stack file."""
        return yaml.safe_dump(Edit(self.aim, self.values).applied({}), sort_keys=False, width=100)


def _keys(path: str) -> list[str]:
    section, *keys = path.split(".")
    return [f"berth:{section}", *keys]


def edits(settings: Settings) -> list[Edit]:
    """Return the changes that this stack invites."""
    found = [*_of_server(settings)]
    if settings.eks is not None:
        found += _of_eks(settings, settings.eks)
    if settings.runpod is not None:
        found += _of_runpod(settings, settings.runpod)
    if len(settings.targets) > 1:
        found.append(Edit("One cloud alone; the other's section may stay", {"targets": ["runpod"]}))
    if settings.aws.budget is None and settings.stack != LOCAL:
        budget = {"monthly_usd": 500, "alert_emails": ["ml-platform@example.com"]}
        found.append(Edit("Mail when the month's cost comes near an amount", {"aws.budget": budget}))
    return found


def _of_server(settings: Settings) -> list[Edit]:
    found = []
    model, serving = settings.model, settings.serving
    if settings.server is not None:
        return []
    if model.task == "generate":
        found.append(
            Edit(
                "Room for more requests at once, each of them shorter",
                {"model.max_model_len": model.max_model_len // 2},
            )
        )
    if serving.max_num_seqs:
        found.append(
            Edit("More requests in a batch", {"serving.max_num_seqs": serving.max_num_seqs * 2}),
        )
    return found


def _of_eks(settings: Settings, eks: EksSettings) -> list[Edit]:
    name, group = next(iter(eks.gpu_node_groups.items()))
    path = f"eks.gpu_node_groups.{name}"
    found = []
    if group.desired == 0:
        found.append(Edit("A GPU machine that is there before a pod waits for it", {f"{path}.desired": 1}))
    if eks.autoscaling is None:
        found.append(_one_replica_more(path, eks, group))
        # Replicas follow what vLLM counts, and Prometheus comes from a registry of charts.
        if settings.server is None and settings.stack != LOCAL:
            found.append(
                Edit(
                    "Replicas by load, from one to three, and Prometheus and machines for them",
                    {
                        "eks.monitoring": {"retention_days": 15},
                        "eks.autoscaling": {"min_replicas": 1, "max_replicas": 3},
                        "eks.cluster_autoscaler": True,
                        f"{path}.max": 3,
                    },
                    removed=("eks.replicas",),
                )
            )
    else:
        most = eks.autoscaling.max_replicas + 2
        found.append(
            Edit("A higher peak", {"eks.autoscaling.max_replicas": most, f"{path}.max": most}),
        )
    # What asks for no key stays inside; of vLLM's routes, /classify is one.
    asks_for_key = spec(settings).api_key_variable is not None and settings.model.task != "classify"
    if settings.stack != LOCAL and asks_for_key:
        found.append(
            Edit(
                "Clients outside of the VPC, by HTTPS",
                {
                    "eks.load_balancer.internal": False,
                    "eks.load_balancer.certificate_arn": _CERTIFICATE,
                    "eks.load_balancer.host_name": "models.example.com",
                    "eks.load_balancer.allowed_cidrs": ["203.0.113.0/24"],
                },
            )
        )
    return found


def _one_replica_more(path: str, eks: EksSettings, group: GpuNodeSettings) -> Edit:
    machines = {f"{path}.max": group.max + 1}
    if not eks.cluster_autoscaler:
        machines[f"{path}.desired"] = group.desired + 1
    return Edit("One replica more", {"eks.replicas": eks.replicas + 1, **machines})


def _of_runpod(settings: Settings, runpod: RunpodSettings) -> list[Edit]:
    found = []
    if runpod.workers_min == 0:
        found.append(Edit("A RunPod worker that is always warm", {"runpod.workers_min": 1}))
    else:
        found.append(Edit("A higher peak on RunPod", {"runpod.workers_max": runpod.workers_max + 2}))
    if settings.stack != LOCAL:
        volume = {"data_center_id": "EU-RO-1", "size_gib": 60}
        found.append(
            Edit("Weights and compiled code that stay between RunPod's workers", {"runpod.volumes": [volume]})
        )
    if settings.server is None:
        found.append(
            Edit(
                "Jobs that wait for a worker, in the place of a load balancer (replaces the endpoint)",
                {"runpod.endpoint_type": "QUEUE", "runpod.queue_delay_seconds": 4},
                removed=("runpod.request_count",),
            )
        )
    return found
