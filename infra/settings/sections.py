"""The sections of a stack file with their defaults: the only place where a default is said."""

from __future__ import annotations

import ipaddress
from collections import Counter
from typing import Annotated, Literal, get_args

from pydantic import Field

from infra.gpus import INSTANCE_GPUS
from infra.settings.vocabulary import (
    AccountId,
    Allowed,
    Cidrs,
    CommitId,
    Count,
    CudaVersion,
    DiskGib,
    DrainSeconds,
    Environment,
    Flag,
    Fraction,
    ImageDigest,
    KubernetesVersion,
    MemoryGib,
    Milliseconds,
    ModelName,
    Owner,
    Port,
    Positive,
    PrincipalArns,
    Region,
    Seconds,
    Section,
    ServedName,
    SomeTexts,
    Texts,
    Tokens,
    VpcCidr,
)

Target = Literal["eks", "runpod"]
Task = Literal["generate", "embed", "score", "classify", "transcribe"]
Dtype = Literal["auto", "bfloat16", "float16", "float32"]
Quantization = Literal[
    "awq",
    "awq_marlin",
    "gptq",
    "gptq_marlin",
    "fp8",
    "compressed-tensors",
    "modelopt",
    "modelopt_fp4",
    "mxfp4",
    "torchao",
]
LogType = Literal["api", "audit", "authenticator", "controllerManager", "scheduler"]
# RunPod's pools of GPUs; source: RunPod's documentation, "GPU types".
GpuPool = Literal[
    "AMPERE_16",
    "AMPERE_24",
    "ADA_24",
    "ADA_32_PRO",
    "AMPERE_48",
    "ADA_48_PRO",
    "AMPERE_80",
    "ADA_80_PRO",
    "HOPPER_141",
    "BLACKWELL_96",
    "BLACKWELL_180",
]

SUBNET_PREFIX = 22
"""The size of every subnet: 1019 addresses, for every pod has one."""

_OTHER_PARTITIONS = ("cn-", "us-gov-", "us-iso", "eu-isoe-")

_HALF_PRECISION_ONLY = ("awq", "gptq")  # the kernels of both multiply in float16


class ModelSettings(Section):
    """Which model is served, and as what."""

    name: ModelName
    revision: CommitId
    served_name: ServedName | None = Field(
        default=None, description="the model's name in requests; else `name`"
    )
    task: Task = "generate"
    max_model_len: Tokens
    dtype: Dtype = "auto"
    quantization: Quantization | None = None
    trust_remote_code: Flag = False

    def problems(self) -> list[tuple[str, str]]:
        """Return combinations of number formats that vLLM has no kernels for."""
        if self.quantization is None or self.dtype in ("auto", "float16"):
            return []
        if self.dtype == "float32" or self.quantization in _HALF_PRECISION_ONLY:
            return [
                ("dtype", f'"{self.dtype}" does not go with quantization "{self.quantization}": use "auto"')
            ]
        return []


class ServingSettings(Section):
    """How vLLM serves the model, on every platform alike."""

    gpu_memory_utilization: Fraction = 0.9
    tensor_parallel_size: Positive = 1
    max_num_seqs: Positive | None = None
    max_num_batched_tokens: Tokens | None = None
    max_queued_requests: Positive | None = Field(
        default=None, description="beyond it vLLM answers 503 at once"
    )
    enable_prefix_caching: Flag = True
    enforce_eager: Flag = False
    extra_args: Texts = ()
    environment: Environment = Field(default_factory=dict)
    startup_timeout_seconds: Seconds = 1800
    drain_seconds: DrainSeconds = Field(
        default=120,
        description="from the notice to stop until the process is gone, requests in flight included",
    )


