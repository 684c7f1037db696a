"""A private bucket: closed to the public, encrypted, and rid of what was only half uploaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pulumi
import pulumi_aws as aws

from infra import naming
from infra.options import child

if TYPE_CHECKING:
    from collections.abc import Mapping

_ABANDONED_DAYS = 7


def private_bucket(
    parent: pulumi.Resource,
    name: str,
    *,
    names: naming.Names,
    what: str,
    account_id: pulumi.Input[str],
    force_destroy: bool,
    expire_after_days: int | None = None,
) -> tuple[aws.s3.Bucket, list[pulumi.Resource]]:
    """Return a bucket, and what keeps it private: what is put into it waits for that.

    Args:
        parent: the component that needs it.
        name: the logical name.
        names: the stack's names.
        what: the bucket's purpose, for its name.
        account_id: the account.
        force_destroy: whether it is deleted with all that is in it; else AWS refuses while something is.
        expire_after_days: when objects are deleted; None for never.
    """
    bucket = aws.s3.Bucket(
        name,
        # Buckets share one namespace with all of AWS: the account makes the name ours.
        bucket=pulumi.Output.from_input(account_id).apply(
            lambda account: names.of(f"{what}-{account}", naming.BUCKET_LENGTH)
        ),
        force_destroy=force_destroy,
        opts=child(parent, minutes=20),
    )
    rules: list[Mapping[str, Any]] = [
        {
            "id": "abandoned-uploads",
            "status": "Enabled",
            "filter": {"prefix": ""},
            "abort_incomplete_multipart_upload": {"days_after_initiation": _ABANDONED_DAYS},
        }
    ]
    if expire_after_days is not None:
        rules.append(
            {
                "id": "expiry",
                "status": "Enabled",
                "filter": {"prefix": ""},
                "expiration": {"days": expire_after_days},
            }
        )
    return bucket, [
        aws.s3.BucketPublicAccessBlock(
            f"{name}-closed",
            bucket=bucket.id,
            block_public_acls=True,
            block_public_policy=True,
            ignore_public_acls=True,
            restrict_public_buckets=True,
            opts=child(parent),
        ),
        aws.s3.BucketServerSideEncryptionConfiguration(
            f"{name}-encryption",
            bucket=bucket.id,
            # With keys of S3's own: the load balancer's logs can be written with no other.
            rules=[{"apply_server_side_encryption_by_default": {"sse_algorithm": "AES256"}}],
            opts=child(parent),
        ),
        aws.s3.BucketLifecycleConfiguration(
            f"{name}-lifecycle",
            bucket=bucket.id,
            rules=rules,
            opts=child(parent, minutes=10),
        ),
    ]
