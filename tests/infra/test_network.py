"""The network for every setting of it, and what AWS would refuse of a VPC that is there already."""

from __future__ import annotations

import ipaddress
import json
from typing import TYPE_CHECKING, Any

import pulumi
import pytest

from tests.infra import parts

if TYPE_CHECKING:
    from tests.infra.graph import Graph, Recorded

_PREVIEW_AND_UPDATE = pytest.mark.parametrize("preview", [True, False], ids=["preview", "update"])
_NAT = pytest.mark.parametrize("nat", ["none", "single", "per_zone"])
_NAT_AND_ZONES = pytest.mark.parametrize(
    ("nat", "zones"), [("none", 3), ("single", 2), ("single", 3), ("per_zone", 3)]
)
_SUBNET, _TABLE, _ROUTE = "aws:ec2/subnet:Subnet", "aws:ec2/routeTable:RouteTable", "aws:ec2/route:Route"
_ASSOCIATION = "aws:ec2/routeTableAssociation:RouteTableAssociation"
_ENDPOINT = "aws:ec2/vpcEndpoint:VpcEndpoint"


def _network(preview: bool = False, load_balancer: dict[str, Any] | None = None, **network: Any) -> Graph:
    balancer: dict[str, Any] = {"load_balancer": load_balancer} if load_balancer else {}
    return parts.run(preview=preview, network=network, **balancer)


def _kind(graph: Graph, type_: str) -> list[Recorded]:
    return [item for item in graph if item.type == type_]


def _one(graph: Graph, type_: str, name: str) -> Recorded:
    (found,) = [item for item in graph if item.type.endswith(f":{type_}") and item.name == f"network-{name}"]
    return found


def _subnets(graph: Graph, ids: list[str]) -> list[Recorded]:
    return [_one(graph, "Subnet", id_.removeprefix("network-").removesuffix("-id")) for id_ in ids]


def _way_out(graph: Graph, subnet: Recorded) -> str | None:
    """Return the type of what a subnet's default route leads to."""
    (table,) = [
        item.inputs["routeTableId"]
        for item in graph.of_type(_ASSOCIATION)
        if item.inputs["subnetId"] == f"{subnet.name}-id"
    ]
    routes = [item for item in graph.of_type(_ROUTE) if item.inputs["routeTableId"] == table]
    if not routes:
        return None
    (route,) = routes
    assert route.inputs["destinationCidrBlock"] == "0.0.0.0/0"
    return "internet" if "gatewayId" in route.inputs else "nat" if "natGatewayId" in route.inputs else ""


@pytest.mark.parametrize("preview", [True, False], ids=["preview", "update"])
@_NAT_AND_ZONES
def test_subnets_lie_apart_in_the_network(preview: bool, nat: str, zones: int) -> None:
    graph = _network(preview, nat=nat, zones=zones)
    subnets = graph.of_type(_SUBNET)
    blocks = [ipaddress.IPv4Network(item.inputs["cidrBlock"]) for item in subnets]
    assert len(subnets) == zones * (2 if nat == "none" else 3)
    assert not [1 for one in blocks for other in blocks if one is not other and one.overlaps(other)]
    assert all(block.subnet_of(ipaddress.IPv4Network("10.64.0.0/16")) for block in blocks)


@pytest.mark.parametrize(
    ("cidr", "nat"),
    [("10.0.0.0/20", "none"), ("10.0.0.0/19", "single")],
)
def test_the_smallest_network_that_the_settings_allow_holds_all_subnets(cidr: str, nat: str) -> None:
    graph = _network(vpc_cidr=cidr, nat=nat, zones=3)
    blocks = [ipaddress.IPv4Network(item.inputs["cidrBlock"]) for item in graph.of_type(_SUBNET)]
    assert len(set(blocks)) == len(blocks) == (6 if nat == "none" else 9)
    assert all(block.subnet_of(ipaddress.IPv4Network(cidr)) for block in blocks)


@_NAT_AND_ZONES
def test_machines_and_the_load_balancer_have_a_subnet_each_in_every_zone(nat: str, zones: int) -> None:
    graph = _network(nat=nat, zones=zones)
    for what in ("node", "load_balancer"):
        subnets = _subnets(graph, graph.outputs[f"{what}_subnet_ids"])
        places = [item.inputs["availabilityZone"] for item in subnets]
        assert places == ["us-east-1a", "us-east-1b", "us-east-1c"][:zones]
        assert [item.inputs["cidrBlock"] for item in subnets] == graph.outputs[f"{what}_cidrs"]
    both = {*graph.outputs["node_subnet_ids"], *graph.outputs["load_balancer_subnet_ids"]}
    assert len(both) == 2 * zones
    prefixes = {ipaddress.IPv4Network(cidr).prefixlen for cidr in graph.outputs["load_balancer_cidrs"]}
    assert prefixes == {26}