class ImageSettings(Section):
    """Where the container image comes from."""

    builder: Literal["codebuild", "prebuilt"] = "codebuild"
    reference: ImageDigest | None = Field(default=None, description="the image when it is prebuilt")
    build_timeout_minutes: Annotated[
        int, Field(ge=5, le=480), Allowed("a whole number of minutes, 5 to 480")
    ] = 60

    def problems(self) -> list[tuple[str, str]]:
        """Return a reference without its builder, or a builder without its reference."""
        if self.builder == "prebuilt" and self.reference is None:
            return [("reference", 'is missing: builder "prebuilt" needs the image by digest')]
        if self.builder == "codebuild" and self.reference is not None:
            return [("reference", 'goes with builder "prebuilt" only')]
        return []


class AwsSettings(Section):
    """The AWS account and region that hold the image, and the cluster if there is one."""

    region: Region
    account_id: AccountId | None = Field(default=None, description="refuse every other account")
    owner: Owner

    def problems(self) -> list[tuple[str, str]]:
        """Return regions that are not of the partition whose ARNs this program writes."""
        if not self.region.startswith(_OTHER_PARTITIONS):
            return []
        return [
            (
                "region",
                (
                    f'= "{self.region}" is of another partition of AWS: policies and roles are named by ARNs '
                    "that begin with arn:aws:, which it does not know"
                ),
            )
        ]


class NetworkSettings(Section):
    """The cluster's own network."""

    vpc_cidr: VpcCidr = "10.64.0.0/16"
    zones: Annotated[int, Field(ge=2, le=3), Allowed("2 or 3 availability zones")] = 2
    nat: Literal["none", "single", "per_zone"] = "single"

    def problems(self) -> list[tuple[str, str]]:
        """Return a network that is too small for its subnets: one for each zone, two with NAT."""
        length = ipaddress.IPv4Network(self.vpc_cidr).prefixlen
        needed = self.zones * (1 if self.nat == "none" else 2)
        there: int = 2 ** (SUBNET_PREFIX - length)
        if needed <= there:
            return []
        return [
            (
                "vpc_cidr",
                (
                    f'= "{self.vpc_cidr}" has room for {there} subnets of /{SUBNET_PREFIX}, and {self.zones} '
                    f'zones with nat "{self.nat}" need {needed}: must be /{length - 1} or larger'
                ),
            )
        ]


class NodeSettings(Section):
    """A managed node group: its machines and how many of them."""

    instance_types: SomeTexts
    desired: Count = 1
    min: Count = 0
    max: Positive = 1

    def problems(self) -> list[tuple[str, str]]:
        """Return sizes that are out of order."""
        if self.min <= self.desired <= self.max:
            return []
        return [
            ("desired", f"= {self.desired} must be between min ({self.min}) and max ({self.max})"),
        ]


class SystemNodeSettings(NodeSettings):
    """CPU machines for what runs the cluster itself."""

    instance_types: SomeTexts = ("t3.large",)
    desired: Count = 2
    min: Count = 1
    max: Positive = 3
    disk_gib: DiskGib = 50


class GpuNodeSettings(NodeSettings):
    """GPU machines for the model."""

    capacity_type: Literal["ON_DEMAND", "SPOT"] = "ON_DEMAND"
    disk_gib: DiskGib = 200  # the image is 25 GiB unpacked, and the old one stays during a rollout

    def problems(self) -> list[tuple[str, str]]:
        """Return machines without a known GPU, or with GPUs of several kinds."""
        found = super().problems()
        unknown = [name for name in self.instance_types if name not in INSTANCE_GPUS]
        if unknown:
            found.append(
                (
                    "instance_types",
                    f"{', '.join(unknown)}: must be of those with known GPUs: {', '.join(INSTANCE_GPUS)}",
                )
            )
        models = sorted({INSTANCE_GPUS[name].model for name in self.instance_types if name not in unknown})
        if len(models) > 1:
            found.append(("instance_types", f"mix {' and '.join(models)}: one group has one kind of GPU"))
        return found


class PodSettings(Section):
    """What one replica asks of its node, besides GPUs; the memory holds the weights while they load."""

    cpu_millicores: Positive = 2000
    memory_gib: MemoryGib = 12


