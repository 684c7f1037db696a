# ruff: noqa: E501  # a table reads better than its lines broken
"""The section `eks` of a stack file: what is refused, in which words, and what is taken."""

from __future__ import annotations

from typing import Any

import pytest

from tests.infra.stack_files import assert_said, edited, loaded, problems

_NODES = ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"]
_BALANCER = ["subnet-0123456789abcdef2", "subnet-0123456789abcdef3"]
_VPC = {"vpc_id": "vpc-0123456789abcdef0", "node_subnet_ids": _NODES, "load_balancer_subnet_ids": _BALANCER}
_BLOCK = {
    "instance_types": ["p5.48xlarge"],
    "capacity_type": "CAPACITY_BLOCK",
    "capacity_reservation_id": "cr-0123456789abcdef0",
    "zone_index": 0,
}
_CERTIFICATE = "arn:aws:acm:us-east-1:123456789012:certificate/a"
_TLS = {"certificate_arn": _CERTIFICATE, "host_name": "model.example.com"}
_ARN = "arn:aws:iam::123456789012:role/a"
_GPU = "eks.gpu_node_groups.gpu"


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("eks.kubernetes_version", 1.35, "= 1.35: must be a minor version in quotes"),
        ("eks.network.zones", 4, "eks.network.zones = 4: must be 2 or 3 availability zones"),
        ("eks.network.nats", "none", "eks.network.nats: unknown key; did you mean nat?"),
        ("eks.network.nat", "two", 'eks.network.nat = "two": must be one of none, single, per_zone'),
        ("eks.network.vpc_cidr", "8.8.0.0/16", "must be a private IPv4 network of /16 to /20"),
        ("eks.network.interface_endpoints", "yes", 'interface_endpoints = "yes": must be true or false'),
        ("eks.network.flow_logs", True, "eks.network.flow_logs = true: must be a mapping of settings"),
        ("eks.network.flow_logs", {"traffic": "SOME"}, 'flow_logs.traffic = "SOME": must be one of ALL, ACCEPT, REJECT'),
        ("eks.network", {"existing": {**_VPC, "vpc_id": "vpc-1"}}, 'network.existing.vpc_id = "vpc-1": must be a VPC\'s id, "vpc-..."'),
        ("eks.network", {"existing": {"vpc_id": _VPC["vpc_id"]}}, "existing.node_subnet_ids is missing: must be a list of 2 or 3 ids of subnets"),
        ("eks.network", {"existing": {**_VPC, "node_subnet_ids": _NODES[:1]}}, '= ["subnet-0123456789abcdef0"]: must be a list of 2 or 3 ids of subnets'),
        ("eks.network", {"existing": {**_VPC, "node_subnet_ids": ["x", "y"]}}, 'existing.node_subnet_ids[0] = "x": must be a list of 2 or 3 ids'),
        ("eks.network", {"existing": {**_VPC, "load_balancer_subnet_ids": _NODES}}, "load_balancer_subnet_ids has subnet-0123456789abcdef0, which node_subnet_ids has too"),
        ("eks.network", {"existing": _VPC, "nat": "single"}, "eks.network.nat goes with a VPC of the stack's own, and existing names one"),
        ("eks.network", {"existing": _VPC, "flow_logs": {}}, "eks.network.flow_logs goes with a VPC of the stack's own"),
        ("eks.api", ..., "eks.api is missing: must be a mapping of settings with allowed_cidrs"),
        ("eks.api", {}, "eks.api.allowed_cidrs is missing: must be a list of IPv4 networks"),
        ("eks.api.allowed_cidrs", ["10.0.0.1/8"], '= ["10.0.0.1/8"]: must be a list of IPv4 networks such as "203.0.113.0/24"'),
        ("eks.api.allowed_cidrs", ["::/0"], '= ["::/0"]: must be a list of IPv4 networks'),
        ("eks.api.allowed_cidrs", ["0.0.0.0/0"], 'eks.api.allowed_cidrs has "0.0.0.0/0": must name networks'),
        ("eks.deployer_principal_arn", "bob", 'eks.deployer_principal_arn = "bob": must be the ARN of an IAM role or user'),
        ("eks.admin_principal_arns", ["bob"], "must be a list of ARNs of IAM roles or users"),
        ("eks.admin_principal_arns", ["arn:aws-cn:iam::123456789012:role/a"], "must be a list of ARNs"),
        ("eks.admin_principal_arns", [_ARN, _ARN], f"has {_ARN} twice: must name each principal once"),
        ("eks.viewer_principal_arns", ["bob"], 'eks.viewer_principal_arns[0] = "bob": must be a list of ARNs'),
        ("eks.control_plane_logs", ["kubelet"], 'control_plane_logs[0] = "kubelet": must be a list of api, audit, authenticator'),
        ("eks.log_retention_days", 8, "eks.log_retention_days = 8: must be a number of days that CloudWatch knows: 1, 3, 5"),
        ("eks.deletion_protection", "on", 'eks.deletion_protection = "on": must be true or false'),
        ("eks.addon_versions", ["a"], 'eks.addon_versions = ["a"]: must be a mapping of add-on names to versions'),
        ("eks.addon_versions", {"coredns": "latest"}, 'eks.addon_versions.coredns = "latest": must be a mapping of add-on names to versions'),
        ("eks.addon_versions", {"ebs": "v1.1.1-eksbuild.1"}, "eks.addon_versions.ebs"),
        ("eks.system_nodes", {"instance_types": []}, "eks.system_nodes.instance_types = []: must be a list of one text or more"),
        ("eks.system_nodes", {"disk_gib": 10}, "eks.system_nodes.disk_gib = 10: must be a whole number of GiB, 20 to 16384"),
        ("eks.system_nodes", {"desired": 9}, "eks.system_nodes.desired = 9 must be between min (1) and max (3)"),
        ("eks.system_nodes", {"release_version": "1.35"}, 'release_version = "1.35": must be a release of the machine image:'),
        ("eks.gpu_node_groups", ..., "eks.gpu_node_groups is missing: must be a mapping of one or more names"),
        ("eks.gpu_node_groups", {}, "eks.gpu_node_groups = {}: must be a mapping of one or more names"),
        ("eks.gpu_node_groups", ["gpu"], 'eks.gpu_node_groups = ["gpu"]: must be a mapping of one or more names'),
        ("eks.gpu_node_groups", {"GPU": {"instance_types": ["g6.xlarge"]}}, "eks.gpu_node_groups.GPU"),
        ("eks.gpu_node_groups", {"gpu": {}}, "eks.gpu_node_groups.gpu.instance_types is missing"),
        (f"{_GPU}.gpus", 1, f"{_GPU}.gpus: unknown key; known are capacity_reservation_id"),
        (f"{_GPU}.instance_types", ["m5.large"], f"{_GPU}.instance_types m5.large: must be of those with known GPUs: g4dn.xlarge"),
        (f"{_GPU}.instance_types", ["g5.xlarge", "g6.xlarge"], "mix nvidia-a10g and nvidia-l4: one group has one kind of GPU"),
        (f"{_GPU}.desired", 5, f"{_GPU}.desired = 5 must be between min (0) and max (1)"),
        (f"{_GPU}.disk_gib", 100, f"{_GPU}.disk_gib = 100: must be a whole number of GiB, 200 to 16384"),
        (f"{_GPU}.operating_system", "AL2", '= "AL2": must be one of AL2023, BOTTLEROCKET'),
        (f"{_GPU}.capacity_type", "RESERVED", '= "RESERVED": must be one of ON_DEMAND, SPOT, CAPACITY_BLOCK'),
        (f"{_GPU}.capacity_type", "CAPACITY_BLOCK", f"{_GPU}.capacity_reservation_id is missing: a capacity block is known by it"),
        (f"{_GPU}.capacity_type", "CAPACITY_BLOCK", f"{_GPU}.zone_index is missing: a capacity block is in one zone"),
        (f"{_GPU}.capacity_reservation_id", "cr-1", '= "cr-1": must be a capacity reservation\'s id, "cr-..."'),
        (f"{_GPU}.capacity_reservation_id", "cr-0123456789abcdef0", "capacity_reservation_id goes with capacity_type CAPACITY_BLOCK only"),
        ("eks.gpu_node_groups", {"gpu": {**_BLOCK, "warm_pool": {}}}, "warm_pool does not go with a capacity block"),
        ("eks.gpu_node_groups", {"gpu": {**_BLOCK, "instance_types": ["p5.48xlarge", "p5.4xlarge"]}}, "instance_types has several: a capacity block is of one"),
        (f"{_GPU}.warm_pool", {}, f"{_GPU}.warm_pool does not go with spot machines"),
        (f"{_GPU}.warm_pool", {"state": "COLD"}, 'warm_pool.state = "COLD": must be one of STOPPED, RUNNING'),
        (f"{_GPU}.warm_pool", {"max_prepared": 0}, "warm_pool.max_prepared = 0: must be a whole number, 1 or more"),
        (
            "eks.gpu_node_groups",
            {"gpu": {"instance_types": ["g6.xlarge"], "operating_system": "BOTTLEROCKET", "warm_pool": {"reuse_on_scale_in": True}}},
            "warm_pool.reuse_on_scale_in must be false with operating_system BOTTLEROCKET",
        ),
        (f"{_GPU}.zone_index", 3, f"{_GPU}.zone_index = 3: must be the number of a zone, from 0"),
        (f"{_GPU}.zone_index", 2, f"{_GPU}.zone_index = 2 must be below the number of zones, 2"),
        (f"{_GPU}.release_version", "latest", '= "latest": must be a release of the machine image:'),
        (f"{_GPU}.release_version", "1.34.1-20260101", '= "1.34.1-20260101" is not of eks.kubernetes_version "1.35"'),
        ("eks.cluster_autoscaler", 1, "eks.cluster_autoscaler = 1: must be true or false"),
        ("eks.autoscaling", {}, "eks.autoscaling.max_replicas is missing: must be a whole number, 1 or more"),
        ("eks.autoscaling", {"max_replicas": 1}, "eks.replicas goes without autoscaling, which decides how many there are"),
        ("eks.autoscaling", {"max_replicas": 1, "min_replicas": 2}, "eks.autoscaling.min_replicas = 2 must be max_replicas (1) or less"),
        ("eks.autoscaling", {"max_replicas": 1, "waiting_requests_per_replica": 0}, "waiting_requests_per_replica = 0: must be a whole number, 1 or more"),
        ("eks.autoscaling", {"max_replicas": 1, "time_to_first_token_seconds": 0}, "= 0: must be a number of seconds above 0, up to 600"),
        ("eks.autoscaling", {"max_replicas": 1, "scale_down_after_seconds": 0}, "scale_down_after_seconds = 0: must be a whole number of seconds"),
        ("eks.replicas", 0, "eks.replicas = 0: must be a whole number, 1 or more"),
        ("eks.replicas", 2, "eks.replicas = 2 is more than fit: eks.gpu_node_groups with their desired hold 1"),
        ("eks.surge", True, "eks.surge: needs room for one more than eks.replicas = 1"),
        ("eks.surge", "x", 'eks.surge = "x": must be true or false'),
        ("eks.pod", {"memory_gib": 0}, "eks.pod.memory_gib = 0: must be a whole number of GiB, 1 or more"),
        ("eks.pod", {"cpu_millicores": 0}, "eks.pod.cpu_millicores = 0: must be a whole number, 1 or more"),
        ("eks.s3_weights", {"bucket": "A"}, 'eks.s3_weights.bucket = "A": must be the name of an S3 bucket'),
        ("eks.s3_weights", {"concurrency": 0}, "eks.s3_weights.concurrency = 0: must be a whole number of streams, 1 to 128"),
        ("eks.load_balancer.internal", False, "allowed_cidrs is missing: a load balancer that is not internal"),
        ("eks.load_balancer.allowed_cidrs", ["0.0.0.0/0"], 'has "0.0.0.0/0": must name networks, as the port speaks plain HTTP'),
        ("eks.load_balancer.certificate_arn", "x", '= "x": must be the ARN of an ACM certificate, arn:aws:acm:'),
        ("eks.load_balancer.certificate_arn", _CERTIFICATE, "eks.load_balancer.host_name is missing: clients check the certificate against it"),
        ("eks.load_balancer.host_name", "Model", '= "Model": must be a host\'s full name in lower case'),
        ("eks.load_balancer.host_name", "model.example.com", "host_name goes with certificate_arn: it is the name in the certificate"),
        ("eks.load_balancer.tls_policy", "old", '= "old": must be one of ELBSecurityPolicy-TLS13-1-2-2021-06'),
        ("eks.load_balancer.port", 0, "eks.load_balancer.port = 0: must be a port number, 1 to 65535"),
        ("eks.load_balancer", {**_TLS, "port": 80}, "eks.load_balancer.port = 80 is where HTTP is redirected from"),
        ("eks.load_balancer.idle_timeout_seconds", 4001, "= 4001: must be a whole number of seconds, 1 to 4000"),
        ("eks.load_balancer.access_logs", "yes", 'access_logs = "yes": must be true or false'),
        ("eks.load_balancer.waf", True, "eks.load_balancer.waf = true: must be a mapping of settings"),
        ("eks.load_balancer.waf", {"requests_per_5_minutes": 1}, "= 1: must be a whole number of requests, 10 or more"),
        ("eks.monitoring", {"retention_days": 0}, "eks.monitoring.retention_days = 0: must be a whole number, 1 or more"),
        ("eks.monitoring", {"alert_waiting_requests": 0}, "alert_waiting_requests = 0: must be a whole number, 1 or more"),
        ("eks.monitoring", {"alert_time_to_first_token_seconds": 601}, "= 601: must be a number of seconds above 0, up to 600"),
        ("eks.cloudwatch_observability", "no", 'eks.cloudwatch_observability = "no": must be true or false'),
        ("aws.budget", {"monthly_usd": 10}, "aws.budget.alert_emails is missing: must be a list of 1 to 10 e-mail addresses"),
        ("aws.budget", {"monthly_usd": 0, "alert_emails": ["a@b.co"]}, "aws.budget.monthly_usd = 0: must be a whole number, 1 or more"),
        ("aws.budget", {"monthly_usd": 9, "alert_emails": []}, "aws.budget.alert_emails = []: must be a list of 1 to 10 e-mail addresses"),
        ("aws.budget", {"monthly_usd": 9, "alert_emails": ["x"]}, 'aws.budget.alert_emails[0] = "x": must be a list of 1 to 10'),
        ("model.weights", "ftp", 'model.weights = "ftp": must be one of hub, image'),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_named_with_what_is_allowed(path: str, value: Any, said: str) -> None:
    assert_said(path, value, said)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("eks.network", {"existing": _VPC}),
        ("eks.network", {"flow_logs": {}, "interface_endpoints": True}),
        ("eks.api.allowed_cidrs", []),
        ("eks.addon_versions", {"coredns": "v1.12.4-eksbuild.1"}),
        ("eks.gpu_node_groups", {"block": _BLOCK, "gpu": {"instance_types": ["g6.xlarge"]}}),
        ("eks.gpu_node_groups", {"gpu": {"instance_types": ["g6.xlarge"], "warm_pool": {}, "zone_index": 1}}),
        ("eks.load_balancer", {**_TLS, "internal": False, "allowed_cidrs": ["0.0.0.0/0"]}),
        ("eks.s3_weights", {}),
        ("eks.monitoring", {}),
        ("aws.budget", {"monthly_usd": 9, "alert_emails": ["a@b.co"]}),
    ],
)
def test_a_right_setting_is_taken(path: str, value: Any) -> None:
    assert loaded(edited(path, value)).stack == "dev"


