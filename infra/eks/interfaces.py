"""Network interfaces that the CNI leaves behind, as a resource: its deletion sweeps them.

A machine that goes takes its attached interfaces along. Those that the CNI had just made or just detached
stay, hold their security group and subnet, and so keep both from being deleted. The sweep stands between the
machines with their CNI, which go before it, and the cluster and its subnets, which go after it.
"""

from __future__ import annotations

import time
from typing import Any

import pulumi
from pulumi.dynamic import (
    CreateResult,
    DiffResult,
    ReadResult,
    Resource,
    ResourceProvider,
    UpdateResult,
)

_POLL_SECONDS = 5.0
_LIMIT_SECONDS = 600.0
_PLACE = ("vpc_id", "cluster", "security_group_id")
_ACCESS = ("region", "endpoint")
_GONE = "InvalidNetworkInterfaceID.NotFound"
# Attached or being attached since it was listed, or not yet let go of by what AWS knows: looked at again.
_BUSY = ("InvalidParameterValue", "InvalidNetworkInterface.InUse", "OperationNotPermitted")


class InterfaceSweepError(RuntimeError):
    """Interfaces are still there after the time limit; the message names them and what holds them."""


# The class's module and name are in the state of every stack with a cluster: moved, it could not be deleted.
class InterfaceSweepProvider(ResourceProvider):
    """Makes nothing; deleting it deletes what the CNI of one cluster left in one VPC."""

    serialize_as_secret_always = False

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Note where to sweep."""
        return CreateResult(f"{props['vpc_id']}/{props['cluster']}", _outs(props))

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        """See another resource where the place is another: the old one is still to be swept."""
        moved = [key for key in _PLACE if _olds.get(key) != _news.get(key)]
        return DiffResult(
            changes=bool(moved) or any(_olds.get(key) != _news.get(key) for key in _ACCESS), replaces=moved
        )

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        """Note how to reach AWS from now on."""
        return UpdateResult(outs=_outs(_news))

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        """Answer what is recorded: nothing on AWS stands for a sweep."""
        return ReadResult(id_, props)

    def delete(self, _id: str, props: dict[str, Any]) -> None:
        """Delete the cluster's forsaken interfaces, and wait for those that are on their way out.

        Raises:
            InterfaceSweepError: some are still held when the time is over.
        """
        ec2 = _client(props)
        deadline = time.monotonic() + _LIMIT_SECONDS
        while True:
            left = [item for item in _interfaces(ec2, props) if not _deleted(ec2, item)]
            if not left:
                return
            if time.monotonic() >= deadline:
                raise InterfaceSweepError(_held(left, props))
            time.sleep(_POLL_SECONDS)


def _outs(props: dict[str, Any]) -> dict[str, Any]:
    return {key: props.get(key) for key in (*_PLACE, *_ACCESS)}


def _client(props: dict[str, Any]) -> Any:
    import boto3  # noqa: PLC0415  # slow to import, and only needed where something is deleted

    # Credentials come from the environment, as for every tool of AWS: they are no part of the state.
    return boto3.Session().client("ec2", region_name=props["region"], endpoint_url=props.get("endpoint"))


def _interfaces(ec2: Any, props: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what the CNI of this cluster made: in a VPC of others there may be more clusters than ours."""
    marks = (
        # What the CNI says of itself; the same as its own search for leaks.
        {"Name": "tag:cluster.k8s.amazonaws.com/name", "Values": [props["cluster"]]},
        # Made, and then not tagged any more: known by the security group that only this cluster has.
        {"Name": "group-id", "Values": [props["security_group_id"]]},
    )
    found: dict[str, dict[str, Any]] = {}
    for mark in marks:
        pages = ec2.get_paginator("describe_network_interfaces").paginate(
            Filters=[
                {"Name": "vpc-id", "Values": [props["vpc_id"]]},
                {"Name": "description", "Values": ["aws-K8S-*"]},
                mark,
            ]
        )
        for page in pages:
            found.update({item["NetworkInterfaceId"]: item for item in page["NetworkInterfaces"]})
    return list(found.values())


def _deleted(ec2: Any, interface: dict[str, Any]) -> bool:
    """Delete an interface that nothing uses, and return whether it is gone."""
    from botocore.exceptions import ClientError  # noqa: PLC0415

    if interface["Status"] != "available":
        return False
    name = interface["NetworkInterfaceId"]
    try:
        ec2.delete_network_interface(NetworkInterfaceId=name)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code in _BUSY:
            return False
        # Gone: an earlier request of ours got there, and its answer was lost.
        if code != _GONE:
            raise
    else:
        print(f"deleted network interface {name}, which the CNI left in {interface['SubnetId']}")
    return True


def _held(left: list[dict[str, Any]], props: dict[str, Any]) -> str:
    first = (
        f"after {_LIMIT_SECONDS / 60:.0f} minutes, network interfaces of cluster {props['cluster']} are "
        f"still in {props['vpc_id']}, and keep its security groups and subnets from being deleted:"
    )
    words = [first]
    for item in left:
        holder = item.get("Attachment", {}).get("InstanceId") or item.get("RequesterId") or "nothing known"
        words.append(f"  {item['NetworkInterfaceId']} ({item['Status']}), held by {holder}")
    words.append("end what holds them, then run the same command again")
    return "\n".join(words)


class InterfaceSweep(Resource, module="interfaces", name="Sweep"):
    """The sweep of one cluster's interfaces; it must be there before the first machine and its CNI.

    Args:
        name: the logical name.
        vpc_id: the VPC to sweep.
        cluster: the cluster's name.
        security_group_id: the security group that EKS made for it.
        region: AWS's region.
        endpoint: another endpoint of AWS's API; None for AWS itself.
    """

    def __init__(
        self,
        name: str,
        *,
        vpc_id: pulumi.Input[str],
        cluster: pulumi.Input[str],
        security_group_id: pulumi.Input[str],
        region: pulumi.Input[str],
        endpoint: pulumi.Input[str] | None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__(
            InterfaceSweepProvider(),
            name,
            {
                "vpc_id": vpc_id,
                "cluster": cluster,
                "security_group_id": security_group_id,
                "region": region,
                "endpoint": endpoint,
            },
            pulumi.ResourceOptions.merge(
                pulumi.ResourceOptions(
                    custom_timeouts=pulumi.CustomTimeouts(create="5m", update="5m", delete="15m")
                ),
                opts,
            ),
        )
