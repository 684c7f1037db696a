"""The model's weights in a bucket of the region, and the pods' right to read them there.

They are copied from the hub once for each commit, beside the making of the cluster and the image. Every start
then streams them from S3 into the GPUs by the Run:ai streamer, in the region and past every disk.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pulumi

from infra.bucket import private_bucket
from infra.build_project import build_project
from infra.eks.identity import associate, pod_role
from infra.eks.model_service import NAME as SERVICE_ACCOUNT
from infra.options import child
from infra.weights_copy import COMPLETE_SUFFIX, PREFIX_VARIABLE, WeightsCopy

if TYPE_CHECKING:
    from infra.eks.cluster import Cluster
    from infra.naming import Names
    from infra.serving import ServingSpec
    from infra.settings import EksSettings

_SCRIPT = Path(__file__).resolve().parents[2] / "image" / "weights.py"
_HUB_CLIENT = "huggingface_hub==2.4.0"  # what vLLM's own environment has
# A stream that is this slow for that long is begun again: some of S3's machines are busier than others.
# Source: EKS user guide, on streaming weights with the Run:ai streamer.
_STREAMER = {
    "RUNAI_STREAMER_S3_REQUEST_TIMEOUT_MS": "3000",
    "RUNAI_STREAMER_S3_LOW_SPEED_LIMIT": "1048576",
}


class Weights(pulumi.ComponentResource):
    """The weights of the stack's model in S3, and all that a pod needs to stream them.

    Args:
        name: the logical name.
        names: the stack's names.
        settings: the stack file's section `eks`, which has `s3_weights`.
        serving: what is served.
        cluster: the cluster whose pods read them.
        account_id: the account.
        region: its region.
        endpoint: another endpoint of AWS's API; None for AWS itself.
        hub_token: for models that are not public; None without one.
        opts: must give an AWS provider.
    """

    uri: pulumi.Output[str]
    """`s3://bucket/organization/name/commit`."""
    args: list[pulumi.Input[str]]
    """The arguments of `vllm serve`."""
    environment: dict[str, pulumi.Input[str]]
    """Variables of the pod, without secrets."""
    aws_endpoint: pulumi.Input[str] | None
    """Another endpoint of AWS's API; None for AWS itself."""
    ready: list[pulumi.Resource]
    """What pods need before they start and until they have ended."""

    def __init__(
        self,
        name: str,
        *,
        names: Names,
        settings: EksSettings,
        serving: ServingSpec,
        cluster: Cluster,
        account_id: pulumi.Input[str],
        region: pulumi.Input[str],
        endpoint: pulumi.Input[str] | None,
        hub_token: pulumi.Input[str] | None,
        opts: pulumi.ResourceOptions,
    ) -> None:
        super().__init__("berth:eks:Weights", name, None, opts)
        wanted = settings.s3_weights
        if wanted is None:
            raise ValueError("eks.s3_weights is missing")
        prefix = f"{serving.model}/{serving.revision}"
        bucket: pulumi.Input[str]
        closed: list[pulumi.Resource] = []
        if wanted.bucket is None:
            made, closed = private_bucket(
                self,
                f"{name}-bucket",
                names=names,
                what="weights",
                account_id=account_id,
                force_destroy=not settings.deletion_protection,
            )
            bucket = made.bucket
        else:
            bucket = wanted.bucket
        bucket_arn = pulumi.Output.concat("arn:aws:s3:::", bucket)
        self.uri = pulumi.Output.concat("s3://", bucket, "/", prefix)
        project = build_project(
            self,
            name,
            names=names,
            project_name=names.of("weights"),
            description="Copies the model's weights from the hub into the bucket.",
            source={"type": "NO_SOURCE", "buildspec": _buildspec()},
            variables={
                "MODEL": serving.model,
                "REVISION": serving.revision,
                "WEIGHTS_BUCKET": bucket,
                PREFIX_VARIABLE: prefix,
            },
            secrets={} if hub_token is None else {"HF_TOKEN": hub_token},
            statements=[
                {
                    "Effect": "Allow",
                    "Action": ["s3:PutObject", "s3:AbortMultipartUpload"],
                    "Resource": [
                        pulumi.Output.concat(bucket_arn, f"/{prefix}/*"),
                        pulumi.Output.concat(bucket_arn, f"/{prefix}{COMPLETE_SUFFIX}"),
                    ],
                }
            ],
            timeout_minutes=wanted.copy_timeout_minutes,
            docker=False,
            after=closed,
        )
        copy = WeightsCopy(
            f"{name}-copy",
            project=project.name,
            bucket=bucket,
            prefix=prefix,
            region=region,
            endpoint=endpoint,
            timeout_minutes=project.wait_minutes,
            opts=child(self, after=project.needs, minutes=project.minutes()),
        )
        role = pod_role(
            self,
            f"{name}-role",
            names=names,
            cluster=cluster,
            what="weights",
            namespace=names.project,
            service_account=SERVICE_ACCOUNT,
            statements=[
                {
                    "Effect": "Allow",
                    "Action": "s3:GetObject",
                    "Resource": pulumi.Output.concat(bucket_arn, f"/{prefix}/*"),
                },
                {
                    "Effect": "Allow",
                    "Action": "s3:ListBucket",
                    "Resource": bucket_arn,
                    "Condition": {"StringEquals": {"s3:prefix": f"{prefix}/"}},
                },
            ],
        )
        self.args = [
            self.uri,
            *serving.streamed_options(concurrency=wanted.concurrency, memory_gib=settings.pod.memory_gib),
        ]
        self.aws_endpoint = endpoint
        self.environment = {
            **_STREAMER,
            "AWS_REGION": region,
            "AWS_DEFAULT_REGION": region,
            "HF_HUB_OFFLINE": "1",  # nothing is left to ask the hub for
        }
        if endpoint is not None:
            self.environment["AWS_ENDPOINT_URL"] = endpoint
            # An address has no names of buckets before it.
            self.environment["RUNAI_STREAMER_S3_USE_VIRTUAL_ADDRESSING"] = "0"
        # A pod that comes before the association has no credentials, ever.
        self.ready = [copy, associate(self, f"{name}-identity", cluster=cluster, role=role)]
        self.register_outputs({"uri": self.uri})


def _buildspec() -> str:
    """Return the buildspec; JSON, of which YAML is a superset, as it holds a program."""
    place = f"s3://$WEIGHTS_BUCKET/${{{PREFIX_VARIABLE}}}"
    return json.dumps(
        {
            "version": "0.2",
            "env": {"shell": "bash"},
            "phases": {
                "install": {
                    "runtime-versions": {"python": "3.12"},
                    "commands": [f"python3 -m pip install --quiet --target tools {_HUB_CLIENT}"],
                },
                "build": {
                    "commands": [
                        f"cat > weights.py <<'END_OF_SCRIPT'\n{_SCRIPT.read_text()}END_OF_SCRIPT",
                        f'PYTHONPATH="$PWD/tools" python3 weights.py "$MODEL" "$REVISION" "{place}"',
                        # The last of all: what is without it is not complete.
                        f'echo "$REVISION" | aws s3 cp - "{place}{COMPLETE_SUFFIX}"',
                    ]
                },
            },
        },
        indent=1,
    )
