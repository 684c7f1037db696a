"""What AWS refuses of logs that its services deliver: flow logs, access logs of load balancers, and the
bucket policies that let them.

Importing this module puts the rules in front of moto's operations.
"""

from __future__ import annotations

import fnmatch
import json
from typing import Any

from moto.ec2.models.flow_logs import FlowLogsBackend
from moto.elbv2.responses import ELBV2Response
from moto.logs.models import logs_backends
from moto.s3.models import S3Backend, s3_backends

from sandbox.aws.cloud import ACCOUNT_ID
from sandbox.aws.errors import AwsError
from sandbox.aws.guards import after, before, replace
from sandbox.aws.service import trusts

# Who writes the load balancers' logs: the service everywhere, and in the regions before August 2022 also an
# account of AWS's own; this one is us-east-1's.
# https://docs.aws.amazon.com/elasticloadbalancing/latest/application/enable-access-logging.html
_LOG_DELIVERY_SERVICE = "logdelivery.elasticloadbalancing.amazonaws.com"
_LOG_DELIVERY_ACCOUNT = "127311923021"


_create_flow_logs: Any = FlowLogsBackend.create_flow_logs


def _create_with_role(ec2: Any, **options: Any) -> tuple[list[Any], list[tuple[str, str, str]]]:
    """Make flow logs, but for a role that the service cannot assume: that fails for each resource."""
    kind = options["log_destination_type"] or "cloud-watch-logs"
    role = options["deliver_logs_permission_arn"]
    if kind == "cloud-watch-logs" and role and not trusts(role, "vpc-flow-logs.amazonaws.com"):
        return [], [(each, "400", "Unable to assume given IAM role") for each in options["resource_ids"]]
    made, failed = _create_flow_logs(ec2, **options)
    for flow_log in made:
        _note_delivery(ec2, flow_log)
    return made, failed


def _note_delivery(ec2: Any, flow_log: Any) -> None:
    """Say that logs are delivered where the group is named by its ARN, which moto does not look up."""
    if flow_log.log_destination_type != "cloud-watch-logs" or not flow_log.log_destination:
        return
    name = flow_log.log_destination.partition(":log-group:")[2].removesuffix(":*")
    if name in logs_backends[ACCOUNT_ID][ec2.region_name].groups:
        flow_log.deliver_logs_status, flow_log.deliver_logs_error_message = "SUCCESS", None


replace(FlowLogsBackend, "create_flow_logs", _create_with_role)


@before(S3Backend, "put_bucket_policy")
def _policy_is_one(_: Any, bucket_name: str, policy: bytes | str) -> None:
    text = policy.decode() if isinstance(policy, bytes) else policy
    try:
        document = json.loads(text)
    except ValueError as error:
        raise AwsError(
            "MalformedPolicy", "Policies must be valid JSON and the first byte must be '{'"
        ) from error
    for statement in _statements(document):
        for field in ("Effect", "Principal", "Action", "Resource"):
            if field not in statement and f"Not{field}" not in statement:
                raise AwsError("MalformedPolicy", f"Missing required field {field}")
        for resource in _texts(statement.get("Resource")):
            if resource.partition(":::")[2].partition("/")[0] != bucket_name:
                raise AwsError("MalformedPolicy", "Policy has invalid resource")


def _statements(document: Any) -> list[dict[str, Any]]:
    found = document.get("Statement", []) if isinstance(document, dict) else []
    return [found] if isinstance(found, dict) else list(found)


def _texts(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value or [])


@before(ELBV2Response, "modify_load_balancer_attributes")
def _logs_can_be_delivered(request: Any) -> None:
    params = request._get_params()  # noqa: SLF001  # moto's way to the parameters
    balancer = request.elbv2_backend.load_balancers.get(params["LoadBalancerArn"])
    if balancer is None:
        return
    changed = {each["Key"]: each.get("Value", "") for each in params.get("Attributes", [])}
    wanted = {**balancer.attrs, **changed}
    if wanted.get("access_logs.s3.enabled") != "true" or not changed.keys() & _ACCESS_LOG_KEYS:
        return
    bucket_name, prefix = wanted.get("access_logs.s3.bucket", ""), wanted.get("access_logs.s3.prefix", "")
    if not _may_write(bucket_name, _log_key(prefix)):
        raise AwsError(
            "InvalidConfigurationRequest",
            f"Access Denied for bucket: {bucket_name}. Please check S3bucket permission",
        )


_ACCESS_LOG_KEYS = {f"access_logs.s3.{each}" for each in ("enabled", "bucket", "prefix")}


def _log_key(prefix: str) -> str:
    return f"{prefix}/AWSLogs/{ACCOUNT_ID}/" if prefix else f"AWSLogs/{ACCOUNT_ID}/"


def _may_write(bucket_name: str, key: str) -> bool:
    bucket = s3_backends[ACCOUNT_ID]["aws"].buckets.get(bucket_name)
    if bucket is None or "aws:kms" in json.dumps(bucket.encryption or {}, default=str):
        return False  # the only encryption that log delivery can write under is S3's own
    document = json.loads(bucket.policy) if bucket.policy else {}
    resource = f"arn:aws:s3:::{bucket_name}/{key}test"
    return any(
        statement.get("Effect") == "Allow"
        and _is_log_delivery(statement.get("Principal"))
        and any(fnmatch.fnmatchcase("s3:PutObject", each) for each in _texts(statement.get("Action")))
        and any(fnmatch.fnmatchcase(resource, each) for each in _texts(statement.get("Resource")))
        for statement in _statements(document)
    )


def _is_log_delivery(principal: Any) -> bool:
    if principal == "*":
        return True
    if not isinstance(principal, dict):
        return False
    accounts = {f"arn:aws:iam::{_LOG_DELIVERY_ACCOUNT}:root", _LOG_DELIVERY_ACCOUNT, "*"}
    return _LOG_DELIVERY_SERVICE in _texts(principal.get("Service")) or bool(
        accounts & set(_texts(principal.get("AWS")))
    )


@after(ELBV2Response, "modify_load_balancer_attributes")
def _test_file_is_written(request: Any, _: Any) -> None:
    """Leave what AWS leaves in the bucket when logging is switched on: it is not empty from then on."""
    params = request._get_params()  # noqa: SLF001
    attributes = request.elbv2_backend.load_balancers[params["LoadBalancerArn"]].attrs
    if attributes.get("access_logs.s3.enabled") == "true":
        key = f"{_log_key(attributes.get('access_logs.s3.prefix', ''))}ELBAccessLogTestFile"
        s3_backends[ACCOUNT_ID]["aws"].put_object(
            attributes["access_logs.s3.bucket"], key, b"Enable AccessLog"
        )
