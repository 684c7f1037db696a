"""What KMS refuses and moto does not: keys that are pending deletion, waiting times out of bounds.

Importing this module puts the rules in front of moto's operations. The words are those of
https://docs.aws.amazon.com/kms/latest/developerguide/key-state.html and of the service's own checks.
"""

from __future__ import annotations

from typing import Any

from moto.kms.models import KmsBackend, kms_backends
from moto.kms.responses import KmsResponse
from moto.logs.models import LogsBackend

from sandbox.aws.cloud import ACCOUNT_ID, REGION
from sandbox.aws.errors import AwsError
from sandbox.aws.guards import before, replace

_PENDING_WINDOW_DAYS = (7, 30)


def find_key(arn: str) -> Any:
    """Return moto's key of an ARN (a key's or an alias's), or None where there is none."""
    region = arn.split(":")[3] if arn.startswith("arn:aws:kms:") else REGION
    name = arn.rpartition(":")[2].removeprefix("key/")
    keys = kms_backends[ACCOUNT_ID][region].keys.values()
    return next((key for key in keys if name == key.id or name in key.aliases), None)


def _refuse_pending(key: Any) -> None:
    if key is not None and key.key_state == "PendingDeletion":
        raise AwsError("KMSInvalidStateException", f"{key.arn} is pending deletion.")


@before(KmsResponse, "schedule_key_deletion")
def _waiting_time_is_in_bounds(request: Any) -> None:
    days = request._get_param("PendingWindowInDays")  # noqa: SLF001
    low, high = _PENDING_WINDOW_DAYS
    if days is not None and not low <= int(days) <= high:
        raise AwsError(
            "ValidationException",
            f"PendingWindowInDays must be between {low} and {high} days, inclusive: {days}",
        )
    _refuse_pending(find_key(request._get_param("KeyId") or ""))  # noqa: SLF001


_schedule: Any = KmsBackend.schedule_key_deletion


def _schedule_by_arn(kms: Any, key_id: str, pending_window_in_days: int) -> float:
    """Schedule a deletion, of a key that may be named by its ARN."""
    deletion: float = _schedule(kms, kms.get_key_id(key_id), pending_window_in_days)
    return deletion


replace(KmsBackend, "schedule_key_deletion", _schedule_by_arn)


@before(KmsBackend, "create_alias")
def _aliased_by_aws_is_awss(kms: Any, target_key_id: str, alias_name: str) -> None:
    """Tell the keys under which AWS encrypts where nobody names one from those that somebody pays for."""
    if alias_name.startswith("alias/aws/"):
        kms.keys[target_key_id].key_manager = "AWS"


@before(KmsResponse, "create_alias")
@before(KmsResponse, "update_alias")
def _aliased_key_stays(request: Any) -> None:
    target = request._get_param("TargetKeyId") or ""  # noqa: SLF001
    key = find_key(target)
    if key is None:
        raise AwsError("NotFoundException", f"Key '{target}' does not exist")
    _refuse_pending(key)


@before(KmsResponse, "enable_key")
@before(KmsResponse, "disable_key")
@before(KmsResponse, "enable_key_rotation")
@before(KmsResponse, "disable_key_rotation")
@before(KmsResponse, "update_key_description")
@before(KmsResponse, "tag_resource")
def _changed_key_stays(request: Any) -> None:
    _refuse_pending(find_key(request._get_param("KeyId") or ""))  # noqa: SLF001


@before(LogsBackend, "create_log_group")
def _log_group_key_exists(_: Any, log_group_name: str, _tags: dict[str, str], **options: Any) -> None:
    arn = options.get("kmsKeyId")
    key = find_key(str(arn)) if arn else None
    if arn and (key is None or key.key_state != "Enabled"):
        raise AwsError(
            "InvalidParameterException",
            "The specified KMS key does not exist or is not allowed to be used with Arn "
            f"'arn:aws:logs:{REGION}:{ACCOUNT_ID}:log-group:{log_group_name}'",
        )
