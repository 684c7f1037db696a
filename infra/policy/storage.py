"""Policies on what keeps data: encrypted, and closed to the public."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulumi_policy import ResourceValidationPolicy, StackValidationPolicy

from infra.policy.values import is_true, items, within

if TYPE_CHECKING:
    from pulumi_policy import ReportViolation, ResourceValidationArgs, StackValidationArgs

_CLOSED = ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets")
_BUCKETS = ("aws:s3/bucket:Bucket", "aws:s3/bucketV2:BucketV2")
_BUCKET_CLOSER = "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock"


def _encrypted(args: ResourceValidationArgs, report: ReportViolation) -> None:
    if args.resource_type == "aws:ebs/volume:Volume" and not is_true(args.props.get("encrypted")):
        report(f"the volume {args.name} is not encrypted: set encrypted to true", args.urn)
    if args.resource_type == "aws:ec2/launchTemplate:LaunchTemplate":
        for mapping in items(args.props.get("blockDeviceMappings")):
            if "ebs" in mapping and not is_true(within(mapping, "ebs", "encrypted")):
                report(
                    f"the launch template {args.name} starts machines whose disk "
                    f"{mapping.get('deviceName')} is not encrypted: set ebs.encrypted to true",
                    args.urn,
                )
    if args.resource_type == "aws:eks/cluster:Cluster":
        encryption = within(args.props, "encryptionConfig")
        if "secrets" not in items(within(encryption, "resources")):
            report(
                f"the cluster {args.name} keeps Secrets under no key of ours: set encryptionConfig with a "
                "KMS key for secrets",
                args.urn,
            )


ENCRYPTED_AT_REST = ResourceValidationPolicy(
    name="encrypted-at-rest",
    # Of buckets nothing is asked: S3 encrypts every object since January 2023, and cannot be told not to.
    description="Volumes, machines' disks and clusters' Secrets are encrypted.",
    validate=_encrypted,
)


def _closed(args: StackValidationArgs, report: ReportViolation) -> None:
    closed = {
        bucket.urn
        for resource in args.resources
        if resource.resource_type == _BUCKET_CLOSER
        and all(is_true(resource.props.get(key)) for key in _CLOSED)
        for bucket in resource.property_dependencies.get("bucket", [])
    }
    for resource in args.resources:
        if resource.resource_type in _BUCKETS and resource.urn not in closed:
            report(
                f"the bucket {resource.name} could be made public: give it a BucketPublicAccessBlock with "
                f"{', '.join(_CLOSED)}",
                resource.urn,
            )


BUCKETS_ARE_CLOSED = StackValidationPolicy(
    name="buckets-are-closed",
    description="No bucket can be made public, by mistake or by policy.",
    validate=_closed,
)
