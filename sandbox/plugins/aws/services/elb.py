"""Load balancers and target groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from sandbox.plugins.aws import shapes
from sandbox.plugins.aws.cloud import CloudError
from sandbox.plugins.aws.types import Context, Operation, Status, Type
from sandbox.plugins.schema import truth

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sandbox.engine.values import Properties


class ElbType(Type):
    """A type of Elastic Load Balancing; ids are ARNs."""

    service = "elbv2"
    tags_of = Operation("describe_tags", key="ResourceArns", result="TagDescriptions[0].Tags")
    tagging = ("add_tags", "remove_tags", "ResourceArns")
    attributes: ClassVar[Mapping[str, str]] = {}
    """Name of the attribute that a property sets."""
    attribute_operations: ClassVar[tuple[str, str, str]] = ("", "", "")
    """Operations that describe and modify attributes, and the parameter that names the object."""

    def _attribute_list(self, context: Context) -> list[dict[str, str]]:
        return [
            {"Key": attribute, "Value": str(value).lower() if isinstance(value, bool) else str(value)}
            for attribute, value in self.wanted_attributes(context).items()
        ]

    def wanted_attributes(self, context: Context) -> dict[str, Any]:
        """Return the attributes that the inputs ask for."""
        given = context.inputs
        return {name: given[key] for key, name in self.attributes.items() if given.get(key) is not None}

    def set_attributes(self, context: Context, id_: str) -> None:
        """Set the attributes that the inputs ask for."""
        _, operation, key = self.attribute_operations
        if wanted := self._attribute_list(context):
            context.call("elbv2", operation, **{key: id_}, Attributes=wanted)

    def read_attributes(self, context: Context, id_: str) -> dict[str, str]:
        """Return the object's attributes."""
        operation, _, key = self.attribute_operations
        found = context.call("elbv2", operation, **{key: id_})["Attributes"]
        return {item["Key"]: item["Value"] for item in found}

    def attribute_outputs(self, context: Context, id_: str) -> Properties:
        """Return the attributes as properties."""
        return self.plain_attributes(self.read_attributes(context, id_))

    def plain_attributes(self, actual: Mapping[str, str]) -> Properties:
        """Return attributes as properties; numbers and booleans as such."""
        return {key: _plain(actual[name]) for key, name in self.attributes.items() if name in actual}

    def tag_target(self, context: Context, id_: str, found: dict[str, Any]) -> str:
        """Ids are ARNs."""
        del context, found
        return id_

    def _named(self, context: Context, operation: str, items: str, key: str) -> str:
        found = context.call("elbv2", operation, Names=[context.inputs["name"]])[items]
        return str(found[0][key])


def _plain(value: str) -> Any:
    if value in {"true", "false"}:
        return value == "true"
    return int(value) if value.isdecimal() else value


