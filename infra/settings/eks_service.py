"""Settings of the model in the cluster: its pods, where its weights come from, its load balancer."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from infra.settings.vocabulary import (
    Allowed,
    BucketName,
    CertificateArn,
    Cidrs,
    Flag,
    HostName,
    MemoryGib,
    Port,
    Positive,
    Section,
)


class PodSettings(Section):
    """What one replica asks of its node, besides GPUs; the memory holds the weights while they load."""

    cpu_millicores: Positive = 2000
    memory_gib: MemoryGib = 12
    cache_gib: MemoryGib = Field(
        default=100, description="of the machine's disk, for weights from the hub and compiled kernels"
    )


class S3WeightsSettings(Section):
    """Weights streamed from a bucket into the GPU by the Run:ai streamer."""

    bucket: BucketName | None = Field(
        default=None, description="an existing bucket; else one of the stack's own"
    )
    concurrency: Annotated[int, Field(ge=1, le=128), Allowed("a whole number of streams, 1 to 128")] = 16
    copy_timeout_minutes: Annotated[
        int, Field(ge=5, le=480), Allowed("a whole number of minutes, 5 to 480")
    ] = 120


class WafSettings(Section):
    """A web ACL in front of the load balancer."""

    requests_per_5_minutes: Annotated[
        int, Field(ge=10, le=2_000_000_000), Allowed("a whole number of requests, 10 or more")
    ] = 2000


class LoadBalancerSettings(Section):
    """The load balancer in front of the model service."""

    internal: Flag = True
    certificate_arn: CertificateArn | None = Field(
        default=None, description="serves HTTPS, and redirects HTTP to it; else plain HTTP"
    )
    host_name: HostName | None = Field(
        default=None, description="the name in the certificate, under which clients reach it"
    )
    tls_policy: Literal[
        "ELBSecurityPolicy-TLS13-1-2-2021-06",
        "ELBSecurityPolicy-TLS13-1-3-2021-06",
        "ELBSecurityPolicy-TLS13-1-2-Res-2021-06",
    ] = "ELBSecurityPolicy-TLS13-1-2-2021-06"
    port: Port | None = Field(default=None, description="else 443 with a certificate and 80 without")
    allowed_cidrs: Cidrs = Field(default=(), description="who may connect; empty: the network of the cluster")
    idle_timeout_seconds: Annotated[
        int, Field(ge=1, le=4000), Allowed("a whole number of seconds, 1 to 4000")
    ] = 300
    access_logs: Flag = Field(default=False, description="every request's record in a bucket of the stack's")
    waf: WafSettings | None = None

    @property
    def listens_on(self) -> int:
        """The port that clients connect to."""
        return self.port or (443 if self.certificate_arn else 80)

    def problems(self) -> list[tuple[str, str]]:
        """Return load balancers that the internet reaches unnamed or over plain HTTP."""
        found = []
        if not self.internal and not self.allowed_cidrs:
            found.append(("allowed_cidrs", "is missing: a load balancer that is not internal needs it"))
        if "0.0.0.0/0" in self.allowed_cidrs and self.certificate_arn is None:
            found.append(
                ("allowed_cidrs", 'has "0.0.0.0/0": must name networks, as the port speaks plain HTTP')
            )
        if self.host_name is not None and self.certificate_arn is None:
            found.append(("host_name", "goes with certificate_arn: it is the name in the certificate"))
        if self.certificate_arn is not None and self.host_name is None:
            found.append(("host_name", "is missing: clients check the certificate against it"))
        if self.certificate_arn is not None and self.port == 80:
            found.append(("port", "= 80 is where HTTP is redirected from: must be another"))
        return found
