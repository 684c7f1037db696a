"""Checks an add-on's configuration values as EKS does: against the add-on's schema, in EKS's words.

The schemas name what can be set (`aws eks describe-addon-configuration` prints AWS's own); what is below the
parts of a pod specification is not looked into.
"""

from __future__ import annotations

from typing import Any

import yaml

_POD = {
    "affinity": "object",
    "nodeSelector": "object",
    "podAnnotations": "object",
    "podLabels": "object",
    "priorityClassName": "string",
    "resources": "object",
    "tolerations": "array",
    "updateStrategy": "object",
}
_AGENT = {"resources": "object", "tolerations": "array", "additionalArgs": "array", "affinity": "object"}
_CNI_ENVIRONMENT = dict.fromkeys(
    (
        "ADDITIONAL_ENI_TAGS",
        "ANNOTATE_POD_IP",
        "AWS_EC2_ENDPOINT",
        "AWS_EXTERNAL_SERVICE_CIDRS",
        "AWS_MANAGE_ENIS_NON_SCHEDULABLE",
        "AWS_VPC_CNI_NODE_PORT_SUPPORT",
        "AWS_VPC_ENI_MTU",
        "AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG",
        "AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS",
        "AWS_VPC_K8S_CNI_EXTERNALSNAT",
        "AWS_VPC_K8S_CNI_LOGLEVEL",
        "AWS_VPC_K8S_CNI_LOG_FILE",
        "AWS_VPC_K8S_CNI_RANDOMIZESNAT",
        "AWS_VPC_K8S_CNI_VETHPREFIX",
        "AWS_VPC_K8S_PLUGIN_LOG_FILE",
        "AWS_VPC_K8S_PLUGIN_LOG_LEVEL",
        "CLUSTER_ENDPOINT",
        "DISABLE_INTROSPECTION",
        "DISABLE_LEAKED_ENI_CLEANUP",
        "DISABLE_METRICS",
        "DISABLE_NETWORK_RESOURCE_PROVISIONING",
        "DISABLE_POD_V6",
        "DISABLE_TCP_EARLY_DEMUX",
        "ENABLE_BANDWIDTH_PLUGIN",
        "ENABLE_POD_ENI",
        "ENABLE_PREFIX_DELEGATION",
        "ENABLE_SUBNET_DISCOVERY",
        "ENABLE_V6_EGRESS",
        "ENI_CONFIG_ANNOTATION_DEF",
        "ENI_CONFIG_LABEL_DEF",
        "INTROSPECTION_BIND_ADDRESS",
        "IP_COOLDOWN_PERIOD",
        "MAX_ENI",
        "MINIMUM_IP_TARGET",
        "NETWORK_POLICY_ENFORCING_MODE",
        "POD_SECURITY_GROUP_ENFORCING_MODE",
        "WARM_ENI_TARGET",
        "WARM_IP_TARGET",
        "WARM_PREFIX_TARGET",
    ),
    "string",
)
SCHEMAS: dict[str, dict[str, Any]] = {
    "vpc-cni": {
        **_POD,
        "enableNetworkPolicy": "string",
        "enableWindowsIpam": "string",
        "enableWindowsPrefixDelegation": "string",
        "env": _CNI_ENVIRONMENT,
        "eniConfig": "object",
        "init": {"env": "object", "resources": "object"},
        "livenessProbeTimeoutSeconds": "integer",
        "nodeAgent": {
            "enableCloudWatchLogs": "string",
            "enablePolicyEventLogs": "string",
            "healthProbeBindAddr": "string",
            "metricsBindAddr": "string",
            "conntrackCacheCleanupPeriod": "string",
            "networkPolicyAgentLogLevel": "string",
            "resources": "object",
        },
        "readinessProbeTimeoutSeconds": "integer",
    },
    "coredns": {
        **_POD,
        "autoScaling": {"enabled": "boolean", "minReplicas": "integer", "maxReplicas": "integer"},
        "computeType": "string",
        "corefile": "string",
        "podDisruptionBudget": "object",
        "replicaCount": "integer",
        "topologySpreadConstraints": "array",
    },
    "kube-proxy": {**_POD, "ipvs": {"scheduler": "string"}, "mode": "string"},
    "eks-pod-identity-agent": {**_POD, "agent": {"additionalArgs": "object"}},
    "eks-node-monitoring-agent": {
        "dcgmAgent": _AGENT,
        "monitoringAgent": _AGENT,
        "nodeAgent": _AGENT,
        "tolerations": "array",
    },
    "metrics-server": {
        **_POD,
        "addonResizer": "object",
        "podDisruptionBudget": "object",
        "replicas": "integer",
        "topologySpreadConstraints": "array",
    },
    "amazon-cloudwatch-observability": {
        **_POD,
        "admissionWebhooks": "object",
        "agent": "object",
        "agents": "array",
        "clusterName": "string",
        "containerLogs": {"enabled": "boolean", "fluentBit": "object"},
        "dcgmExporter": "object",
        "kubeStateMetrics": "object",
        "manager": "object",
        "neuronMonitor": "object",
        "nodeExporter": "object",
        "region": "string",
    },
}
_TYPES: dict[str, type] = {"string": str, "integer": int, "boolean": bool, "object": dict, "array": list}


def fault_of(addon: str, text: str) -> str | None:
    """Return what is wrong with configuration values, in EKS's words; None where nothing is.

    Args:
        addon: the add-on's name.
        text: the values, in JSON or YAML.
    """
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError:
        return "ConfigurationValue provided in request is not a valid JSON or YAML."
    schema = SCHEMAS.get(addon)
    faults = _faults("$", values, "object" if schema is None else schema)
    if not faults:
        return None
    return (
        "ConfigurationValue provided in request is not supported: Json schema validation failed with error: "
        f"[{', '.join(faults)}]"
    )


def _faults(path: str, value: Any, schema: Any) -> list[str]:
    wanted = schema if isinstance(schema, str) else "object"
    if not isinstance(value, _TYPES[wanted]) or (wanted == "integer" and isinstance(value, bool)):
        return [f"{path}: {_type_name(value)} found, {wanted} expected"]
    if isinstance(schema, str) or not isinstance(value, dict):
        return []
    found: list[str] = []
    for key, member in value.items():
        if key in schema:
            found += _faults(f"{path}.{key}", member, schema[key])
        else:
            found.append(
                f"{path}.{key}: is not defined in the schema and the schema does not allow additional "
                "properties"
            )
    return found


def _type_name(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    return next((name for name, kind in _TYPES.items() if isinstance(value, kind)), "number")
