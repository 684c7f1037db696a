"""Policies on machines: GPUs are kept for who asks for them, and pods get no rights of the machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulumi_policy import ResourceValidationPolicy

from infra.gpus import INSTANCE_GPUS
from infra.policy.values import items, within

if TYPE_CHECKING:
    from pulumi_policy import ReportViolation, ResourceValidationArgs

_GPU_TAINT = "nvidia.com/gpu"


def _tainted(args: ResourceValidationArgs, report: ReportViolation) -> None:
    if args.resource_type != "aws:eks/nodeGroup:NodeGroup":
        return
    has_gpus = str(args.props.get("amiType", "")).endswith("_NVIDIA") or any(
        name in INSTANCE_GPUS for name in items(args.props.get("instanceTypes"))
    )
    tainted = any(
        taint.get("key") == _GPU_TAINT and taint.get("effect") == "NO_SCHEDULE"
        for taint in items(args.props.get("taints"))
    )
    if has_gpus and not tainted:
        report(
            f"the node group {args.name} has GPUs and takes any pod: give it the taint {_GPU_TAINT} with the "
            "effect NO_SCHEDULE",
            args.urn,
        )


GPU_GROUPS_ARE_TAINTED = ResourceValidationPolicy(
    name="gpu-groups-are-tainted",
    description="Machines with GPUs take pods that tolerate their taint only.",
    validate=_tainted,
)


def _token(args: ResourceValidationArgs, report: ReportViolation) -> None:
    if args.resource_type != "aws:ec2/launchTemplate:LaunchTemplate":
        return
    options = within(args.props, "metadataOptions")
    if within(options, "httpTokens") != "required" or within(options, "httpPutResponseHopLimit") != 1:
        report(
            f"the launch template {args.name} lets pods take the machine's credentials: set metadataOptions "
            "with httpTokens required and httpPutResponseHopLimit 1",
            args.urn,
        )


METADATA_WANTS_A_TOKEN = ResourceValidationPolicy(
    name="metadata-wants-a-token",
    description="A machine's credentials cannot be had from a pod.",
    validate=_token,
)