@_NAT_AND_ZONES
def test_machines_reach_the_internet_by_nat_or_by_addresses_of_their_own(nat: str, zones: int) -> None:
    graph = _network(nat=nat, zones=zones)
    for subnet in _subnets(graph, graph.outputs["node_subnet_ids"]):
        assert _way_out(graph, subnet) == ("internet" if nat == "none" else "nat")
        assert subnet.inputs["mapPublicIpOnLaunch"] is (nat == "none")
    gateways = _kind(graph, "aws:ec2/natGateway:NatGateway")
    assert len(gateways) == {"none": 0, "single": 1, "per_zone": zones}[nat]
    for gateway in gateways:
        (subnet,) = _subnets(graph, [gateway.inputs["subnetId"]])
        assert _way_out(graph, subnet) == "internet"
        assert subnet.inputs["mapPublicIpOnLaunch"] is False


def test_nat_in_every_zone_serves_its_own_zone() -> None:
    graph = _network(nat="per_zone", zones=3)
    for index in range(3):
        route = _one(graph, "Route", f"private-{index}-nat")
        assert route.inputs["natGatewayId"] == f"network-nat-{index}-id"
        gateway = _one(graph, "NatGateway", f"nat-{index}")
        (subnet,) = _subnets(graph, [gateway.inputs["subnetId"]])
        private = _one(graph, "Subnet", f"private-{index}")
        assert subnet.inputs["availabilityZone"] == private.inputs["availabilityZone"]


@_PREVIEW_AND_UPDATE
@pytest.mark.parametrize("internal", [True, False])
def test_the_load_balancer_s_subnets_lead_to_the_internet_where_it_is_public(
    preview: bool, internal: bool
) -> None:
    public = {"internal": False, "allowed_cidrs": ["203.0.113.0/24"]}
    graph = _network(preview, None if internal else public)
    there = [item for item in graph if item.name == "network-load-balancer-internet"]
    assert bool(there) is not internal
    if not preview:
        for subnet in _subnets(graph, graph.outputs["load_balancer_subnet_ids"]):
            assert _way_out(graph, subnet) == (None if internal else "internet")
            assert subnet.inputs["mapPublicIpOnLaunch"] is False


@_NAT
def test_s3_is_reached_from_every_subnet_without_nat(nat: str) -> None:
    graph = _network(nat=nat, zones=3)
    (endpoint,) = graph.of_type(_ENDPOINT)
    assert endpoint.inputs["serviceName"] == "com.amazonaws.us-east-1.s3"
    assert endpoint.inputs["vpcEndpointType"] == "Gateway"
    tables = {f"{item.name}-id" for item in graph.of_type(_TABLE)}
    assert set(endpoint.inputs["routeTableIds"]) == tables
    assert {item.inputs["routeTableId"] for item in graph.of_type(_ASSOCIATION)} == tables
    assert {item.inputs["subnetId"] for item in graph.of_type(_ASSOCIATION)} == {
        f"{item.name}-id" for item in graph.of_type(_SUBNET)
    }


@pytest.mark.parametrize("network", [{"nat": "per_zone", "zones": 3}, {"nat": "none", "zones": 3}])
def test_what_is_there_already_stays_where_it_is(network: dict[str, Any]) -> None:
    before, after = _network(nat="single", zones=2), _network(**network)
    places = [
        {
            item.urn: (item.inputs["cidrBlock"], item.inputs["availabilityZone"])
            for item in graph.of_type(_SUBNET)
        }
        for graph in (before, after)
    ]
    kept = places[0].keys() & places[1].keys()
    assert len(kept) >= 4
    assert all(places[0][urn] == places[1][urn] for urn in kept)


def test_a_zone_that_comes_or_goes_moves_no_subnet() -> None:
    for subnet in _network(nat="per_zone", zones=3).of_type(_SUBNET):
        assert list(subnet.request.ignoreChanges) == ["availabilityZone"]


def test_too_few_zones_are_said_with_their_setting() -> None:
    with pytest.raises(pulumi.RunError, match=r"berth:eks.network.zones = 3: the region has 2 zones"):
        parts.run(
            network={"zones": 3},
            said={"getAvailabilityZones": {"names": ["us-east-1a", "us-east-1b"]}},
        )