class LoadBalancerSettings(Section):
    """The load balancer in front of the model service."""

    internal: Flag = True
    port: Port = 80
    allowed_cidrs: Cidrs = Field(default=(), description="who may connect; empty: the network of the cluster")
    idle_timeout_seconds: Annotated[
        int, Field(ge=1, le=4000), Allowed("a whole number of seconds, 1 to 4000")
    ] = 300

    def problems(self) -> list[tuple[str, str]]:
        """Return load balancers that the whole internet reaches over plain HTTP."""
        if not self.internal and not self.allowed_cidrs:
            return [("allowed_cidrs", "is missing: a load balancer that is not internal needs it")]
        if "0.0.0.0/0" in self.allowed_cidrs:
            return [("allowed_cidrs", 'has "0.0.0.0/0": must name networks, the port speaks plain HTTP')]
        return []


class EksSettings(Section):
    """The EKS cluster and what runs on it."""

    kubernetes_version: KubernetesVersion = "1.35"
    network: NetworkSettings = NetworkSettings()
    api_allowed_cidrs: Annotated[Cidrs, Field(min_length=1)] = Field(
        description="from where the cluster's API can be reached, besides its own network"
    )
    admin_principal_arns: PrincipalArns = ()
    control_plane_logs: Annotated[
        tuple[LogType, ...],
        Allowed("a list of api, audit, authenticator, controllerManager, scheduler"),
    ] = ("api", "audit", "authenticator")
    log_retention_days: Annotated[
        Literal[1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731],
        Allowed("a number of days that CloudWatch knows: 1, 3, 5, 7, 14, 30, 60, 90, 120, ... 731"),
    ] = 30
    deletion_protection: Flag = Field(
        default=False,
        description="refuse to delete the cluster and its load balancer, and so to destroy the stack",
    )
    system_nodes: SystemNodeSettings = SystemNodeSettings()
    gpu_nodes: GpuNodeSettings
    replicas: Positive = 1
    surge: Flag = Field(default=False, description="a rollout may use a GPU more than the replicas have")
    pod: PodSettings = PodSettings()
    load_balancer: LoadBalancerSettings = LoadBalancerSettings()

    def problems(self) -> list[tuple[str, str]]:
        """Return administrators that are named twice: a principal has one access entry in a cluster."""
        twice = [arn for arn, count in Counter(self.admin_principal_arns).items() if count > 1]
        return [("admin_principal_arns", f"has {arn} twice: must name each once") for arn in twice]


class RunpodSettings(Section):
    """The RunPod serverless endpoint."""

    endpoint_type: Literal["LOAD_BALANCER"] = "LOAD_BALANCER"
    gpu_pools: Annotated[
        tuple[GpuPool, ...],
        Field(min_length=1),
        Allowed(f"a list of one pool or more of {', '.join(get_args(GpuPool))}"),
    ]
    gpu_count: Positive = 1
    excluded_gpu_types: Texts = ()
    min_cuda_version: CudaVersion = "13.0"  # what vLLM's image is built for
    workers_min: Count = 0
    workers_max: Positive = 1
    idle_timeout_seconds: Annotated[
        int, Field(ge=1, le=3600), Allowed("a whole number of seconds, 1 to 3600")
    ] = 60
    request_count: Positive | None = Field(
        default=None, description="requests in flight per worker before another worker starts"
    )
    disk_gib: DiskGib = 60
    data_center_ids: Texts = ()
    flashboot: Literal["OFF", "FLASHBOOT", "PRIORITY_FLASHBOOT"] = "FLASHBOOT"
    timeout_ms: Milliseconds = 330_000

    def problems(self) -> list[tuple[str, str]]:
        """Return what RunPod would refuse."""
        found = []
        if self.workers_min > self.workers_max:
            found.append(
                ("workers_min", f"= {self.workers_min} must be workers_max ({self.workers_max}) or less")
            )
        if self.request_count is None:
            found.append(("request_count", f'is missing: endpoint_type "{self.endpoint_type}" scales by it'))
        return found


class SandboxSettings(Section):
    """The clouds of the stack `local`, on this machine."""

    loopback_block: Annotated[
        int, Field(ge=0, le=250), Allowed("the second number of a loopback network 127.x.0.0/16, 0 to 250")
    ]
