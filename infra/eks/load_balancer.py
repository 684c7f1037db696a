"""The load balancer as part of the graph: nothing that costs money is made by a controller in the cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pulumi
import pulumi_aws as aws

from infra import naming
from infra.options import child

if TYPE_CHECKING:
    from infra.eks.cluster import Cluster
    from infra.eks.network import Network
    from infra.eks.nodes import Nodes
    from infra.naming import Names
    from infra.serving import ServingSpec
    from infra.settings import EksSettings

_PATHS_PER_RULE = 5  # AWS's limit of values in the conditions of one rule
_MINUTES = 20


class LoadBalancer(pulumi.ComponentResource):
    """An ALB that lets through the paths of the served task, and answers 404 to all others.

    Args:
        name: the logical name.
        names: the stack's names.
        settings: the stack file's section `eks`.
        serving: what is served: its paths, health and drain.
        node_port: where the nodes take requests.
        cluster: the cluster.
        network: the cluster's network.
        nodes: the node groups: those with GPUs are the targets.
        opts: must give an AWS provider.
    """

    url: pulumi.Output[str]
    """`http://host:port`, without a path."""

    def __init__(
        self,
        name: str,
        *,
        names: Names,
        settings: EksSettings,
        serving: ServingSpec,
        node_port: int,
        cluster: Cluster,
        network: Network,
        nodes: Nodes,
        opts: pulumi.ResourceOptions,
    ) -> None:
        super().__init__("berth:eks:LoadBalancer", name, None, opts)
        load_balancer = settings.load_balancer
        group = aws.ec2.SecurityGroup(
            f"{name}-group",
            name=names.of("load-balancer"),
            description="The load balancer in front of the model.",
            vpc_id=network.vpc.id,
            tags={"Name": names.of("load-balancer")},
            opts=child(self, minutes=_MINUTES),
        )
        rules: list[pulumi.Resource] = [
            aws.vpc.SecurityGroupIngressRule(
                f"{name}-from-{cidr.replace('/', '-')}",
                security_group_id=group.id,
                cidr_ipv4=cidr,
                ip_protocol="tcp",
                from_port=load_balancer.port,
                to_port=load_balancer.port,
                opts=child(self),
            )
            for cidr in sorted(load_balancer.allowed_cidrs or (settings.network.vpc_cidr,))
        ]
        ports = {"ip_protocol": "tcp", "from_port": node_port, "to_port": node_port}
        rules += [
            aws.vpc.SecurityGroupEgressRule(
                f"{name}-to-nodes",
                security_group_id=group.id,
                referenced_security_group_id=cluster.security_group_id,
                **ports,
                opts=child(self),
            ),
            aws.vpc.SecurityGroupIngressRule(
                f"{name}-into-nodes",
                security_group_id=cluster.security_group_id,
                referenced_security_group_id=group.id,
                **ports,
                opts=child(self),
            ),
        ]
        subnets = network.node_subnets if load_balancer.internal else network.public_subnets
        balancer = aws.lb.LoadBalancer(
            f"{name}-balancer",
            name=names.of_version("lb", [load_balancer.internal], naming.LOAD_BALANCER_LENGTH),
            load_balancer_type="application",
            internal=load_balancer.internal,
            security_groups=[group.id],
            subnets=[subnet.id for subnet in subnets],
            idle_timeout=load_balancer.idle_timeout_seconds,
            drop_invalid_header_fields=True,
            enable_deletion_protection=settings.deletion_protection,
            opts=child(
                self,
                after=[*network.routes, *rules],
                minutes=_MINUTES,
                protect=settings.deletion_protection,
            ),
        )
        targets = aws.lb.TargetGroup(
            f"{name}-targets",
            # A target group serves one load balancer: another one comes with a group of its own.
            name=names.of_version("model", [node_port, load_balancer.internal], naming.LOAD_BALANCER_LENGTH),
            vpc_id=network.vpc.id,
            target_type="instance",
            protocol="HTTP",
            port=node_port,
            # As long as the server itself takes to finish what it has.
            deregistration_delay=serving.shutdown_timeout_seconds,
            health_check={
                "path": serving.health_path,
                "protocol": "HTTP",
                "matcher": "200",
                "interval": 10,
                "timeout": 5,
                "healthy_threshold": 2,
                "unhealthy_threshold": 2,
            },
            opts=child(self, minutes=_MINUTES),
        )
        aws.autoscaling.Attachment(
            f"{name}-attachment",
            autoscaling_group_name=nodes.gpu.resources.apply(
                lambda resources: resources[0].autoscaling_groups[0].name
            ),
            lb_target_group_arn=targets.arn,
            opts=child(self, after=[nodes.gpu]),
        )
        listener = aws.lb.Listener(
            f"{name}-listener",
            load_balancer_arn=balancer.arn,
            protocol="HTTP",
            port=load_balancer.port,
            default_actions=[
                {
                    "type": "fixed-response",
                    "fixed_response": {
                        "content_type": "application/json",
                        "message_body": '{"error": "no such path"}',
                        "status_code": "404",
                    },
                }
            ],
            opts=child(self, minutes=_MINUTES),
        )
        for index in range(0, len(serving.routes), _PATHS_PER_RULE):
            aws.lb.ListenerRule(
                f"{name}-paths-{index // _PATHS_PER_RULE}",
                listener_arn=listener.arn,
                priority=index + 1,
                conditions=[
                    {"path_pattern": {"values": list(serving.routes[index : index + _PATHS_PER_RULE])}}
                ],
                actions=[{"type": "forward", "target_group_arn": targets.arn}],
                opts=child(self),
            )
        self.url = pulumi.Output.concat("http://", balancer.dns_name, f":{load_balancer.port}")
        self.register_outputs({"url": self.url})
