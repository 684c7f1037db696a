# ruff: noqa: D102, N803  # the methods are AWS's operations, with the names of their parameters
"""The operations on managed node groups."""

from __future__ import annotations

import hashlib
from typing import Any

from moto.ec2.models import ec2_backends
from moto.ec2.models.instance_types import INSTANCE_TYPES
from moto.moto_api._internal import mock_random

from sandbox.aws.eks import catalogue, instances, userdata
from sandbox.aws.eks.access import Access
from sandbox.aws.eks.base import page
from sandbox.aws.eks.state import Cluster, Nodegroup
from sandbox.aws.errors import AwsError

_KEPT = ("remoteAccess", "nodeRepairConfig", "warmPoolConfig", "taints", "launchTemplate")


class Nodegroups(Access):
    """Managed node groups."""

    def create_nodegroup(
        self, clusterName: str, nodegroupName: str, subnets: list[str], nodeRole: str, **options: Any
    ) -> dict[str, Any]:
        cluster = self.active_cluster(clusterName)
        if nodegroupName in cluster.nodegroups:
            raise AwsError(
                "ResourceInUseException",
                f"NodeGroup already exists with name {nodegroupName} and cluster name {clusterName}",
            )
        if len(nodegroupName) > 63:
            raise self.invalid("nodegroupName can't be longer than 63 characters")
        if not subnets:
            raise self.invalid("Subnets can't be empty")
        if {subnet.vpc_id for subnet in self.subnets_of(subnets)} != {
            cluster.data["resourcesVpcConfig"]["vpcId"]
        }:
            raise self.invalid("Subnets must belong to the VPC of the cluster")
        self.check_role(nodeRole, "ec2.amazonaws.com")
        scaling = _scaling(options.get("scalingConfig", {}))
        self._check_scaling(scaling)
        template = self._template(options)
        types = self._instance_types(options, template)
        ami_type = self._ami_type(options, template, types)
        self._check_capacity(options, template, ami_type)
        version = options.get("version", cluster.data["version"])
        self._check_version(cluster, version)
        now = self.cloud.now()
        data: dict[str, Any] = {
            "nodegroupName": nodegroupName,
            "nodegroupArn": self.arn(f"nodegroup/{clusterName}/{nodegroupName}/{mock_random.uuid4()}"),
            "clusterName": clusterName,
            "version": version,
            "releaseVersion": self._release(ami_type, version, options.get("releaseVersion")),
            "createdAt": now,
            "modifiedAt": now,
            "status": "CREATING",
            "capacityType": options.get("capacityType", "ON_DEMAND"),
            "scalingConfig": scaling,
            "subnets": subnets,
            "amiType": ami_type,
            "nodeRole": nodeRole,
            "labels": options.get("labels", {}),
            "resources": {},
            "health": {"issues": []},
            "updateConfig": self._update_config(options.get("updateConfig", {})),
            "tags": options.get("tags", {}),
            **{key: options[key] for key in _KEPT if key in options},
        }
        if template is None or "InstanceType" not in template:
            data["instanceTypes"] = types
        if template is None:
            data["diskSize"] = options.get("diskSize", 20)
        else:
            data["launchTemplate"] = self._resolved(options["launchTemplate"])
        nodegroup = Nodegroup(data, self.region)
        user_data = (template or {}).get("UserData")
        fault = userdata.fault_of(user_data, ami_type) if user_data else None
        if fault is not None:  # EKS finds out after it has accepted the node group
            data["status"] = "CREATE_FAILED"
            data["health"] = {
                "issues": [{"code": fault[0], "message": fault[1], "resourceIds": [nodegroupName]}]
            }
        nodegroup.template_id = instances.create_template(
            self.region, cluster, data, _template_data(data, template, types[0])
        )
        cluster.nodegroups[nodegroupName] = nodegroup
        has_entries = cluster.data["accessConfig"]["authenticationMode"] != "CONFIG_MAP"
        if has_entries and nodeRole not in cluster.access_entries:
            self.make_access_entry(cluster, nodeRole, "EC2_LINUX", [], None, {})
        return {"nodegroup": data}

    def _check_version(self, cluster: Cluster, version: str) -> None:
        if version not in catalogue.VERSIONS or version > cluster.data["version"]:
            raise self.invalid(
                "Nodegroup Kubernetes version should be equal to or less than the cluster version "
                f"{cluster.data['version']}"
            )

    def _release(self, ami_type: str, version: str, wanted: str | None) -> str:
        """Return the release of the machine image: the one asked for, or the newest."""
        if ami_type == "CUSTOM":
            return ""
        releases = catalogue.node_releases(ami_type, version)
        if wanted is not None and wanted not in releases:
            raise self.invalid(
                f"Requested release version {wanted} is not valid for kubernetes version {version}."
            )
        return wanted or releases[0]

    def _update_config(self, wanted: dict[str, Any]) -> dict[str, Any]:
        if {"maxUnavailable", "maxUnavailablePercentage"} <= wanted.keys():
            raise self.invalid("You can specify only one of maxUnavailable and maxUnavailablePercentage.")
        limit = {} if "maxUnavailablePercentage" in wanted else {"maxUnavailable": 1}
        return {**limit, "updateStrategy": "DEFAULT", **wanted}

    def _check_capacity(
        self, options: dict[str, Any], template: dict[str, Any] | None, ami_type: str
    ) -> None:
        """Refuse what does not go with a capacity type.

        The rules of capacity blocks: https://docs.aws.amazon.com/eks/latest/userguide/capacity-blocks-mng.html
        """
        kind = options.get("capacityType", "ON_DEMAND")
        data = template or {}
        market = data.get("InstanceMarketOptions", {}).get("MarketType")
        if kind != "CAPACITY_BLOCK":
            if market is not None:
                raise self.invalid("Instance market options are not supported with the launch template.")
        elif market != "capacity-block":
            raise self.invalid(
                "Launch template must specify the market type capacity-block in its instance market options "
                "for the capacity type CAPACITY_BLOCK."
            )
        elif "InstanceType" not in data:
            raise self.invalid(
                "Launch template must specify an instance type for the capacity type CAPACITY_BLOCK."
            )
        elif not data.get("CapacityReservationSpecification", {}).get("CapacityReservationTarget"):
            raise self.invalid(
                "Launch template must specify a capacity reservation target for the capacity type "
                "CAPACITY_BLOCK."
            )
        if "warmPoolConfig" not in options:
            return
        if kind != "ON_DEMAND":
            raise self.invalid(f"Warm pools are not supported with the capacity type {kind}.")
        if ami_type == "CUSTOM":
            raise self.invalid("Warm pools are not supported with custom AMIs.")
        if options["warmPoolConfig"].get("reuseOnScaleIn") and ami_type.startswith("BOTTLEROCKET"):
            raise self.invalid("Warm pool reuse on scale-in is not supported with Bottlerocket AMIs.")

    def _check_scaling(self, scaling: dict[str, int]) -> None:
        low, desired, high = scaling["minSize"], scaling["desiredSize"], scaling["maxSize"]
        if high < 1:
            raise self.invalid("Maximum capacity must be greater than 0")
        if low > desired:
            raise self.invalid(f"Minimum capacity {low} can't be greater than desired size {desired}")
        if desired > high:
            raise self.invalid(f"desired capacity {desired} can't be greater than max size {high}")

    def _resolved(self, wanted: dict[str, str]) -> dict[str, str]:
        ec2 = ec2_backends[self.account_id][self.region]
        template = next(
            each
            for each in ec2.launch_templates.values()
            if wanted.get("id") == each.id or wanted.get("name") == each.name
        )
        version = template.get_version(wanted.get("version", "$Default"))
        return {"id": template.id, "name": template.name, "version": str(version.number)}

    def _template(self, options: dict[str, Any]) -> dict[str, Any] | None:
        wanted = options.get("launchTemplate")
        if wanted is None:
            return None
        if bool(wanted.get("id")) == bool(wanted.get("name")):
            raise self.invalid("You must specify either the launch template ID or the launch template name")
        ec2 = ec2_backends[self.account_id][self.region]
        for template in ec2.launch_templates.values():
            if wanted.get("id") == template.id or wanted.get("name") == template.name:
                break
        else:
            raise self.invalid(
                "Launch template details can't be found: " + str(wanted.get("id") or wanted["name"])
            )
        try:
            data = _plain(template.get_version(wanted.get("version", "$Default")).data)
        except (ValueError, IndexError) as error:
            raise self.invalid(f"Launch template version {wanted['version']} can't be found") from error
        if "diskSize" in options:
            raise self.invalid("Disk size must be specified within the launch template.")
        if "remoteAccess" in options:
            raise self.invalid("Remote access configuration cannot be specified with a launch template.")
        if "instanceTypes" in options and "InstanceType" in data:
            raise self.invalid(
                "You cannot specify an instance type in both the launch template and the API request."
            )
        if "SubnetId" in str(data.get("NetworkInterfaces", "")):
            raise self.invalid(
                "Launch template should not specify subnet. It should be specified in the API."
            )
        if data.get("IamInstanceProfile"):
            raise self.invalid(
                "Launch template should not specify an instance profile. "
                "The noderole in your request will be used."
            )
        if data.get("ImageId") and options.keys() & {"amiType", "version", "releaseVersion"} - {"amiType"}:
            raise self.invalid(
                "You cannot specify the field version or releaseVersion when using custom AMIs."
            )
        return data

    def _instance_types(self, options: dict[str, Any], template: dict[str, Any] | None) -> list[str]:
        default = (template or {}).get("InstanceType") or "t3.medium"
        types: list[str] = options.get("instanceTypes") or [default]
        unknown = [each for each in types if each not in INSTANCE_TYPES]
        if unknown:
            raise self.invalid(f"The following supplied instance types do not exist: [{', '.join(unknown)}]")
        return types

    def _ami_type(self, options: dict[str, Any], template: dict[str, Any] | None, types: list[str]) -> str:
        if (template or {}).get("ImageId"):
            if options.get("amiType", "CUSTOM") != "CUSTOM":
                raise self.invalid(
                    "You cannot specify an AMI Type other than CUSTOM, when specifying an image id in your "
                    "launch template."
                )
            return "CUSTOM"
        kind: str = options.get("amiType", "AL2023_x86_64_STANDARD")
        if kind == "CUSTOM":
            raise self.invalid(
                "You must specify an image ID in your launch template when the AMI type is CUSTOM."
            )
        architecture = "arm64" if "ARM_64" in kind else "x86_64"
        for each in types:
            found = INSTANCE_TYPES[each]
            fits = architecture in found["ProcessorInfo"]["SupportedArchitectures"]
            if ("NVIDIA" in kind or kind.endswith("GPU")) and not instances.gpu_count(each):
                fits = False
            if not fits:
                raise self.invalid(f"[{each}] is not a valid instance type for requested amiType {kind}")
        return kind

    def describe_nodegroup(self, clusterName: str, nodegroupName: str) -> dict[str, Any]:
        nodegroup = self.nodegroup_of(clusterName, nodegroupName)
        return {"nodegroup": {**nodegroup.data, "scalingConfig": instances.scaling(nodegroup)}}

    def list_nodegroups(self, clusterName: str, **_: Any) -> dict[str, Any]:
        return page("nodegroups", list(self.cluster_of(clusterName).nodegroups))

    def delete_nodegroup(self, clusterName: str, nodegroupName: str) -> dict[str, Any]:
        nodegroup = self.nodegroup_of(clusterName, nodegroupName)
        nodegroup.data["status"] = "DELETING"
        instances.empty(nodegroup)
        return {"nodegroup": nodegroup.data}

    def _idle(self, cluster_name: str, name: str) -> tuple[Cluster, Nodegroup]:
        cluster, nodegroup = self.active_cluster(cluster_name), self.nodegroup_of(cluster_name, name)
        if nodegroup.data["status"] not in {"ACTIVE", "DEGRADED"}:
            raise AwsError(
                "ResourceInUseException",
                f"Nodegroup cannot be updated as it is currently not in Active State: "
                f"{nodegroup.data['status']}",
            )
        return cluster, nodegroup

    def update_nodegroup_config(self, clusterName: str, nodegroupName: str, **changes: Any) -> dict[str, Any]:
        changes.pop("clientRequestToken", None)
        cluster, nodegroup = self._idle(clusterName, nodegroupName)
        data = nodegroup.data
        if "scalingConfig" in changes:
            scaling = {**instances.scaling(nodegroup), **changes["scalingConfig"]}
            self._check_scaling(scaling)
            data["scalingConfig"] = scaling
            instances.scale(nodegroup)
        if "labels" in changes:
            data["labels"] = {
                **{
                    key: value
                    for key, value in data["labels"].items()
                    if key not in changes["labels"].get("removeLabels", [])
                },
                **changes["labels"].get("addOrUpdateLabels", {}),
            }
        if "taints" in changes:
            data["taints"] = _merge_taints(data.get("taints", []), changes["taints"])
        if "updateConfig" in changes:
            data["updateConfig"] = self._update_config(changes["updateConfig"])
        for key in ("nodeRepairConfig", "warmPoolConfig"):
            if key in changes:
                data[key] = changes[key]
        data["status"], data["modifiedAt"] = "UPDATING", self.cloud.now()
        update = self.start_update(cluster, "ConfigUpdate", changes, done=False)
        return {"update": {**update, "params": update["params"]}}

    def update_nodegroup_version(
        self, clusterName: str, nodegroupName: str, **changes: Any
    ) -> dict[str, Any]:
        cluster, nodegroup = self._idle(clusterName, nodegroupName)
        data = nodegroup.data
        if "launchTemplate" in changes:
            if "launchTemplate" not in data:
                raise self.invalid(
                    "A launch template can't be given to a node group that was made without one"
                )
            template = self._template({"launchTemplate": changes["launchTemplate"]})
            data["launchTemplate"] = self._resolved(changes["launchTemplate"])
            types = data.get("instanceTypes") or self._instance_types({}, template)
            instances.update_template(nodegroup, _template_data(data, template, types[0]))
        version = changes.get("version", data["version"])
        self._check_version(cluster, version)
        if data["amiType"] != "CUSTOM" and changes.keys() & {"version", "releaseVersion"}:
            data["releaseVersion"] = self._release(data["amiType"], version, changes.get("releaseVersion"))
        data["version"] = version
        data["status"], data["modifiedAt"] = "UPDATING", self.cloud.now()
        nodegroup.outdated = instances.running(nodegroup)
        params: dict[str, Any] = {
            key: changes[key] for key in ("version", "releaseVersion", "launchTemplate") if key in changes
        }
        return {"update": self.start_update(cluster, "VersionUpdate", params, done=False)}