def test_replicas_by_load_need_who_measures_the_load() -> None:
    config = edited("eks.autoscaling", {"max_replicas": 1})
    del config["berth:eks"]["replicas"]
    assert "eks.autoscaling needs eks.monitoring: replicas follow vLLM's queue" in problems(config)[0]
    config["berth:eks"]["monitoring"] = {}
    assert loaded(config).require_eks().most_replicas == 1
    config["berth:eks"]["autoscaling"]["max_replicas"] = 2
    assert "eks.autoscaling.max_replicas = 2 is more than fit" in problems(config)[0]


def test_the_sandbox_has_no_charts() -> None:
    config = edited("eks.monitoring", {}, "local")
    assert (
        "eks.monitoring: the sandbox has no registry of charts"
        in problems(config, "stacks/Pulumi.local.yaml")[0]
    )


def test_weights_come_from_one_place() -> None:
    config = edited("eks.s3_weights", {})
    config["berth:model"]["weights"] = "image"
    assert 'eks.s3_weights goes with model.weights "hub"' in problems(config)[0]


def test_machines_that_nobody_starts_are_no_room() -> None:
    config = edited(f"{_GPU}.max", 9)
    config["berth:eks"]["replicas"] = 2
    assert "eks.gpu_node_groups with their desired hold 1" in problems(config)[0]
    config["berth:eks"]["gpu_node_groups"]["gpu"]["desired"] = 2
    assert loaded(config).require_eks().replicas == 2
    config["berth:eks"]["surge"] = True
    assert "needs room for one more than eks.replicas = 2" in problems(config)[0]


