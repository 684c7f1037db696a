"""Which private address of the VPC each loopback address of the sandbox stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moto.ec2.models import ec2_backends
from moto.elbv2.models import elbv2_backends

from sandbox.aws.cloud import ACCOUNT_ID

if TYPE_CHECKING:
    from sandbox.aws.cloud import Cloud
    from sandbox.aws.eks.state import State


def private_addresses(cloud: Cloud, state: State) -> dict[str, str]:
    """Return the private addresses of load balancers, control planes and nodes, by their loopback addresses.

    A load balancer has one loopback address and an interface in each of its subnets: the first is given.
    """
    found: dict[str, str] = {}
    for region, elb in list(elbv2_backends[ACCOUNT_ID].items()):
        interfaces: dict[str, Any] = ec2_backends[ACCOUNT_ID][region].enis
        for balancer in elb.load_balancers.values():
            description = f"ELB {balancer.arn.partition('loadbalancer/')[2]}"
            for interface in interfaces.values():
                if interface.description == description:
                    found.setdefault(balancer.dns_name, interface.private_ip_address)
    for cluster in state.clusters.values():
        ec2: Any = ec2_backends[ACCOUNT_ID][cluster.region]
        for interface_id in cluster.interface_ids[:1]:
            if interface_id in ec2.enis:
                address = ec2.enis[interface_id].private_ip_address
                found[cloud.addresses.control_plane(cluster.number)] = address
    for instance_id, number in state.node_numbers.items():
        for region in list(ec2_backends[ACCOUNT_ID]):
            instance: Any = ec2_backends[ACCOUNT_ID][region].get_instance_by_id(instance_id)
            if instance is not None:
                found[cloud.addresses.node(number)] = instance.private_ip
    return found