class LoadBalancer(ElbType):
    """A load balancer."""

    pulumi_type = "aws:lb/loadBalancer:LoadBalancer"
    creates = Operation("create_load_balancer", result="LoadBalancers[0].LoadBalancerArn")
    reads = Operation("describe_load_balancers", key="LoadBalancerArns", result="LoadBalancers[0]")
    deletes = Operation("delete_load_balancer", key="LoadBalancerArn")
    status = Status(
        "State.Code", frozenset({"active", "active_impaired"}), frozenset({"failed"}), "State.Reason"
    )
    renames: ClassVar = {"arn": "LoadBalancerArn", "name": "LoadBalancerName", "loadBalancerType": "Type",
               "zoneId": "CanonicalHostedZoneId"}  # fmt: skip
    attributes: ClassVar = {
        "idleTimeout": "idle_timeout.timeout_seconds",
        "clientKeepAlive": "client_keep_alive.seconds",
        "enableDeletionProtection": "deletion_protection.enabled",
        "enableCrossZoneLoadBalancing": "load_balancing.cross_zone.enabled",
        "dropInvalidHeaderFields": "routing.http.drop_invalid_header_fields.enabled",
        "enableHttp2": "routing.http2.enabled",
        "enableXffClientPort": "routing.http.xff_client_port.enabled",
        "preserveHostHeader": "routing.http.preserve_host_header.enabled",
        "desyncMitigationMode": "routing.http.desync_mitigation_mode",
        "xffHeaderProcessingMode": "routing.http.xff_header_processing.mode",
        "dnsRecordClientRoutingPolicy": "dns_record.client_routing_policy",
        "enableTlsVersionAndCipherSuiteHeaders": "routing.http.x_amzn_tls_version_and_cipher_suite.enabled",
        "enableWafFailOpen": "waf.fail_open.enabled",
        "enableZonalShift": "zonal_shift.config.enabled",
    }
    _LOGS: ClassVar = {
        "accessLogs": "access_logs.s3",
        "connectionLogs": "connection_logs.s3",
        "healthCheckLogs": "health_check_logs.s3",
    }
    attribute_operations = (
        "describe_load_balancer_attributes",
        "modify_load_balancer_attributes",
        "LoadBalancerArn",
    )
    name_property = "name"
    name_limit = 32
    extra = frozenset({"internal", "name"})
    in_place: ClassVar = {
        **dict.fromkeys((*attributes, *_LOGS), "set_attributes"),
        "securityGroups": "set_groups",
        "subnets": "set_subnets",
        "ipAddressType": "set_address_type",
    }

    def parameters(self, context: Context) -> dict[str, Any]:
        """`internal` is the scheme."""
        internal = truth(context.inputs.get("internal", False))
        scheme = "internal" if internal else "internet-facing"
        return {**super().parameters(context), "Name": context.inputs["name"], "Scheme": scheme}

    after_create = ElbType.set_attributes

    def wanted_attributes(self, context: Context) -> dict[str, Any]:
        """Where logs go is attributes too; logs that are no longer given are switched off."""
        wanted = super().wanted_attributes(context)
        for key, prefix in self._LOGS.items():
            given = context.inputs.get(key)
            if given:
                wanted[f"{prefix}.enabled"] = truth(given.get("enabled", False))
                wanted[f"{prefix}.bucket"] = given["bucket"]
                wanted[f"{prefix}.prefix"] = given.get("prefix", "")
            elif context.request.old_inputs.get(key):
                wanted[f"{prefix}.enabled"] = False
        return wanted

    def attribute_outputs(self, context: Context, id_: str) -> Properties:
        """Where logs go is one object for each kind of log."""
        actual = self.read_attributes(context, id_)
        result = self.plain_attributes(actual)
        for key, prefix in self._LOGS.items():
            if f"{prefix}.enabled" in actual:
                result[key] = {
                    "bucket": actual.get(f"{prefix}.bucket", ""),
                    "enabled": actual[f"{prefix}.enabled"] == "true",
                    "prefix": actual.get(f"{prefix}.prefix", ""),
                }
        return result

    def existing(self, context: Context) -> str:
        """Find it by its name."""
        return self._named(context, "describe_load_balancers", "LoadBalancers", "LoadBalancerArn")

    def orphans(self, context: Context) -> list[str]:
        """Look for the name first: creating the same load balancer again succeeds without a word."""
        try:
            return [self.existing(context)]
        except CloudError as error:
            if error.not_found:
                return []
            raise

    def set_groups(self, context: Context, id_: str) -> None:
        """Set the security groups."""
        groups = context.inputs.get("securityGroups") or []
        context.call("elbv2", "set_security_groups", LoadBalancerArn=id_, SecurityGroups=groups)

    def set_subnets(self, context: Context, id_: str) -> None:
        """Set the subnets."""
        context.call("elbv2", "set_subnets", LoadBalancerArn=id_, Subnets=context.inputs["subnets"])

    def set_address_type(self, context: Context, id_: str) -> None:
        """Set whether it has IPv6 addresses too."""
        wanted = context.inputs.get("ipAddressType", "ipv4")
        context.call("elbv2", "set_ip_address_type", LoadBalancerArn=id_, IpAddressType=wanted)

    def before_delete(self, context: Context, id_: str) -> None:
        """A deleted load balancer is not an error to AWS, nor one that never was."""
        if self.read(context, id_) is None:
            raise CloudError("DeleteLoadBalancer", "LoadBalancerNotFound", id_)

    def computed(self, context: Context, id_: str, found: dict[str, Any]) -> Properties:
        """Add attributes, and what is called or shaped otherwise."""
        zones = found.get("AvailabilityZones") or ()
        return {
            **self.attribute_outputs(context, id_),
            "arnSuffix": id_.partition(":loadbalancer/")[2],
            "internal": found.get("Scheme") == "internal",
            "subnets": [zone["SubnetId"] for zone in zones if zone.get("SubnetId")],
        }


