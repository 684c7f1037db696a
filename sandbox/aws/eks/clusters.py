# ruff: noqa: D102, N803  # the methods are AWS's operations, with the names of their parameters
"""The operations on clusters, their updates and tags."""

from __future__ import annotations

import re
from typing import Any

from moto.ec2.models import ec2_backends
from moto.moto_api._internal import mock_random

from sandbox.aws.eks import catalogue
from sandbox.aws.eks.base import EksBase, page
from sandbox.aws.eks.state import Cluster
from sandbox.aws.errors import AwsError
from sandbox.aws.rules_kms import find_key

_NAME = re.compile(r"[0-9A-Za-z][A-Za-z0-9_-]{0,99}")
_LOG_TYPES = ["api", "audit", "authenticator", "controllerManager", "scheduler"]
_KEPT = (
    "computeConfig",
    "encryptionConfig",
    "kubeApiServerConfig",
    "kubeControllerManagerConfig",
    "kubeSchedulerConfig",
    "remoteNetworkConfig",
    "storageConfig",
)


class Clusters(EksBase):
    """Clusters."""

    def create_cluster(
        self, name: str, roleArn: str, resourcesVpcConfig: dict[str, Any], **options: Any
    ) -> dict[str, Any]:
        if not _NAME.fullmatch(name):
            raise self.invalid(
                "The name can contain only alphanumeric characters (case-sensitive), hyphens, and "
                "underscores. It must start with an alphanumeric character and can't be longer than 100 "
                "characters."
            )
        if name in self.state.clusters:
            raise AwsError("ResourceInUseException", f"Cluster already exists with name: {name}")
        version = options.get("version", catalogue.DEFAULT_VERSION)
        if version not in catalogue.VERSIONS:
            raise self.invalid("unsupported Kubernetes version")
        self.check_role(roleArn, "eks.amazonaws.com")
        self._check_encryption(options.get("encryptionConfig", []))
        numbers = {cluster.number for cluster in self.state.clusters.values()}
        number = next(each for each in range(len(numbers) + 1) if each not in numbers)
        data: dict[str, Any] = {
            "name": name,
            "arn": self.arn(f"cluster/{name}"),
            "createdAt": self.cloud.now(),
            "version": version,
            "roleArn": roleArn,
            "kubernetesNetworkConfig": {
                "serviceIpv4Cidr": "10.100.0.0/16",
                "ipFamily": "ipv4",
                "elasticLoadBalancing": {"enabled": False},
                **options.get("kubernetesNetworkConfig", {}),
            },
            "logging": _logging({}, options.get("logging", {})),
            "identity": {
                "oidc": {
                    "issuer": f"https://oidc.eks.{self.region}.amazonaws.com/id/"
                    f"{mock_random.get_random_hex(32).upper()}"
                }
            },
            "status": "CREATING",
            "certificateAuthority": {},
            "platformVersion": "eks.7",
            "tags": options.get("tags", {}),
            "health": {"issues": []},
            "accessConfig": {
                "bootstrapClusterCreatorAdminPermissions": True,
                "authenticationMode": "CONFIG_MAP",
                **options.get("accessConfig", {}),
            },
            "upgradePolicy": {"supportType": "EXTENDED", **options.get("upgradePolicy", {})},
            "zonalShiftConfig": {"enabled": False, **options.get("zonalShiftConfig", {})},
            "deletionProtection": options.get("deletionProtection", False),
            "controlPlaneScalingConfig": options.get("controlPlaneScalingConfig", {"tier": "standard"}),
            **{key: options[key] for key in _KEPT if key in options},
        }
        cluster = Cluster(data, self.region, number, self.caller)
        data["resourcesVpcConfig"] = self._network(cluster, resourcesVpcConfig)
        self.state.clusters[name] = cluster
        access = data["accessConfig"]
        if access["authenticationMode"] != "CONFIG_MAP" and access["bootstrapClusterCreatorAdminPermissions"]:
            self._admit_creator(cluster)
        return {"cluster": data}

    def _check_encryption(self, configs: list[dict[str, Any]]) -> None:
        if len(configs) > 1:
            raise self.invalid("Only one encryptionConfig is allowed.")
        for config in configs:
            arn = config.get("provider", {}).get("keyArn")
            if not arn:
                raise self.invalid("KeyArn is required")
            if config.get("resources") != ["secrets"]:
                raise self.invalid("Resources in encryptionConfig must be [secrets]")
            key = find_key(arn)
            if key is None or key.key_state != "Enabled" or key.key_spec != "SYMMETRIC_DEFAULT":
                raise self.invalid(
                    f"The keyArn {arn} in encryptionConfig is not of a symmetric KMS key that exists and is "
                    "enabled"
                )

    def _check_zones(self, name: str, subnets: list[Any]) -> None:
        zones = ec2_backends[self.account_id][self.region].describe_availability_zones()
        fit = [zone.name for zone in zones if zone.zone_id not in catalogue.ZONES_WITHOUT_CONTROL_PLANE]
        for subnet in subnets:
            if subnet.availability_zone not in fit:
                raise AwsError(
                    "UnsupportedAvailabilityZoneException",
                    f"Cannot create cluster '{name}' because {subnet.availability_zone}, the targeted "
                    "availability zone, does not currently have sufficient capacity to support the cluster. "
                    f"Retry and choose from these availability zones: {', '.join(fit)}",
                )

    def _network(self, cluster: Cluster, wanted: dict[str, Any]) -> dict[str, Any]:
        subnets = self.subnets_of(wanted.get("subnetIds", []))
        if len({subnet.availability_zone for subnet in subnets}) < 2:
            raise self.invalid("Subnets specified must be in at least two different AZs")
        if len({subnet.vpc_id for subnet in subnets}) > 1:
            raise self.invalid("Subnets specified must belong to the same VPC")
        self._check_zones(cluster.name, subnets)
        ec2: Any = ec2_backends[self.account_id][self.region]
        groups = wanted.get("securityGroupIds", [])
        for group_id in groups:
            if ec2.get_security_group_from_id(group_id) is None:
                raise self.invalid(f"The security group '{group_id}' does not exist")
        public, private = wanted.get("endpointPublicAccess", True), wanted.get("endpointPrivateAccess", False)
        if not public and not private:
            raise self.invalid("Private and public endpoint access cannot be false")
        vpc_id = subnets[0].vpc_id
        group = ec2.create_security_group(
            f"eks-cluster-sg-{cluster.name}-{mock_random.randint(10**7, 10**10)}",
            "EKS created security group applied to ENI that is attached to EKS Control Plane master nodes, "
            "as well as any managed workloads.",
            vpc_id=vpc_id,
            tags={f"kubernetes.io/cluster/{cluster.name}": "owned", "aws:eks:cluster-name": cluster.name},
        )
        ec2.authorize_security_group_ingress(
            group.id, "-1", None, None, [], source_groups=[{"GroupId": group.id}], vpc_id=vpc_id
        )
        for subnet in subnets:
            interface = ec2.create_network_interface(
                subnet, None, group_ids=[group.id, *groups], description=f"Amazon EKS {cluster.name}"
            )
            interface.status = "in-use"
            interface.requester_managed = True
            cluster.interface_ids.append(interface.id)
        return {
            "subnetIds": wanted["subnetIds"],
            "securityGroupIds": groups,
            "clusterSecurityGroupId": group.id,
            "vpcId": vpc_id,
            "endpointPublicAccess": public,
            "endpointPrivateAccess": private,
            "publicAccessCidrs": wanted.get("publicAccessCidrs", ["0.0.0.0/0"]),
        }

    def _admit_creator(self, cluster: Cluster) -> None:
        now = self.cloud.now()
        cluster.access_entries[cluster.creator_arn] = {
            "clusterName": cluster.name,
            "principalArn": cluster.creator_arn,
            "kubernetesGroups": [],
            "accessEntryArn": self.arn(f"access-entry/{cluster.name}/{mock_random.uuid4()}"),
            "createdAt": now,
            "modifiedAt": now,
            "tags": {},
            "username": cluster.creator_arn,
            "type": "STANDARD",
        }
        policy = catalogue.POLICY_PREFIX + "AmazonEKSClusterAdminPolicy"
        cluster.access_policies[cluster.creator_arn] = {
            policy: {
                "policyArn": policy,
                "accessScope": {"type": "cluster", "namespaces": []},
                "associatedAt": now,
                "modifiedAt": now,
            }
        }

    def describe_cluster(self, name: str) -> dict[str, Any]:
        data = self.cluster_of(name).data
        return {"cluster": {**data, "health": {"issues": [*data["health"]["issues"], *_key_issues(data)]}}}

    def list_clusters(self, **_: Any) -> dict[str, Any]:
        return page(
            "clusters", [name for name, each in self.state.clusters.items() if each.region == self.region]
        )

    def delete_cluster(self, name: str) -> dict[str, Any]:
        cluster = self.cluster_of(name)
        if cluster.data["deletionProtection"]:
            raise AwsError(
                "InvalidRequestException",
                f"Cluster {name} has deletion protection enabled. Disable it before deleting the cluster.",
            )
        if cluster.nodegroups:
            raise AwsError("ResourceInUseException", "Cluster has nodegroups attached")
        if cluster.data["status"] == "UPDATING":
            raise AwsError(
                "ResourceInUseException",
                f"Cannot delete because cluster {name} currently has an update in progress",
            )
        cluster.data["status"] = "DELETING"
        return {"cluster": cluster.data}

    def update_cluster_config(self, name: str, **changes: Any) -> dict[str, Any]:
        changes.pop("clientRequestToken", None)
        cluster = self.cluster_of(name)
        if cluster.data["status"] != "ACTIVE":
            raise AwsError(
                "ResourceInUseException", f"Cannot perform update because cluster {name} is not ACTIVE"
            )
        if len(changes) != 1:
            raise self.invalid("Only one type of update can be allowed.")
        (key, value), data = next(iter(changes.items())), cluster.data
        if key == "accessConfig":
            self._update_access(data, value)
            kind = "AccessConfigUpdate"
        elif key == "logging":
            data["logging"] = _logging(data["logging"], value)
            kind = "LoggingUpdate"
        elif key == "resourcesVpcConfig":
            kind = self._update_network(cluster, value)
        elif key == "deletionProtection":
            data[key] = value
            kind = "DeletionProtectionUpdate"
        else:
            data[key] = {**data.get(key, {}), **value}
            kind = {
                "upgradePolicy": "UpgradePolicyUpdate",
                "zonalShiftConfig": "ZonalShiftConfigUpdate",
                "controlPlaneScalingConfig": "ControlPlaneScalingConfigUpdate",
                "remoteNetworkConfig": "RemoteNetworkConfigUpdate",
            }.get(key, "ConfigUpdate")
        return {"update": self.start_update(cluster, kind, {key: value}, done=True)}

    def _update_access(self, data: dict[str, Any], wanted: dict[str, Any]) -> None:
        order = ["CONFIG_MAP", "API_AND_CONFIG_MAP", "API"]
        mode, current = wanted["authenticationMode"], data["accessConfig"]["authenticationMode"]
        if order.index(mode) < order.index(current):
            raise self.invalid(f"Unsupported authentication mode update from {current} to {mode}")
        data["accessConfig"]["authenticationMode"] = mode

    def _update_network(self, cluster: Cluster, wanted: dict[str, Any]) -> str:
        network = cluster.data["resourcesVpcConfig"]
        if wanted.keys() & {"subnetIds", "securityGroupIds"}:
            if "subnetIds" in wanted:
                subnets = self.subnets_of(wanted["subnetIds"])
                if {subnet.vpc_id for subnet in subnets} != {network["vpcId"]}:
                    raise self.invalid("Provided subnets must belong to the same VPC as the cluster")
            network.update({key: wanted[key] for key in ("subnetIds", "securityGroupIds") if key in wanted})
            return "VpcConfigUpdate"
        merged = {**network, **wanted}
        if not merged["endpointPublicAccess"] and not merged["endpointPrivateAccess"]:
            raise self.invalid("Private and public endpoint access cannot be false")
        network.update(wanted)
        return "EndpointAccessUpdate"

    def update_cluster_version(self, name: str, version: str, **_: Any) -> dict[str, Any]:
        cluster = self.active_cluster(name)
        if version not in catalogue.VERSIONS:
            raise self.invalid("unsupported Kubernetes version")
        current = cluster.data["version"]
        if int(version.split(".")[1]) != int(current.split(".")[1]) + 1:
            raise self.invalid(f"Unsupported Kubernetes minor version update from {current} to {version}")
        cluster.data["version"] = version
        return {"update": self.start_update(cluster, "VersionUpdate", {"version": version}, done=True)}

    def describe_update(self, name: str, updateId: str, **_: Any) -> dict[str, Any]:
        update = self.cluster_of(name).updates.get(updateId)
        if update is None:
            raise AwsError("ResourceNotFoundException", f"No update found for ID: {updateId}")
        return {"update": update}

    def list_updates(self, name: str, **_: Any) -> dict[str, Any]:
        return page("updateIds", list(self.cluster_of(name).updates))

    def describe_cluster_versions(self, **filters: Any) -> dict[str, Any]:
        now = self.cloud.now()
        described = []
        for version, (released, standard_end, extended_end) in catalogue.VERSIONS.items():
            status = "STANDARD_SUPPORT" if now < standard_end else "EXTENDED_SUPPORT"
            described.append(
                {
                    "clusterVersion": version,
                    "clusterType": "eks",
                    "defaultPlatformVersion": "eks.7",
                    "defaultVersion": version == catalogue.DEFAULT_VERSION,
                    "releaseDate": released,
                    "endOfStandardSupportDate": standard_end,
                    "endOfExtendedSupportDate": extended_end,
                    "status": status.lower().replace("_", "-"),
                    "versionStatus": status,
                    "kubernetesPatchVersion": f"{version}.0",
                }
            )
        wanted, wanted_status = filters.get("clusterVersions"), filters.get("versionStatus")
        return page(
            "clusterVersions",
            [
                each
                for each in described
                if (not wanted or each["clusterVersion"] in wanted)
                and (not filters.get("defaultOnly") or each["defaultVersion"])
                and (not wanted_status or each["versionStatus"] == wanted_status)
            ],
        )

    def _tags_of(self, arn: str) -> dict[str, str]:
        for cluster in self.state.clusters.values():
            for data, key in (
                (cluster.data, "arn"),
                *((group.data, "nodegroupArn") for group in cluster.nodegroups.values()),
                *((addon, "addonArn") for addon in cluster.addons.values()),
                *((entry, "accessEntryArn") for entry in cluster.access_entries.values()),
                *((identity, "associationArn") for identity in cluster.pod_identities.values()),
            ):
                if data[key] == arn:
                    tags: dict[str, str] = data["tags"]
                    return tags
        raise AwsError("NotFoundException", f"No resource found for ARN: {arn}")

    def list_tags_for_resource(self, resourceArn: str) -> dict[str, Any]:
        return {"tags": self._tags_of(resourceArn)}

    def tag_resource(self, resourceArn: str, tags: dict[str, str]) -> None:
        self._tags_of(resourceArn).update(tags)

    def untag_resource(self, resourceArn: str, tagKeys: list[str]) -> None:
        held = self._tags_of(resourceArn)
        for key in tagKeys:
            held.pop(key, None)


def _key_issues(data: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what is wrong with the key that a cluster's secrets are encrypted by."""
    issues = []
    for config in data.get("encryptionConfig", []):
        arn = config["provider"]["keyArn"]
        state = getattr(find_key(arn), "key_state", "")
        if state != "Enabled":
            code = {"PendingDeletion": "KmsKeyMarkedForDeletion", "Disabled": "KmsKeyDisabled"}.get(
                state, "KmsKeyNotFound"
            )
            message = f"The KMS key {arn} of the cluster's encryption cannot be used"
            issues.append({"code": code, "message": message, "resourceIds": [arn]})
    return issues


def _logging(current: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    enabled = {
        kind
        for setup in current.get("clusterLogging", [])
        if setup["enabled"]
        for kind in setup.get("types", [])
    }
    for setup in wanted.get("clusterLogging", []):
        kinds = set(setup.get("types", []))
        enabled = enabled | kinds if setup.get("enabled") else enabled - kinds
    on = [kind for kind in _LOG_TYPES if kind in enabled]
    off = [kind for kind in _LOG_TYPES if kind not in enabled]
    return {
        "clusterLogging": [
            *([{"types": on, "enabled": True}] if on else []),
            *([{"types": off, "enabled": False}] if off else []),
        ]
    }