def _plain(data: dict[str, Any]) -> dict[str, Any]:
    """Return what a launch template says, without the type that moto has for user data."""
    return {key: str(value) if key == "UserData" and value else value for key, value in data.items()}


def _scaling(wanted: dict[str, int]) -> dict[str, int]:
    low = wanted.get("minSize", 1)
    desired = wanted.get("desiredSize", max(low, 2 if "minSize" not in wanted else low))
    return {"minSize": low, "maxSize": wanted.get("maxSize", max(2, desired)), "desiredSize": desired}


def _merge_taints(current: list[dict[str, str]], change: dict[str, Any]) -> list[dict[str, str]]:
    def key(taint: dict[str, str]) -> tuple[str, str]:
        return taint["key"], taint["effect"]

    removed = {key(taint) for taint in change.get("removeTaints", [])}
    merged = {key(taint): taint for taint in current if key(taint) not in removed}
    merged.update({key(taint): taint for taint in change.get("addOrUpdateTaints", [])})
    return list(merged.values())


def _template_data(
    data: dict[str, Any], template: dict[str, Any] | None, instance_type: str
) -> dict[str, Any]:
    """Return what EKS writes into the launch template of its own: the user's, completed."""
    made = dict(template or {})
    if template is None:
        made["BlockDeviceMappings"] = [
            {"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": data["diskSize"], "VolumeType": "gp3"}}
        ]
    release = hashlib.sha256(f"{data['amiType']}:{data['releaseVersion']}".encode()).hexdigest()[:17]
    made.setdefault("ImageId", f"ami-{release}")
    made.setdefault("InstanceType", instance_type)
    return made