_HEALTH_CHECK = {
    "enabled": "HealthCheckEnabled",
    "interval": "HealthCheckIntervalSeconds",
    "path": "HealthCheckPath",
    "port": "HealthCheckPort",
    "protocol": "HealthCheckProtocol",
    "timeout": "HealthCheckTimeoutSeconds",
    "healthyThreshold": "HealthyThresholdCount",
    "unhealthyThreshold": "UnhealthyThresholdCount",
}


class TargetGroup(ElbType):
    """A target group."""

    pulumi_type = "aws:lb/targetGroup:TargetGroup"
    creates = Operation("create_target_group", result="TargetGroups[0].TargetGroupArn")
    reads = Operation("describe_target_groups", key="TargetGroupArns", result="TargetGroups[0]")
    deletes = Operation("delete_target_group", key="TargetGroupArn")
    renames: ClassVar = {"arn": "TargetGroupArn", "name": "TargetGroupName"}
    attributes: ClassVar = {
        "deregistrationDelay": "deregistration_delay.timeout_seconds",
        "slowStart": "slow_start.duration_seconds",
        "loadBalancingAlgorithmType": "load_balancing.algorithm.type",
        "loadBalancingAnomalyMitigation": "load_balancing.algorithm.anomaly_mitigation",
        "loadBalancingCrossZoneEnabled": "load_balancing.cross_zone.enabled",
        "preserveClientIp": "preserve_client_ip.enabled",
        "connectionTermination": "deregistration_delay.connection_termination.enabled",
        "proxyProtocolV2": "proxy_protocol_v2.enabled",
    }
    attribute_operations = (
        "describe_target_group_attributes",
        "modify_target_group_attributes",
        "TargetGroupArn",
    )
    name_property = "name"
    name_limit = 32
    extra = frozenset({"name"})
    in_place: ClassVar = {
        **dict.fromkeys(attributes, "set_attributes"),
        "stickiness": "set_attributes",
        "healthCheck": "set_health_check",
    }

    def _health_check(self, context: Context) -> dict[str, Any]:
        given = context.inputs.get("healthCheck") or {}
        shape = context.cloud.input_shape("elbv2", "modify_target_group")
        wanted = {
            member: shapes.to_api(given[key], shape.members[member], {})
            for key, member in _HEALTH_CHECK.items()
            if given.get(key) is not None
        }
        if given.get("matcher"):
            grpc = context.inputs.get("protocolVersion") == "GRPC"
            wanted["Matcher"] = {"GrpcCode" if grpc else "HttpCode": str(given["matcher"])}
        return wanted

    def parameters(self, context: Context) -> dict[str, Any]:
        """The health check's members lie flat in the API."""
        return {
            **super().parameters(context),
            "Name": context.inputs["name"],
            **self._health_check(context),
        }

    after_create = ElbType.set_attributes

    def supports(self, cloud: Any, name: str) -> bool:
        """The health check goes by other names."""
        return name == "healthCheck" or super().supports(cloud, name)

    def wanted_attributes(self, context: Context) -> dict[str, Any]:
        """Stickiness is attributes too."""
        wanted = super().wanted_attributes(context)
        given = context.inputs.get("stickiness")
        if given:
            kind = str(given["type"])
            wanted["stickiness.enabled"] = truth(given.get("enabled", True))
            wanted["stickiness.type"] = kind
            if "cookieDuration" in given and kind in {"lb_cookie", "app_cookie"}:
                wanted[f"stickiness.{kind}.duration_seconds"] = given["cookieDuration"]
        return wanted

    def set_health_check(self, context: Context, id_: str) -> None:
        """Change the health check."""
        context.call("elbv2", "modify_target_group", TargetGroupArn=id_, **self._health_check(context))

    def existing(self, context: Context) -> str:
        """Find it by its name."""
        return self._named(context, "describe_target_groups", "TargetGroups", "TargetGroupArn")

    def orphans(self, context: Context) -> list[str]:
        """Look for the name first: creating the same target group again succeeds without a word."""
        try:
            return [self.existing(context)]
        except CloudError as error:
            if error.not_found:
                return []
            raise

    def computed(self, context: Context, id_: str, found: dict[str, Any]) -> Properties:
        """Add the health check as one object."""
        check = {key: found[member] for key, member in _HEALTH_CHECK.items() if found.get(member) is not None}
        matcher = found.get("Matcher") or {}
        if code := matcher.get("HttpCode") or matcher.get("GrpcCode"):
            check["matcher"] = code
        return {
            **self.attribute_outputs(context, id_),
            "arnSuffix": id_.rpartition(":")[2],
            "healthCheck": check,
            "loadBalancerArns": found.get("LoadBalancerArns") or [],
        }
