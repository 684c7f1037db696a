"""The certificate of the load balancer, and a VPC that is there already."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError
from pulumi import RunError

from infra.eks import existing_network
from ops.preflight.aws import code_of
from ops.preflight.findings import Check, Finding, no, yes

if TYPE_CHECKING:
    from infra.settings import ExistingVpcSettings, Settings
    from ops.preflight.aws import Account

_CONSOLE = "https://console.aws.amazon.com/acm/home?region={region}#/certificates/list"
_REQUEST = (
    "aws acm request-certificate --domain-name {host} --validation-method DNS --region {region},"
    " then berth:eks.load_balancer.certificate_arn"
)


def checks(settings: Settings, account: Account) -> list[Check]:
    """Return the questions about what the stack's network needs and does not make."""
    eks = settings.require_eks()
    found = []
    balancer, existing = eks.load_balancer, eks.network.existing
    if balancer.certificate_arn is not None:
        arn, host = balancer.certificate_arn, balancer.host_name or ""
        found.append(
            Check("AWS", "certificate", lambda: account.ask(lambda: _certificate(account, arn, host)))
        )
    if existing is not None:
        found.append(Check("AWS", "VPC", lambda: account.ask(lambda: _existing(account, existing))))
    return found


def _certificate(account: Account, arn: str, host: str) -> Finding:
    region = arn.split(":")[3]
    request = _REQUEST.format(host=host, region=account.region)
    if region != account.region:
        return no(f"{arn} is in {region}: a load balancer in {account.region} cannot have it", request)
    try:
        found = account.client("acm").describe_certificate(CertificateArn=arn)["Certificate"]
    except ClientError as error:
        if code_of(error) != "ResourceNotFoundException":
            raise
        return no(f"there is no {arn}", request)
    return judged(found, host, account.region)


def judged(certificate: dict[str, Any], host: str, region: str) -> Finding:
    """Return whether a load balancer may use a certificate for a name.

    Args:
        certificate: as ACM describes it.
        host: the name under which clients reach the load balancer.
        region: the stack's.
    """
    console = _CONSOLE.format(region=region)
    names = certificate.get("SubjectAlternativeNames") or [certificate["DomainName"]]
    status = certificate["Status"]
    if status == "PENDING_VALIDATION":
        records = [
            " ".join(record[key] for key in ("Name", "Type", "Value"))
            for option in certificate.get("DomainValidationOptions", ())
            if (record := option.get("ResourceRecord"))
        ]
        return no(
            "it waits for its validation (PENDING_VALIDATION)",
            f"make the DNS record {'; '.join(records)}" if records else f"validate it: {console}",
        )
    if status != "ISSUED":
        return no(f"it is {status}", f"{console}, or {_REQUEST.format(host=host, region=region)}")
    end = certificate.get("NotAfter")
    if end is not None and end <= datetime.now(UTC):
        return no(f"it expired on {end:%Y-%m-%d}", f"renew it: {console}")
    if not any(_covers(name, host) for name in names):
        return no(
            f"it is for {', '.join(names)}, and not for berth:eks.load_balancer.host_name = {host}",
            _REQUEST.format(host=host, region=region),
        )
    return yes(f"issued for {host}" + (f", until {end:%Y-%m-%d}" if end else ""))


def _covers(name: str, host: str) -> bool:
    """Say whether a name of a certificate covers a host: `*` stands for one label (RFC 6125)."""
    if name.startswith("*."):
        return host.partition(".")[2] == name.removeprefix("*.")
    return name == host


def _existing(account: Account, existing: ExistingVpcSettings) -> Finding:
    ec2 = account.client("ec2")
    ids = [*existing.node_subnet_ids, *existing.load_balancer_subnet_ids]
    # What the program itself checks while it runs, in its words.
    try:
        account.items("ec2", "describe_vpcs", "Vpcs", VpcIds=[existing.vpc_id])
        on = {
            key: bool(ec2.describe_vpc_attribute(VpcId=existing.vpc_id, Attribute=key)[answer]["Value"])
            for key, answer in (
                ("enableDnsHostnames", "EnableDnsHostnames"),
                ("enableDnsSupport", "EnableDnsSupport"),
            )
        }
        subnets = account.items("ec2", "describe_subnets", "Subnets", SubnetIds=ids)
    except ClientError as error:
        if code_of(error) not in ("InvalidVpcID.NotFound", "InvalidSubnetID.NotFound"):
            raise
        return no(
            " ".join(str(error).split()),
            f"aws ec2 describe-subnets --region {account.region}"
            f" --filters Name=vpc-id,Values={existing.vpc_id}",
        )
    described = {
        item["SubnetId"]: existing_network.Subnet(
            vpc_id=item["VpcId"],
            availability_zone=item["AvailabilityZone"],
            availability_zone_id=item["AvailabilityZoneId"],
            cidr_block=item["CidrBlock"],
        )
        for item in subnets
    }
    try:
        existing_network.require_names(existing.vpc_id, **on)
        for key in ("node_subnet_ids", "load_balancer_subnet_ids"):
            wanted = getattr(existing, key)
            existing_network.suitable(key, existing.vpc_id, wanted, [described[id_] for id_ in wanted])
    except RunError as error:
        return no(
            str(error), f"aws ec2 describe-subnets --region {account.region} --subnet-ids {' '.join(ids)}"
        )
    free = {item["SubnetId"]: item["AvailableIpAddressCount"] for item in subnets}
    return yes(", ".join(f"{id_}: {free[id_]} addresses free" for id_ in ids))
