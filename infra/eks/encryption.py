"""The key that the cluster's Secrets are encrypted with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pulumi
import pulumi_aws as aws

from infra.options import child

if TYPE_CHECKING:
    from infra.naming import Names
    from infra.settings import EksSettings

# The bounds that KMS has for the days until a deleted key is gone, in which it can still be taken back.
_SHORTEST_WINDOW_DAYS, _LONGEST_WINDOW_DAYS = 7, 30


class SecretsKey(pulumi.ComponentResource):
    """A key of KMS, of this stack alone, that is rotated every year.

    Its policy is KMS's own: the account's policies decide. Who deploys needs kms:CreateGrant and
    kms:DescribeKey besides the rights to make it: EKS uses it by a grant in the deployer's name.

    Args:
        name: the logical name.
        names: the stack's names.
        settings: the stack file's section `eks`.
        opts: must give an AWS provider.
    """

    arn: pulumi.Output[str]
    """Of the key: without it, nothing that is in the cluster's Secrets can be read."""

    def __init__(
        self, name: str, *, names: Names, settings: EksSettings, opts: pulumi.ResourceOptions
    ) -> None:
        super().__init__("berth:eks:SecretsKey", name, None, opts)
        key = aws.kms.Key(
            f"{name}-key",
            description=f"Secrets of the cluster of {names.base}",
            enable_key_rotation=True,
            deletion_window_in_days=(
                _LONGEST_WINDOW_DAYS if settings.deletion_protection else _SHORTEST_WINDOW_DAYS
            ),
            tags={"Name": names.of("secrets")},
            opts=child(self, minutes=10),
        )
        aws.kms.Alias(
            f"{name}-alias",
            name=f"alias/{names.of('secrets')}",
            target_key_id=key.id,
            opts=child(self, delete_before_replace=True),
        )
        self.arn = key.arn
        self.register_outputs({"arn": self.arn})