def test_machines_that_the_autoscaler_may_start_are_room() -> None:
    config = edited(f"{_GPU}.max", 2)
    config["berth:eks"].update(replicas=2, cluster_autoscaler=True)
    assert loaded(config).require_eks().replicas == 2
    config["berth:eks"]["replicas"] = 3
    assert "eks.gpu_node_groups with their max hold 2" in problems(config)[0]


def test_all_groups_together_are_the_room() -> None:
    group = {"instance_types": ["g6.xlarge"]}
    config = edited("eks.gpu_node_groups", {"one": group, "other": group})
    config["berth:eks"]["replicas"] = 2
    assert loaded(config).require_eks().replicas == 2


def test_the_stack_local_has_room_for_two_replicas() -> None:
    read = loaded(edited("eks.replicas", 2, "local"), "stacks/Pulumi.local.yaml")
    assert read.require_eks().replicas == 2


@pytest.mark.parametrize(
    ("cidr", "zones", "nat", "fits"),
    [
        ("10.0.0.0/20", 3, "single", False),
        ("10.0.0.0/20", 2, "per_zone", False),
        ("10.0.0.0/20", 3, "none", True),
        ("10.0.0.0/19", 3, "per_zone", True),
    ],
)
def test_a_network_has_room_for_its_subnets(cidr: str, zones: int, nat: str, fits: bool) -> None:
    config = edited("eks.network", {"vpc_cidr": cidr, "zones": zones, "nat": nat})
    if fits:
        assert loaded(config).require_eks().network.vpc_cidr == cidr
        return
    assert "must be /19 or larger" in problems(config)[0]


def test_classification_is_not_let_out_of_the_network() -> None:
    config = edited("model.task", "classify")
    config["berth:eks"]["load_balancer"] = {"internal": False, "allowed_cidrs": ["203.0.113.0/24"]}
    assert "asks no key at /classify" in problems(config)[0]


def test_bfloat16_on_a_gpu_without_it() -> None:
    found = problems(edited(f"{_GPU}.instance_types", ["g4dn.xlarge"]))
    assert 'berth:model.dtype = "bfloat16": nvidia-t4' in found[0]


def test_a_principal_has_one_entry() -> None:
    config = edited("eks.admin_principal_arns", [_ARN])
    config["berth:eks"]["viewer_principal_arns"] = [_ARN]
    assert f"eks.admin_principal_arns has {_ARN} twice" in problems(config)[0]