@_PREVIEW_AND_UPDATE
def test_interface_endpoints_are_reached_from_the_vpc_by_the_services_own_names(preview: bool) -> None:
    graph = _network(preview, nat="per_zone", zones=3, interface_endpoints=True, flow_logs={})
    endpoints = [item for item in graph.of_type(_ENDPOINT) if item.inputs["vpcEndpointType"] == "Interface"]
    assert sorted(item.inputs["serviceName"] for item in endpoints) == [
        f"com.amazonaws.us-east-1.{service}" for service in ("ecr.api", "ecr.dkr", "logs", "sts")
    ]
    (group,) = graph.of_type("aws:ec2/securityGroup:SecurityGroup")
    (rule,) = graph.of_type("aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule")
    assert (rule.inputs["cidrIpv4"], rule.inputs["ipProtocol"]) == ("10.64.0.0/16", "tcp")
    assert rule.inputs["fromPort"] == rule.inputs["toPort"] == 443
    assert group.urn in graph.needs(rule.urn)
    for endpoint in endpoints:
        assert endpoint.inputs["privateDnsEnabled"] is True
        assert group.urn in graph.needs(endpoint.urn)
        if not preview:
            assert endpoint.inputs["securityGroupIds"] == [f"{group.name}-id"]
            assert endpoint.inputs["subnetIds"] == graph.outputs["node_subnet_ids"]


def test_without_the_setting_there_is_no_interface_endpoint() -> None:
    assert [item.inputs["vpcEndpointType"] for item in _network().of_type(_ENDPOINT)] == ["Gateway"]


@_PREVIEW_AND_UPDATE
@pytest.mark.parametrize("traffic", ["ALL", "ACCEPT", "REJECT"])
def test_flow_logs_go_into_a_group_that_expires(preview: bool, traffic: str) -> None:
    graph = parts.run(preview=preview, network={"flow_logs": {"traffic": traffic}}, log_retention_days=14)
    (log,) = graph.of_type("aws:ec2/flowLog:FlowLog")
    group = _one(graph, "LogGroup", "flow-logs-group")
    assert log.inputs["trafficType"] == traffic
    assert group.inputs["retentionInDays"] == 14
    needed = graph.needs(log.urn)
    for what in (
        "network-vpc",
        "network-flow-logs-group",
        "network-flow-logs-role",
        "network-flow-logs-write",
    ):
        assert graph.named(what).urn in needed
    if not preview:
        assert log.inputs["logDestination"] == group.outputs["arn"]


def test_flow_logs_may_only_write_and_only_for_this_account() -> None:
    graph = _network(nat="per_zone", zones=3, interface_endpoints=True, flow_logs={})
    (statement,) = json.loads(graph.named("network-flow-logs-write").inputs["policy"])["Statement"]
    # With the right to make groups, the service would make the group again after its deletion.
    assert "logs:CreateLogGroup" not in statement["Action"]
    assert not [action for action in statement["Action"] if "*" in action]
    assert statement["Resource"] == f"{graph.named('network-flow-logs-group').outputs['arn']}:*"
    (trust,) = json.loads(graph.named("network-flow-logs-role").inputs["assumeRolePolicy"])["Statement"]
    assert trust["Principal"] == {"Service": "vpc-flow-logs.amazonaws.com"}
    assert trust["Condition"] == {"StringEquals": {"aws:SourceAccount": "123456789012"}}


def test_without_the_setting_there_is_no_flow_log() -> None:
    assert not [item for item in _network() if "flow" in item.name]


@_PREVIEW_AND_UPDATE
def test_in_an_existing_vpc_nothing_is_made_but_the_cluster(preview: bool) -> None:
    graph = parts.run(preview=preview, network={"existing": parts.EXISTING})
    assert not [item.urn for item in graph if item.type.startswith(("aws:ec2/", "aws:vpc/"))]
    assert graph.outputs["vpc_id"] == parts.VPC
    assert graph.outputs["vpc_cidr"] == "10.9.0.0/16"
    assert graph.outputs["node_subnet_ids"] == parts.NODE_SUBNETS
    assert graph.outputs["load_balancer_subnet_ids"] == parts.BALANCER_SUBNETS
    assert graph.outputs["node_cidrs"] == ["10.9.4.0/24", "10.9.8.0/24"]
    assert graph.outputs["load_balancer_cidrs"] == ["10.9.12.0/24", "10.9.16.0/24"]
    (cluster,) = graph.of_type("aws:eks/cluster:Cluster")
    assert cluster.inputs["vpcConfig"]["subnetIds"] == parts.NODE_SUBNETS


