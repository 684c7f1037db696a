"""What was deployed: from the record of the last `up`."""

from __future__ import annotations

import shlex
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from infra.gpus import INSTANCE_GPUS
from infra.settings import PROJECT
from ops.report import figures
from ops.report.blocks import Code, Facts, Section, Table, Text

if TYPE_CHECKING:
    from ops.report.blocks import Block
    from ops.report.evidence import Evidence

CLOUDS = {"eks": "EKS", "runpod": "RunPod"}
_KINDS = {
    "aws": "AWS",
    "kubernetes": "Kubernetes",
    "pulumi-python": "dynamic resources",
    PROJECT: "components, which hold the others",
    "pulumi": "Pulumi's own",
}


def section(evidence: Evidence) -> Section:
    """Return the part."""
    blocks: list[Block] = []
    if evidence.up is None:
        command = f"./berth up --stack {evidence.stack}"
        blocks.append(Text(f"No `up` is recorded on this machine: `{command}`.", "missing"))
        return Section("deployed", "What was deployed", blocks)
    up = evidence.up.said
    if up.problem is not None:
        blocks.append(Text(f"This `up` failed: {up.problem}", "bad"))
    model = up.settings.get(f"{PROJECT}:model") or {}
    outputs = up.outputs
    question = ", with the time at its question" if up.asked else ""
    blocks.append(
        Facts(
            [
                ("Targets", " and ".join(CLOUDS.get(name, name) for name in _targets(up.settings))),
                ("Model", f"{model.get('name', figures.NONE)}"),
                ("Revision", f"{model.get('revision') or figures.NONE}"),
                ("Served as", ", ".join(outputs.get("models") or [outputs.get("model") or figures.NONE])),
                ("Task", str(outputs.get("task") or model.get("task") or figures.NONE)),
                ("Image", str(outputs.get("image") or figures.NONE)),
                ("GPUs", "; ".join(_gpus(up.settings)) or figures.NONE),
                ("`up` took", f"{figures.duration(up.duration_seconds)}{question}"),
                ("`up` ended", figures.when(evidence.up.at)),
            ]
        )
    )
    endpoints = outputs.get("endpoints") or {}
    if endpoints:
        blocks.append(_endpoints(endpoints))
    blocks.append(Code("vLLM's arguments", _lines(up.arguments)))
    blocks += _resources(up.resources)
    return Section("deployed", "What was deployed", blocks)


def _targets(settings: dict[str, Any]) -> list[str]:
    return list(settings.get(f"{PROJECT}:targets") or [])


def _gpus(settings: dict[str, Any]) -> list[str]:
    """Name the GPUs that the settings allow, and how many machines or workers."""
    targets = _targets(settings)
    parallel = (settings.get(f"{PROJECT}:serving") or {}).get("tensor_parallel_size", 1)
    found = [f"{parallel} for each replica"] if parallel > 1 else []
    eks = settings.get(f"{PROJECT}:eks") if "eks" in targets else None
    for group in ((eks or {}).get("gpu_node_groups") or {}).values():
        names = group.get("instance_types") or []
        known = [
            f"{name} ({gpus.count} × {gpus.model})"
            for name in names
            if (gpus := INSTANCE_GPUS.get(name)) is not None
        ]
        least, most = group.get("min", group.get("desired", 1)), group.get("max", group.get("desired", 1))
        spot = " spot" if group.get("capacity_type") == "SPOT" else ""
        found.append(f"EKS: {_range(least, most)} × {' or '.join(known or names)}{spot}")
    runpod = settings.get(f"{PROJECT}:runpod") if "runpod" in targets else None
    if runpod:
        workers = _range(runpod.get("workers_min", 0), runpod.get("workers_max", 1))
        found.append(f"RunPod: {workers} workers of {' or '.join(runpod.get('gpu_pools') or [])}")
    return found


def _range(least: int, most: int) -> str:
    return str(most) if least == most else f"{least} to {most}"


def _endpoints(endpoints: dict[str, Any]) -> Table:
    rows = [
        (
            CLOUDS.get(name, name),
            str(where.get("type") or "load balancer").lower().replace("_", " "),
            str(where.get("url") or figures.NONE),
        )
        for name, where in endpoints.items()
    ]
    return Table("Endpoints, without their keys", ("Where", "Type", "URL"), rows, left=3)


def _lines(arguments: list[str]) -> str:
    """Return arguments, an option with its value on a line."""
    lines: list[str] = []
    for argument in arguments:
        if argument.startswith("--") or not lines or not lines[-1].startswith("--") or " " in lines[-1]:
            lines.append(shlex.quote(argument))
        else:
            lines[-1] += f" {shlex.quote(argument)}"
    return "\n".join(lines)


def _resources(resources: dict[str, int] | None) -> list[Block]:
    if resources is None:
        return [Text("How many resources it had could not be read.", "missing")]
    groups: dict[str, dict[str, int]] = defaultdict(dict)
    for type_, count in resources.items():
        package, module, name = type_.split(":", 2)
        service = f" {module.split('/')[0]}" if package == "aws" else ""
        groups[f"{_KINDS.get(package, package)}{service}"][name] = count
    rows = [
        (
            group,
            ", ".join(f"{name} {count}" if count > 1 else name for name, count in names.items()),
            str(sum(names.values())),
        )
        for group, names in sorted(
            groups.items(), key=lambda item: (item[0].split()[0].lower() != "aws", item[0])
        )
    ]
    total = sum(resources.values())
    return [Table(f"Resources: {total}", ("Kind", "Types", "Number"), rows, left=2)]
