"""The load balancer as part of the graph: nothing that costs money is made by a controller in the cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pulumi
import pulumi_aws as aws

from infra import naming
from infra.eks import access_logs, traffic, waf
from infra.options import child
from infra.timing import LOAD_BALANCER_CHECK

if TYPE_CHECKING:
    from infra.eks.cluster import Cluster
    from infra.eks.network import Network
    from infra.eks.nodes import Nodes
    from infra.naming import Names
    from infra.serving import ServingSpec
    from infra.settings import EksSettings

_PATHS_PER_RULE = 5  # AWS's limit of values in the conditions of one rule
_MINUTES = 20
_HTTP, _HTTPS = 80, 443
_NO_SUCH_PATH = {
    "type": "fixed-response",
    "fixed_response": {
        "content_type": "application/json",
        "message_body": '{"error": "no such path"}',
        "status_code": "404",
    },
}


class LoadBalancer(pulumi.ComponentResource):
    """An ALB that lets through the paths of the served task, and answers 404 to all others.

    Args:
        name: the logical name.
        names: the stack's names.
        settings: the stack file's section `eks`.
        serving: what is served: its paths and its drain.
        cluster: the cluster.
        network: the cluster's network.
        nodes: the node groups: those with GPUs are the targets.
        account_id: the account.
        opts: must give an AWS provider.
    """

    url: pulumi.Output[str]
    """`http://host:port` or `https://host`, without a path."""

    def __init__(
        self,
        name: str,
        *,
        names: Names,
        settings: EksSettings,
        serving: ServingSpec,
        cluster: Cluster,
        network: Network,
        nodes: Nodes,
        account_id: pulumi.Input[str],
        opts: pulumi.ResourceOptions,
    ) -> None:
        super().__init__("berth:eks:LoadBalancer", name, None, opts)
        self._name, self._settings = name, settings.load_balancer
        group, rules = self._firewall(names, cluster, network)
        logs = (
            access_logs.access_logs(
                self,
                f"{name}-access-logs",
                names=names,
                account_id=account_id,
                retention_days=settings.log_retention_days,
                keep=settings.deletion_protection,
            )
            if self._settings.access_logs
            else None
        )
        balancer = aws.lb.LoadBalancer(
            f"{name}-balancer",
            name=names.of_version("lb", [self._settings.internal], naming.LOAD_BALANCER_LENGTH),
            load_balancer_type="application",
            internal=self._settings.internal,
            security_groups=[group.id],
            subnets=network.load_balancer_subnet_ids,
            idle_timeout=self._settings.idle_timeout_seconds,
            enable_http2=True,
            # What is no proper HTTP is not for the server to make sense of.
            drop_invalid_header_fields=True,
            desync_mitigation_mode="strictest",
            preserve_host_header=True,
            access_logs=(
                {"bucket": logs.bucket, "prefix": access_logs.PREFIX, "enabled": True} if logs else None
            ),
            enable_deletion_protection=settings.deletion_protection,
            opts=child(
                self,
                after=[*network.routes, *rules, *(logs.ready if logs else ())],
                minutes=_MINUTES,
                protect=settings.deletion_protection,
            ),
        )
        targets = self._targets(names, settings, serving, network, nodes)
        self._listen(balancer, targets, serving)
        if self._settings.waf is not None:
            waf.web_acl(
                self,
                f"{name}-waf",
                names=names,
                settings=self._settings.waf,
                load_balancer_arn=balancer.arn,
            )
        self.url = self._url(balancer)
        self.register_outputs({"url": self.url})

    def _firewall(
        self, names: Names, cluster: Cluster, network: Network
    ) -> tuple[aws.ec2.SecurityGroup, list[pulumi.Resource]]:
        """Return the load balancer's security group, and the rules that must outlive it."""
        settings = self._settings
        group = aws.ec2.SecurityGroup(
            f"{self._name}-group",
            name=names.of("load-balancer"),
            description="The load balancer in front of the model.",
            vpc_id=network.vpc_id,
            tags={"Name": names.of("load-balancer")},
            opts=child(self, minutes=_MINUTES),
        )
        sources: dict[str, pulumi.Input[str]] = {
            cidr.replace("/", "-"): cidr for cidr in sorted(settings.allowed_cidrs)
        } or {"network": network.vpc_cidr}
        ports = [settings.listens_on, *([_HTTP] if settings.certificate_arn else ())]
        rules: list[pulumi.Resource] = [
            aws.vpc.SecurityGroupIngressRule(
                f"{self._name}-from-{source}" + (f"-{port}" if port != settings.listens_on else ""),
                security_group_id=group.id,
                cidr_ipv4=cidr,
                ip_protocol="tcp",
                from_port=port,
                to_port=port,
                opts=child(self),
            )
            for source, cidr in sources.items()
            for port in ports
        ]
        for suffix, port in (("", traffic.NODE_PORT), ("-health", traffic.HEALTH_NODE_PORT)):
            to_port = {"ip_protocol": "tcp", "from_port": port, "to_port": port}
            rules += [
                aws.vpc.SecurityGroupEgressRule(
                    f"{self._name}-to-nodes{suffix}",
                    security_group_id=group.id,
                    referenced_security_group_id=cluster.security_group_id,
                    **to_port,
                    opts=child(self),
                ),
                aws.vpc.SecurityGroupIngressRule(
                    f"{self._name}-into-nodes{suffix}",
                    security_group_id=cluster.security_group_id,
                    referenced_security_group_id=group.id,
                    **to_port,
                    opts=child(self),
                ),
            ]
        return group, rules

    def _targets(
        self, names: Names, settings: EksSettings, serving: ServingSpec, network: Network, nodes: Nodes
    ) -> aws.lb.TargetGroup:
        check = LOAD_BALANCER_CHECK
        # A target group serves one load balancer, in one VPC: another one comes with a group of its own.
        facts = [traffic.NODE_PORT, self._settings.internal, settings.network.vpc_identity]
        targets = aws.lb.TargetGroup(
            f"{self._name}-targets",
            name=names.of_version("model", facts, naming.LOAD_BALANCER_LENGTH),
            vpc_id=network.vpc_id,
            target_type="instance",
            protocol="HTTP",
            port=traffic.NODE_PORT,
            # A prompt of one token and one of a hundred thousand are one request each: who is busy gets none.
            load_balancing_algorithm_type="least_outstanding_requests",
            deregistration_delay=serving.timing.deregistration_delay_seconds,
            health_check={
                "path": traffic.HEALTH_PATH,
                "port": str(traffic.HEALTH_NODE_PORT),
                "protocol": "HTTP",
                "matcher": "200",
                "interval": check.period_seconds,
                "timeout": check.timeout_seconds,
                "healthy_threshold": check.failure_threshold,
                "unhealthy_threshold": check.failure_threshold,
            },
            opts=child(self, minutes=_MINUTES),
        )
        for group_name, node_group in nodes.gpu.items():
            aws.autoscaling.Attachment(
                f"{self._name}-attachment-{group_name}",
                autoscaling_group_name=node_group.resources.apply(
                    lambda resources: resources[0].autoscaling_groups[0].name
                ),
                lb_target_group_arn=targets.arn,
                opts=child(self, after=[node_group]),
            )
        return targets

    def _listen(
        self, balancer: aws.lb.LoadBalancer, targets: aws.lb.TargetGroup, serving: ServingSpec
    ) -> None:
        settings = self._settings
        secure: dict[str, Any] = {"protocol": "HTTP"}
        if settings.certificate_arn:
            secure = {
                "protocol": "HTTPS",
                "certificate_arn": settings.certificate_arn,
                "ssl_policy": settings.tls_policy,
            }
        listener = aws.lb.Listener(
            f"{self._name}-listener",
            load_balancer_arn=balancer.arn,
            port=settings.listens_on,
            **secure,
            default_actions=[_NO_SUCH_PATH],
            opts=child(self, minutes=_MINUTES),
        )
        for index in range(0, len(serving.routes), _PATHS_PER_RULE):
            aws.lb.ListenerRule(
                f"{self._name}-paths-{index // _PATHS_PER_RULE}",
                listener_arn=listener.arn,
                priority=index + 1,
                conditions=[
                    {"path_pattern": {"values": list(serving.routes[index : index + _PATHS_PER_RULE])}}
                ],
                actions=[{"type": "forward", "target_group_arn": targets.arn}],
                opts=child(self),
            )
        if settings.certificate_arn:
            aws.lb.Listener(
                f"{self._name}-redirect",
                load_balancer_arn=balancer.arn,
                protocol="HTTP",
                port=_HTTP,
                default_actions=[
                    {
                        "type": "redirect",
                        "redirect": {
                            "protocol": "HTTPS",
                            "port": str(settings.listens_on),
                            "status_code": "HTTP_301",
                        },
                    }
                ],
                opts=child(self, minutes=_MINUTES),
            )

    def _url(self, balancer: aws.lb.LoadBalancer) -> pulumi.Output[str]:
        settings = self._settings
        if settings.certificate_arn is None:
            return pulumi.Output.concat("http://", balancer.dns_name, f":{settings.listens_on}")
        port = "" if settings.listens_on == _HTTPS else f":{settings.listens_on}"
        return pulumi.Output.concat("https://", str(settings.host_name), port)