_FIRST, _SECOND = parts.NODE_SUBNETS
_THIRD, _FOURTH = parts.BALANCER_SUBNETS


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (
            {_SECOND: {"vpcId": "vpc-0aaaaaaaaaaaaaaaa"}},
            f"node_subnet_ids: {_SECOND} is in vpc-0aaaaaaaaaaaaaaaa: must be in {parts.VPC}",
        ),
        (
            {_THIRD: {"vpcId": "vpc-0aaaaaaaaaaaaaaaa"}},
            f"load_balancer_subnet_ids: {_THIRD} is in vpc-0aaaaaaaaaaaaaaaa: must be in {parts.VPC}",
        ),
        (
            {_FIRST: {"availabilityZone": "us-east-1d"}, _SECOND: {"availabilityZone": "us-east-1d"}},
            f"node_subnet_ids: {_FIRST} and {_SECOND} are both in us-east-1d: must be in different zones",
        ),
        (
            {_THIRD: {"availabilityZone": "us-east-1d"}, _FOURTH: {"availabilityZone": "us-east-1d"}},
            f"load_balancer_subnet_ids: {_THIRD} and {_FOURTH} are both in us-east-1d",
        ),
        (
            {_SECOND: {"availabilityZoneId": "use1-az3"}},
            f"node_subnet_ids: {_SECOND} is in use1-az3, which cannot host a control plane",
        ),
        (
            {_FOURTH: {"cidrBlock": "10.9.16.0/28"}},
            f"load_balancer_subnet_ids: {_FOURTH} is 10.9.16.0/28: a load balancer wants /27 or larger",
        ),
        (
            {parts.VPC: {"enableDnsHostnames": False}},
            f"vpc_id = {parts.VPC}: its DNS support and DNS hostnames must be on",
        ),
        (
            {parts.VPC: {"enableDnsSupport": False}},
            f"vpc_id = {parts.VPC}: its DNS support and DNS hostnames must be on",
        ),
    ],
)
def test_an_existing_vpc_that_cannot_serve_is_refused_with_its_setting(
    said: dict[str, dict[str, Any]], reason: str
) -> None:
    with pytest.raises(pulumi.RunError) as refused:
        parts.run(preview=True, said=said, network={"existing": parts.EXISTING})
    assert str(refused.value).startswith(f"berth:eks.network.existing.{reason}")


def test_machines_alone_may_stand_in_a_zone_without_a_control_plane() -> None:
    third = "subnet-00000000000000005"
    existing = {**parts.EXISTING, "node_subnet_ids": [*parts.NODE_SUBNETS, third]}
    said = {third: {"availabilityZone": "us-east-1c", "availabilityZoneId": "use1-az3"}}
    graph = parts.run(said=said, network={"existing": existing})
    assert graph.outputs["node_subnet_ids"] == [*parts.NODE_SUBNETS, third]
    assert graph.outputs["control_plane_subnet_ids"] == parts.NODE_SUBNETS


@pytest.mark.parametrize("network", [{}, {"existing": parts.EXISTING}], ids=["own", "existing"])
def test_a_preview_without_a_provider_to_ask_by_is_no_error(network: dict[str, Any]) -> None:
    graph = parts.run(preview=True, configured=False, network=network)
    assert graph.of_type("aws:eks/cluster:Cluster")


def test_all_of_it_can_stand_in_another_vpc_beside_the_old_one() -> None:
    """What is left of the old network holds on to nothing that the new one needs."""
    graph = _network(nat="per_zone", zones=3, interface_endpoints=True, flow_logs={})
    (gateway,) = graph.of_type("aws:ec2/internetGateway:InternetGateway")
    # In place, AWS's provider would take it from a VPC that still has addresses of the internet.
    assert list(gateway.request.replaceOnChanges) == ["vpcId"]
    for nat in graph.of_type("aws:ec2/natGateway:NatGateway"):
        assert nat.request.deleteBeforeReplace, "the address is the old gateway's until it is gone"
    (log,) = graph.of_type("aws:ec2/flowLog:FlowLog")
    assert log.request.deleteBeforeReplace


def test_the_way_out_is_there_before_nat_and_goes_after_it() -> None:
    graph = _network(nat="per_zone", zones=3)
    first = [graph.named("network-internet").urn, graph.named("network-public-internet").urn]
    for gateway in graph.of_type("aws:ec2/natGateway:NatGateway"):
        assert set(first) <= graph.needs(gateway.urn)
    for address in graph.of_type("aws:ec2/eip:Eip"):
        assert first[0] in graph.needs(address.urn)


def test_the_control_plane_s_log_group_outlives_the_network() -> None:
    graph = _network(nat="per_zone", zones=3)
    group = graph.named("control-plane-logs-group").urn
    for item in graph:
        if item.type.startswith("aws:ec2/") and item.type != "aws:ec2/flowLog:FlowLog":
            assert group in graph.needs(item.urn), item.name
