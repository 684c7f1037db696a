"""The cluster's machines: what they are told at their start, what they may do, and what outlives them."""

from __future__ import annotations

import base64
import email
import functools
import json
import tomllib
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from infra.gpus import INSTANCE_GPUS
from tests.infra import machines

if TYPE_CHECKING:
    from tests.infra.graph import Graph, Recorded

_GROUP = "aws:eks/nodeGroup:NodeGroup"
_TEMPLATE = "aws:ec2/launchTemplate:LaunchTemplate"
_RESERVATION = "cr-0123456789abcdef0"
# One run of the program for all of them: each is what its name says, and otherwise like the first.
_GROUPS: dict[str, dict[str, Any]] = {
    "plain": {"instance_types": ["g6.xlarge", "g6.2xlarge"]},
    "fewbytes": {"instance_types": ["g4dn.xlarge"]},  # 125 GB are less than what pods were promised
    "tight": {"instance_types": ["g6.xlarge", "g6.2xlarge"], "disk_gib": 240},  # 250 GB are 232 GiB
    "roomy": {"instance_types": ["g6.2xlarge", "g6.4xlarge"], "disk_gib": 400},
    "bottle": {"instance_types": ["g6.xlarge", "g6.2xlarge"], "operating_system": "BOTTLEROCKET"},
    "bottlefewbytes": {"instance_types": ["g4dn.xlarge"], "operating_system": "BOTTLEROCKET"},
    "spot": {"instance_types": ["g5.xlarge"], "capacity_type": "SPOT", "desired": 0, "max": 4},
    "pinned": {"instance_types": ["g6.xlarge"], "release_version": "1.35.6-20260724"},
    "warm": {
        "instance_types": ["g6.xlarge"],
        "warm_pool": {"min_size": 1, "max_prepared": 3, "state": "RUNNING"},
        "max": 3,
    },
    "block": {
        "instance_types": ["p5.48xlarge"],
        "capacity_type": "CAPACITY_BLOCK",
        "capacity_reservation_id": _RESERVATION,
        "zone_index": 1,
        "desired": 0,
    },
}
# What one such group is changed to, by whether EKS can do it in place.
_REPLACING: dict[str, dict[str, Any]] = {
    "types": {"instance_types": ["g6.xlarge"]},
    "system": {"operating_system": "BOTTLEROCKET"},
    "capacity": {"capacity_type": "SPOT"},
    "zone": {"zone_index": 0},
}
_IN_PLACE: dict[str, dict[str, Any]] = {
    "size": {"desired": 2, "max": 2},
    "disk": {"disk_gib": 220},
    "release": {"release_version": "1.35.6-20260724"},
    "pool": {"warm_pool": {"max_prepared": 2}},
}


@functools.cache
def _graph(section: str) -> Graph:
    # A minute for the drain: more than spot machines have is refused.
    return machines.run(serving={"drain_seconds": 60}, **json.loads(section))


def _run(**eks: Any) -> Graph:
    return _graph(json.dumps({"gpu_node_groups": _GROUPS, **eks}, sort_keys=True))


def _gpu(group: str) -> tuple[Recorded, dict[str, Any]]:
    return _of(_run(), f"gpu-{group}")


def _of(recorded: Graph, what: str) -> tuple[Recorded, dict[str, Any]]:
    """Return a node group, and the inputs of its launch template."""
    return recorded.named(f"nodes-{what}"), recorded.named(f"nodes-{what}-template").inputs


def _node_config(template: dict[str, Any]) -> dict[str, Any]:
    """Return the NodeConfig in user data, as cloud-init and nodeadm take it apart."""
    message = email.message_from_bytes(base64.b64decode(template["userData"]))
    assert message.is_multipart()
    (part,) = [item for item in message.walk() if not item.is_multipart()]
    assert part.get_content_type() == "application/node.eks.aws"
    assert not message.defects
    config: dict[str, Any] = yaml.safe_load(str(part.get_payload()))
    return config


