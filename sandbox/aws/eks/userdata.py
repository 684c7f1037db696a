"""Checks the user data of a node group's launch template as EKS and the node do.

EKS merges what is given with its own, so on Amazon Linux it must be in MIME's multipart format
(https://docs.aws.amazon.com/eks/latest/userguide/launch-templates.html) and on Bottlerocket in TOML. What is
in a NodeConfig is first read by the node (https://awslabs.github.io/amazon-eks-ami/nodeadm/doc/api/).
"""

from __future__ import annotations

import base64
import binascii
import email
import tomllib
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from email.message import Message

_NODE_CONFIG_TYPE = "application/node.eks.aws"
_API_VERSION = "node.eks.aws/v1alpha1"
_SPEC_KEYS = {"cluster", "containerd", "featureGates", "instance", "kubelet"}
_FEATURE_GATES = {"FastImagePull", "InstanceIdNodeName"}
_STORAGE_STRATEGIES = {"RAID0", "RAID10", "Mount"}


def fault_of(user_data: str, ami_type: str) -> tuple[str, str] | None:
    """Return the code and the words of the node group's health issue that user data leads to, or None.

    Args:
        user_data: as the launch template has it, in base64.
        ami_type: the node group's.
    """
    try:
        text = base64.b64decode(user_data, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return "Ec2LaunchTemplateInvalidConfiguration", "User data was not in base64 encoding."
    if ami_type.startswith("BOTTLEROCKET"):
        try:
            tomllib.loads(text)
        except tomllib.TOMLDecodeError:
            return "Ec2LaunchTemplateInvalidConfiguration", "User data was not in the TOML format."
        return None
    message = email.message_from_string(text)
    if not message.is_multipart() or message.defects:
        return (
            "Ec2LaunchTemplateInvalidConfiguration",
            "User data was not in the MIME multipart format.",
        )
    return _fault_of_parts(message)


def _fault_of_parts(message: Message) -> tuple[str, str] | None:
    for part in message.walk():
        if part.get_content_type() == _NODE_CONFIG_TYPE:
            content = part.get_payload(decode=True)
            fault = _fault_of_node_config(content.decode() if isinstance(content, bytes) else "")
            if fault is not None:
                return "NodeCreationFailure", f"Instances failed to join the kubernetes cluster: {fault}"
    return None


def _fault_of_node_config(text: str) -> str | None:
    try:
        config: Any = yaml.safe_load(text)
    except yaml.YAMLError:
        return "the NodeConfig is not in YAML"
    if not isinstance(config, dict) or (config.get("apiVersion"), config.get("kind")) != (
        _API_VERSION,
        "NodeConfig",
    ):
        return f"the NodeConfig is not of apiVersion {_API_VERSION} and kind NodeConfig"
    spec = config.get("spec") or {}
    unknown = sorted(set(spec) - _SPEC_KEYS)
    if unknown:
        return f"the NodeConfig has unknown fields: {', '.join(unknown)}"
    gates = sorted(set(spec.get("featureGates") or {}) - _FEATURE_GATES)
    if gates:
        return f"the NodeConfig has unknown feature gates: {', '.join(gates)}"
    storage = ((spec.get("instance") or {}).get("localStorage") or {}).get("strategy")
    if storage is not None and storage not in _STORAGE_STRATEGIES:
        return f"the NodeConfig has an unknown local storage strategy: {storage}"
    return None
