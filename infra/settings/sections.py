"""The sections of a stack file with their defaults, but for those that have a module of their own."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from infra.settings.scan import ScanSettings
from infra.settings.vocabulary import (
    AccountId,
    Allowed,
    DrainSeconds,
    EmailAddresses,
    Environment,
    Flag,
    Fraction,
    ImageDigest,
    Owner,
    Positive,
    Region,
    Seconds,
    Section,
    Texts,
    Tokens,
)

Target = Literal["eks", "runpod"]
_OTHER_PARTITIONS = ("cn-", "us-gov-", "us-iso", "eu-isoe-")


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
    compile: Flag = Field(
        default=True,
        description="false leaves torch.compile out and captures few graphs: sooner up, up to 11 % slower",
    )
    fast_start: Flag = Field(
        default=False,
        description="server and engine from one import; vLLM's own start until it was seen on your GPUs",
    )
    max_audio_mib: Positive | None = Field(
        default=None, description="the largest file that is transcribed; else vLLM's 25 MiB"
    )
    extra_args: Texts = ()
    environment: Environment = Field(default_factory=dict)
    startup_timeout_seconds: Seconds = 1800
    drain_seconds: DrainSeconds = Field(
        default=120,
        description="from the notice to stop until the process is gone, requests in flight included",
    )


class ImageSettings(Section):
    """Where the container image comes from."""

    builder: Literal["codebuild", "local", "prebuilt"] = Field(
        default="codebuild", description="local: by docker or buildah on the machine that deploys"
    )
    reference: ImageDigest | None = Field(default=None, description="the image when it is prebuilt")
    build_timeout_minutes: Annotated[
        int, Field(ge=5, le=480), Allowed("a whole number of minutes, 5 to 480")
    ] = 60
    scan: ScanSettings = Field(default_factory=ScanSettings)

    def problems(self) -> list[tuple[str, str]]:
        """Return a reference without its builder, or a builder without its reference."""
        if self.builder == "prebuilt" and self.reference is None:
            return [("reference", 'is missing: builder "prebuilt" needs the image by digest')]
        if self.builder != "prebuilt" and self.reference is not None:
            return [("reference", 'goes with builder "prebuilt" only')]
        return []


class BudgetSettings(Section):
    """A monthly budget of what carries the stack's tags, and who hears of it."""

    monthly_usd: Positive
    alert_emails: EmailAddresses


class AwsSettings(Section):
    """The AWS account and region that hold the image, and the cluster if there is one."""

    region: Region
    account_id: AccountId | None = Field(default=None, description="refuse every other account")
    owner: Owner
    budget: BudgetSettings | None = None

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


class SandboxSettings(Section):
    """The clouds of the stack `local`, on this machine."""

    loopback_block: Annotated[
        int, Field(ge=0, le=250), Allowed("the second number of a loopback network 127.x.0.0/16, 0 to 250")
    ]
