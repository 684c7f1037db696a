"""Policies on what can be reached from outside: nothing by everyone, unless it speaks TLS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pulumi_policy import ResourceValidationPolicy, StackValidationPolicy

from infra.policy.values import ANYWHERE, items, within

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pulumi_policy import (
        PolicyResource,
        ReportViolation,
        ResourceValidationArgs,
        StackValidationArgs,
    )

_TLS_PROTOCOLS = ("HTTPS", "TLS")


def _cluster_api(args: ResourceValidationArgs, report: ReportViolation) -> None:
    if args.resource_type != "aws:eks/cluster:Cluster":
        return
    config = within(args.props, "vpcConfig")
    # EKS opens the public endpoint to everyone when neither is said.
    if within(config, "endpointPublicAccess") is False:
        return
    cidrs = items(within(config, "publicAccessCidrs"))
    if not cidrs or ANYWHERE & set(cidrs):
        report(
            f"the API of the cluster {args.name} is open to the whole internet: name networks in "
            "publicAccessCidrs, or set endpointPublicAccess to false",
            args.urn,
        )


CLUSTER_API_IS_LIMITED = ResourceValidationPolicy(
    name="cluster-api-is-limited",
    description="The public endpoint of a cluster's API is open to named networks only.",
    validate=_cluster_api,
)


def _open_ports(resource: PolicyResource) -> Iterator[tuple[Any, Any]]:
    """Yield the first and last port of each rule by which a resource lets in every address."""
    props = resource.props
    if resource.resource_type == "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule":
        if {props.get("cidrIpv4"), props.get("cidrIpv6")} & ANYWHERE:
            yield props.get("fromPort"), props.get("toPort")
    elif resource.resource_type == "aws:ec2/securityGroupRule:SecurityGroupRule":
        if props.get("type") == "ingress" and _lets_everyone_in(props):
            yield props.get("fromPort"), props.get("toPort")
    elif resource.resource_type == "aws:ec2/securityGroup:SecurityGroup":
        for rule in items(props.get("ingress")):
            if _lets_everyone_in(rule):
                yield rule.get("fromPort"), rule.get("toPort")


def _lets_everyone_in(rule: Mapping[str, Any]) -> bool:
    return bool(ANYWHERE & {*items(rule.get("cidrBlocks")), *items(rule.get("ipv6CidrBlocks"))})


def _is_safe(listener: Mapping[str, Any]) -> bool:
    """Return whether a listener speaks TLS, or sends every request to where TLS is spoken."""
    if listener.get("protocol") in _TLS_PROTOCOLS:
        return True
    actions = items(listener.get("defaultActions"))
    return bool(actions) and all(
        action.get("type") == "redirect" and within(action, "redirect", "protocol") == "HTTPS"
        for action in actions
    )


def _ports_speak_tls(args: StackValidationArgs, report: ReportViolation) -> None:
    listeners = [
        resource.props for resource in args.resources if resource.resource_type == "aws:lb/listener:Listener"
    ]
    safe = {listener.get("port") for listener in listeners if _is_safe(listener)}
    unsafe = {listener.get("port") for listener in listeners if not _is_safe(listener)}
    for resource in args.resources:
        for first, last in _open_ports(resource):
            if first is None or first != last or first not in safe - unsafe:
                report(
                    f"the security group rule {resource.name} lets every address in on a port where no "
                    "listener speaks TLS: name networks, or serve HTTPS there",
                    resource.urn,
                )


OPEN_PORTS_SPEAK_TLS = StackValidationPolicy(
    name="open-ports-speak-tls",
    description="A port that every address may reach is that of a TLS listener or of a redirect to one.",
    validate=_ports_speak_tls,
)


def _service(args: ResourceValidationArgs, report: ReportViolation) -> None:
    if args.resource_type != "kubernetes:core/v1:Service":
        return
    spec = within(args.props, "spec")
    if within(spec, "type") == "LoadBalancer" and not within(spec, "loadBalancerClass"):
        report(
            f"the Service {args.name} has a controller in the cluster make a load balancer, open to the "
            "internet and outside the graph: `destroy` would leave it; set spec.loadBalancerClass or "
            "another spec.type",
            args.urn,
        )


SERVICES_MAKE_NO_LOAD_BALANCER = ResourceValidationPolicy(
    name="services-make-no-load-balancer",
    description="Load balancers are resources of the graph, and made by no controller in the cluster.",
    validate=_service,
)
