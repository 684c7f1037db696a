"""What a cluster costs beside its GPU machines, from what the stack's graph has that is billed by time."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from infra.settings import Settings
    from ops.graph.record import Graph
    from ops.plan.prices import Prices

HOURS_PER_MONTH = 730


def fixed_costs(settings: Settings, graph: Graph, prices: Prices) -> dict[str, float]:
    """Return USD a month by part; what is billed by use, such as traffic and logs, is not in it.

    Args:
        settings: the stack's, with a section `eks`.
        graph: its recorded graph.
        prices: of its region.
    """
    eks = settings.require_eks()
    hourly, monthly = prices.parts, prices.monthly_parts
    count = Counter(item.type for item in graph)
    nat = count["aws:ec2/natGateway:NatGateway"]
    balancers = [item for item in graph if item.type == "aws:lb/loadBalancer:LoadBalancer"]
    addresses = nat + sum(
        len(item.inputs.get("subnets") or item.inputs.get("subnetMappings") or ())
        for item in balancers
        if not item.inputs.get("internal")
    )
    interfaces = sum(
        len(item.inputs["subnetIds"])
        for item in graph
        if item.type == "aws:ec2/vpcEndpoint:VpcEndpoint"
        and item.inputs.get("vpcEndpointType") == "Interface"
    )
    system = eks.system_nodes
    machine = prices.instances.get(system.instance_types[0])
    balancer = hourly["load_balancer"] + hourly["load_balancer_capacity_unit"]
    rules = sum(len(item.inputs.get("rules") or ()) for item in graph if "wafv2/webAcl:" in item.type)
    parts = {
        "cluster": hourly["cluster"] * HOURS_PER_MONTH,
        "system nodes": system.desired
        * ((machine or 0.0) * HOURS_PER_MONTH + system.disk_gib * monthly["disk_gib"]),
        "NAT gateways": nat * hourly["nat_gateway"] * HOURS_PER_MONTH,
        "load balancer": len(balancers) * balancer * HOURS_PER_MONTH,
        "public addresses": addresses * hourly["public_address"] * HOURS_PER_MONTH,
        "interface endpoints": interfaces * hourly["interface_endpoint"] * HOURS_PER_MONTH,
        "keys": count["aws:kms/key:Key"] * monthly["key"],
        "firewall": count["aws:wafv2/webAcl:WebAcl"] * monthly["firewall"] + rules * monthly["firewall_rule"],
    }
    if machine is None and system.desired:
        prices.notes.append(f"no price of {system.instance_types[0]} is known: system nodes count as 0")
    return {name: round(cost, 2) for name, cost in parts.items() if cost}
