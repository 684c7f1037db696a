"""Policy on what runs in the cluster: images are known by their content."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pulumi_policy import ResourceValidationPolicy

from infra.policy.values import items, within

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pulumi_policy import ReportViolation, ResourceValidationArgs

_DIGEST = re.compile(r".+@sha256:[0-9a-f]{64}")
# Kind -> where its pods are described.
_PODS = {
    "kubernetes:core/v1:Pod": ("spec",),
    "kubernetes:apps/v1:Deployment": ("spec", "template", "spec"),
    "kubernetes:apps/v1:DaemonSet": ("spec", "template", "spec"),
    "kubernetes:apps/v1:StatefulSet": ("spec", "template", "spec"),
    "kubernetes:apps/v1:ReplicaSet": ("spec", "template", "spec"),
    "kubernetes:batch/v1:Job": ("spec", "template", "spec"),
    "kubernetes:batch/v1:CronJob": ("spec", "jobTemplate", "spec", "template", "spec"),
}


def _containers(pod: Any) -> Iterator[Mapping[str, Any]]:
    for kind in ("initContainers", "containers"):
        yield from items(within(pod, kind))


def _by_digest(args: ResourceValidationArgs, report: ReportViolation) -> None:
    path = _PODS.get(args.resource_type)
    if path is None:
        return
    for container in _containers(within(args.props, *path)):
        image = container.get("image", "")
        if not _DIGEST.fullmatch(image):
            report(
                f"the container {container.get('name')} of {args.name} runs the image {image!r}, whose "
                "content can change: write it with its digest, name@sha256:...",
                args.urn,
            )


IMAGES_BY_DIGEST = ResourceValidationPolicy(
    name="images-by-digest",
    description="Images are referred to by digest.",
    validate=_by_digest,
)