def _bottlerocket_settings(template: dict[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = tomllib.loads(base64.b64decode(template["userData"]).decode())["settings"]
    return told


def test_amazon_linux_pulls_in_parallel_onto_its_own_disks() -> None:
    group, template = _gpu("plain")
    assert group.inputs["amiType"] == "AL2023_x86_64_NVIDIA"
    assert _node_config(template) == {
        "apiVersion": "node.eks.aws/v1alpha1",
        "kind": "NodeConfig",
        "spec": {
            "featureGates": {"FastImagePull": True},
            "instance": {"localStorage": {"strategy": "RAID0"}},
        },
    }


@pytest.mark.parametrize(
    ("group", "uses_them"), [("plain", True), ("fewbytes", False), ("tight", False), ("roomy", True)]
)
def test_disks_of_the_machine_are_used_where_they_hold_what_the_stack_says(
    group: str, uses_them: bool
) -> None:
    assert ("instance" in _node_config(_gpu(group)[1])["spec"]) is uses_them


def test_bottlerocket_pulls_in_parallel_onto_its_own_disks() -> None:
    group, template = _gpu("bottle")
    assert group.inputs["amiType"] == "BOTTLEROCKET_x86_64_NVIDIA"
    told = _bottlerocket_settings(template)
    assert told["container-runtime"] == {"snapshotter": "soci"}
    plugin = told["container-runtime-plugins"]["soci-snapshotter"]
    assert plugin["pull-mode"] == "parallel-pull-unpack"
    assert set(plugin["parallel-pull-unpack"]) == {
        "max-concurrent-downloads-per-image",
        "concurrent-download-chunk-size",
        "max-concurrent-unpacks-per-image",
        "discard-unpacked-layers",
    }
    (command,) = told["bootstrap-commands"].values()
    first, second = command["commands"]
    assert first == ["apiclient", "ephemeral-storage", "init"]
    assert second[:4] == ["apiclient", "ephemeral-storage", "bind", "--dirs"]
    assert {"/var/lib/containerd", "/var/lib/kubelet", "/var/lib/soci-snapshotter"} <= set(second[4:])
    assert (command["essential"], command["mode"]) == (True, "always")
    # It would not start where there are none.
    assert "bootstrap-commands" not in _bottlerocket_settings(_gpu("bottlefewbytes")[1])


@pytest.mark.parametrize(
    ("group", "device", "gib"),
    [("plain", "/dev/xvda", 200), ("roomy", "/dev/xvda", 400), ("bottle", "/dev/xvdb", 200)],
)
def test_the_disk_is_large_fast_and_encrypted(group: str, device: str, gib: int) -> None:
    _, template = _gpu(group)
    (mapping,) = template["blockDeviceMappings"]
    assert mapping["deviceName"] == device
    disk = mapping["ebs"]
    assert (disk["volumeType"], disk["volumeSize"], disk["throughput"]) == ("gp3", gib, 1000)
    assert disk["throughput"] / disk["iops"] <= 0.25  # AWS's limit, in MiB/s for each operation a second
    assert (disk["encrypted"], disk["deleteOnTermination"]) == ("true", "true")


def test_the_system_group_is_plain() -> None:
    group, template = _of(_run(), "system")
    assert group.inputs["amiType"] == "AL2023_x86_64_STANDARD"
    assert group.inputs["capacityType"] == "ON_DEMAND"
    assert "taints" not in group.inputs
    assert not [key for key in group.inputs["labels"] if "nvidia" in key]
    assert "userData" not in template
    (mapping,) = template["blockDeviceMappings"]
    assert mapping["deviceName"] == "/dev/xvda"
    assert (mapping["ebs"]["volumeType"], mapping["ebs"]["encrypted"]) == ("gp3", "true")


def test_no_template_names_an_image_or_lets_pods_have_the_machine_s_rights() -> None:
    for template in _run().of_type(_TEMPLATE):
        assert "imageId" not in template.inputs  # with one, EKS would merge nothing and pin nothing
        assert "securityGroupNames" not in template.inputs
        assert "vpcSecurityGroupIds" not in template.inputs  # with some, EKS's own would not be added
        assert template.inputs["metadataOptions"] == {
            "httpEndpoint": "enabled",
            "httpTokens": "required",
            "httpPutResponseHopLimit": 1,
        }
        tagged = {item["resourceType"]: item["tags"] for item in template.inputs["tagSpecifications"]}
        assert set(tagged) == {"instance", "volume", "network-interface"}
        assert all(tags["stack"] == "test" and tags["owner"] == "me" for tags in tagged.values())


def test_gpu_machines_say_what_they_are_and_keep_others_away() -> None:
    group, _ = _gpu("plain")
    assert group.inputs["taints"] == [{"key": "nvidia.com/gpu", "value": "present", "effect": "NO_SCHEDULE"}]
    assert group.inputs["labels"] == {
        "nvidia.com/gpu.present": "true",
        "k8s.amazonaws.com/accelerator": "nvidia-l4",
        "berth/operating-system": "al2023",
    }
    assert group.inputs["instanceTypes"] == ["g6.xlarge", "g6.2xlarge"]


def test_each_entry_is_a_group() -> None:
    recorded = _run()
    groups = recorded.of_type(_GROUP)
    assert {item.name for item in groups} == {"nodes-system", *(f"nodes-gpu-{name}" for name in _GROUPS)}
    spot, _ = _gpu("spot")
    assert spot.inputs["capacityType"] == "SPOT"
    assert spot.inputs["scalingConfig"] == {"desiredSize": 0, "minSize": 0, "maxSize": 4}
    assert spot.inputs["labels"]["k8s.amazonaws.com/accelerator"] == "nvidia-a10g"
    plain, _ = _gpu("plain")
    assert plain.inputs["capacityType"] == "ON_DEMAND"
    assert len({item.inputs["nodeGroupName"] for item in groups}) == len(groups)
    assert len({item.inputs["name"] for item in recorded.of_type(_TEMPLATE)}) == len(groups)


def test_machines_are_repaired_and_changed_without_a_spare_one() -> None:
    for group in _run().of_type(_GROUP):
        assert group.inputs["nodeRepairConfig"] == {"enabled": True}
        assert group.inputs["updateConfig"] == {"maxUnavailable": 1, "updateStrategy": "MINIMAL"}
        assert all(group.timeouts)
        assert group.inputs["version"] == "1.35"


def test_a_release_is_pinned_where_the_stack_pins_it() -> None:
    assert _gpu("pinned")[0].inputs["releaseVersion"] == "1.35.6-20260724"
    assert "releaseVersion" not in _gpu("plain")[0].inputs


def test_a_capacity_block_is_all_in_the_template() -> None:
    group, template = _gpu("block")
    assert group.inputs["capacityType"] == "CAPACITY_BLOCK"
    assert "instanceTypes" not in group.inputs
    assert template["instanceType"] == "p5.48xlarge"
    assert template["instanceMarketOptions"] == {"marketType": "capacity-block"}
    assert template["capacityReservationSpecification"] == {
        "capacityReservationTarget": {"capacityReservationId": _RESERVATION}
    }
    (subnet,) = group.inputs["subnetIds"]
    assert subnet == "network-private-1-id"
    other, plain = _gpu("plain")
    assert len(other.inputs["subnetIds"]) == 2
    assert not {"instanceType", "instanceMarketOptions", "capacityReservationSpecification"} & set(plain)


def test_a_warm_pool_is_as_the_stack_says() -> None:
    assert _gpu("warm")[0].inputs["warmPoolConfig"] == {
        "minSize": 1,
        "maxGroupPreparedCapacity": 3,
        "poolState": "RUNNING",
        "reuseOnScaleIn": False,
    }
    assert "warmPoolConfig" not in _gpu("plain")[0].inputs


@pytest.mark.parametrize("change", [*_REPLACING, *_IN_PLACE])
def test_only_what_eks_cannot_change_is_a_group_of_another_name(change: str) -> None:
    # EKS knows no two groups of one name: the engine could only take the old one away first.
    changes: dict[str, dict[str, Any]] = {**_REPLACING, **_IN_PLACE}
    before = _run(gpu_node_groups=dict.fromkeys(changes, _GROUPS["plain"]))
    after = _run(gpu_node_groups={name: {**_GROUPS["plain"], **each} for name, each in changes.items()})
    old, old_template = _of(before, f"gpu-{change}")
    new, new_template = _of(after, f"gpu-{change}")
    assert (old.inputs, old_template) != (new.inputs, new_template)
    assert (old.inputs["nodeGroupName"] != new.inputs["nodeGroupName"]) is (change in _REPLACING)
    assert not new.request.deleteBeforeReplace


def test_subnets_of_another_kind_are_a_group_of_another_name() -> None:
    networks: tuple[dict[str, Any], ...] = ({}, {"nat": "none"}, {"zones": 3}, {"nat": "per_zone"})
    own, public, wider, same = (
        _of(
            _run(network=network, gpu_node_groups={"plain": _GROUPS["plain"]}),
            "system",
        )[0].inputs["nodeGroupName"]
        for network in networks
    )
    assert len({own, public, wider}) == 3
    assert same == own


def test_the_machine_s_own_role_only_joins_and_pulls() -> None:
    attached = {
        item.inputs["policyArn"].rpartition("/")[2]
        for item in _run().of_type("aws:iam/rolePolicyAttachment:RolePolicyAttachment")
        if item.name.startswith("nodes-")
    }
    assert attached == {"AmazonEKSWorkerNodePolicy", "AmazonEC2ContainerRegistryPullOnly"}


def test_without_an_autoscaler_sizes_are_the_stack_s() -> None:
    recorded = _run()
    for group in recorded.of_type(_GROUP):
        assert not group.request.ignoreChanges
    assert not [item for item in recorded if item.type.startswith("aws:autoscaling/")]


@pytest.mark.parametrize(
    ("survivor", "firsts"),
    [
        ("nodes-role-AmazonEKSWorkerNodePolicy", ("nodes-system", "nodes-gpu-plain")),
        ("nodes-role-AmazonEC2ContainerRegistryPullOnly", ("nodes-system", "nodes-gpu-plain")),
        ("network-private-0-nat", ("nodes-system", "nodes-gpu-plain")),
        ("network-s3", ("nodes-system", "nodes-gpu-plain")),
        ("node-addons-vpc-cni", ("nodes-system", "nodes-gpu-plain")),
        ("node-addons-kube-proxy", ("nodes-system", "nodes-gpu-plain")),
        ("node-addons-eks-pod-identity-agent", ("nodes-system", "nodes-gpu-plain", "node-addons-vpc-cni")),
        ("node-addons-vpc-cni-role-AmazonEKS_CNI_Policy", ("nodes-system", "nodes-gpu-plain")),
        ("interfaces", ("nodes-system", "nodes-gpu-plain", "node-addons-vpc-cni")),
        ("aws:ec2/subnet:Subnet", ("interfaces",)),
        ("cluster-control-plane", ("interfaces", "nodes-system")),
        ("nodes-system", ("cluster-addons-coredns", "cluster-addons-metrics-server")),
        ("nodes-gpu-plain", ("device-plugin-daemon-set",)),
    ],
)
def test_it_outlives(survivor: str, firsts: tuple[str, ...]) -> None:
    recorded = _run()
    for name in firsts:
        assert machines.outlives(recorded, survivor, recorded.named(name)), name


def test_the_kinds_of_gpus_have_disks_in_the_order_of_their_sizes() -> None:
    sizes = ["xlarge", "2xlarge", "4xlarge", "8xlarge", "16xlarge"]
    for family in ("g4dn", "g5", "g6", "g6e"):
        stores = [INSTANCE_GPUS[f"{family}.{size}"].instance_store_gb for size in sizes]
        assert stores == sorted(stores)
    assert INSTANCE_GPUS["g6.xlarge"].instance_store_gib == 232
