# ruff: noqa: D102, N803  # the methods are AWS's operations, with the names of their parameters
"""Service Quotas: the quotas that a deployment runs into, with the values that the sandbox enforces."""

from __future__ import annotations

from typing import Any

from moto.servicequotas.resources.default_quotas.vpc import VPC_DEFAULT_QUOTAS

from sandbox.aws.capacity import QUOTAS, limits
from sandbox.aws.cloud import ACCOUNT_ID, REGION
from sandbox.aws.errors import AwsError
from sandbox.aws.service import JsonService

_ADDRESSES = 5.0  # every account's; nothing here counts against it


class ServiceQuotas(JsonService):
    """The operations that read quotas."""

    name = "service-quotas"
    invalid_code = "IllegalArgumentException"

    def _quotas(self, service_code: str, *, default: bool) -> list[dict[str, Any]]:
        if service_code == "vpc":
            found: list[dict[str, Any]] = VPC_DEFAULT_QUOTAS
            return found
        if service_code == "ec2":
            vcpus = [
                _described(each.code, each.name, each.default if default else limits.value(each))
                for each in QUOTAS
            ]
            return [*vcpus, _described("L-0263D0A3", "EC2-VPC Elastic IPs", _ADDRESSES)]
        raise AwsError("NoSuchResourceException", f"The service code {service_code} is not known.")

    def _quota(self, service_code: str, quota_code: str, *, default: bool) -> dict[str, Any]:
        for quota in self._quotas(service_code, default=default):
            if quota["QuotaCode"] == quota_code:
                return {"Quota": quota}
        raise AwsError(
            "NoSuchResourceException",
            f"The request failed because the specified service quota {quota_code} does not exist.",
        )

    def get_service_quota(self, ServiceCode: str, QuotaCode: str, **_: Any) -> dict[str, Any]:
        return self._quota(ServiceCode, QuotaCode, default=False)

    def get_aws_default_service_quota(self, ServiceCode: str, QuotaCode: str) -> dict[str, Any]:
        return self._quota(ServiceCode, QuotaCode, default=True)

    def list_service_quotas(self, ServiceCode: str, **_: Any) -> dict[str, Any]:
        return {"Quotas": self._quotas(ServiceCode, default=False)}

    def list_aws_default_service_quotas(self, ServiceCode: str, **_: Any) -> dict[str, Any]:
        return {"Quotas": self._quotas(ServiceCode, default=True)}


def _described(code: str, name: str, value: float) -> dict[str, Any]:
    return {
        "ServiceCode": "ec2",
        "ServiceName": "Amazon Elastic Compute Cloud (Amazon EC2)",
        "QuotaArn": f"arn:aws:servicequotas:{REGION}:{ACCOUNT_ID}:ec2/{code}",
        "QuotaCode": code,
        "QuotaName": name,
        "Value": value,
        "Unit": "None",
        "Adjustable": True,
        "GlobalQuota": False,
    }
