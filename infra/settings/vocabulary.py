"""The kinds of values that settings hold, each with the words in which an error says what is allowed."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


@dataclass(frozen=True)
class Allowed:
    """What a setting may be, in words: an error about the setting ends with them."""

    text: str


class Section(BaseModel):
    """A group of settings: frozen, strict about types, and without room for unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    def problems(self) -> list[tuple[str, str]]:
        """Return what is wrong between valid settings of this section, as pairs of key and reason."""
        return []


def _networks(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        ipaddress.IPv4Network(value)
    return values


def _vpc_network(value: str) -> str:
    network = ipaddress.IPv4Network(value)
    if not (16 <= network.prefixlen <= 20 and network.is_private):
        raise ValueError(value)
    return value


def _environment(values: Mapping[str, str]) -> Mapping[str, str]:
    for name in values:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise ValueError(name)
    return values


_HOST_NAME = r"([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}"

Flag = Annotated[bool, Allowed("true or false")]
Texts = Annotated[tuple[str, ...], Allowed("a list of texts")]
SomeTexts = Annotated[tuple[str, ...], Field(min_length=1), Allowed("a list of one text or more")]
Environment = Annotated[
    Mapping[str, str],
    AfterValidator(_environment),
    Allowed("a mapping of variable names to texts in quotes"),
]

Tokens = Annotated[int, Field(ge=1), Allowed("a whole number of tokens, 1 or more")]
Positive = Annotated[int, Field(ge=1), Allowed("a whole number, 1 or more")]
Count = Annotated[int, Field(ge=0), Allowed("a whole number, 0 or more")]
Seconds = Annotated[int, Field(ge=1), Allowed("a whole number of seconds, 1 or more")]
DrainSeconds = Annotated[
    int,
    Field(ge=1, le=3600),  # more than an hour no load balancer of AWS waits for a target that goes
    Allowed("a whole number of seconds, 1 to 3600"),
]
Fraction = Annotated[float, Field(gt=0, le=1), Allowed("a number above 0, up to 1")]
DiskGib = Annotated[int, Field(ge=20, le=16384), Allowed("a whole number of GiB, 20 to 16384")]
MemoryGib = Annotated[int, Field(ge=1), Allowed("a whole number of GiB, 1 or more")]
Port = Annotated[int, Field(ge=1, le=65535), Allowed("a port number, 1 to 65535")]

Cidrs = Annotated[
    tuple[str, ...],
    AfterValidator(_networks),
    Allowed('a list of IPv4 networks such as "203.0.113.0/24"'),
]
VpcCidr = Annotated[
    str,
    AfterValidator(_vpc_network),
    Allowed('a private IPv4 network of /16 to /20, such as "10.64.0.0/16"'),
]
CommitId = Annotated[
    str,
    Field(pattern=r"^[0-9a-f]{40}$"),
    Allowed("a commit of the model's repository, 40 hexadecimal digits: branches move"),
]
ModelName = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$"),
    Allowed('a model of the hub as "organization/name"'),
]
ServedName = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9][\w./:-]{0,95}$"),
    Allowed("a name of letters, digits and . _ - / :, of up to 96 characters"),
]
ImageDigest = Annotated[
    str,
    Field(pattern=r"^[a-z0-9][a-z0-9.:-]*(/[a-z0-9._-]+)+@sha256:[0-9a-f]{64}$"),
    Allowed('an image by digest, "host/repository@sha256:<64 hexadecimal digits>": tags move'),
]
Region = Annotated[
    str,
    Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$"),
    Allowed('a region of AWS such as "us-east-1"'),
]
AccountId = Annotated[
    str,
    Field(pattern=r"^\d{12}$"),
    Allowed("an AWS account id, 12 digits in quotes"),
]
Owner = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?$"),
    Allowed("a team or person, up to 63 letters, digits and . _ -, as Kubernetes labels want it"),
]
KubernetesVersion = Annotated[
    str,
    Field(pattern=r"^1\.\d{2}$"),
    Allowed('a minor version in quotes, such as "1.35"'),
]
CudaVersion = Annotated[
    str,
    Field(pattern=r"^\d+\.\d+$"),
    Allowed('a CUDA version in quotes, such as "13.0"'),
]
PrincipalArn = Annotated[
    str,
    Field(pattern=r"^arn:aws:iam::\d{12}:(role|user)/.+$"),
    Allowed("the ARN of an IAM role or user, arn:aws:iam::<account>:role/<name>"),
]
PrincipalArns = Annotated[
    tuple[PrincipalArn, ...],
    Allowed("a list of ARNs of IAM roles or users, arn:aws:iam::<account>:role/<name>"),
]
VpcId = Annotated[str, Field(pattern=r"^vpc-[0-9a-f]{8,17}$"), Allowed('a VPC\'s id, "vpc-..."')]
SubnetIds = Annotated[
    tuple[Annotated[str, Field(pattern=r"^subnet-[0-9a-f]{8,17}$")], ...],
    Allowed('a list of 2 or 3 ids of subnets, "subnet-...", each in another zone'),
]
CapacityReservationId = Annotated[
    str, Field(pattern=r"^cr-[0-9a-f]{8,17}$"), Allowed('a capacity reservation\'s id, "cr-..."')
]
ReleaseVersion = Annotated[
    str,
    Field(pattern=r"^1\.\d{2}\.\d+-[0-9a-f]{8}$"),
    Allowed('a release of the machine image: "1.35.6-20260724", or Bottlerocket\'s "1.59.0-3e1c4d2a"'),
]
AddonVersion = Annotated[
    str,
    Field(pattern=r"^v\d+\.\d+\.\d+-eksbuild\.\d+$"),
    Allowed('an add-on\'s version such as "v1.21.1-eksbuild.3"'),
]
GroupName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]{0,19}$")]
CertificateArn = Annotated[
    str,
    Field(pattern=r"^arn:aws:acm:[a-z0-9-]+:\d{12}:certificate/.+$"),
    Allowed("the ARN of an ACM certificate, arn:aws:acm:<region>:<account>:certificate/<id>"),
]
HostName = Annotated[
    str,
    Field(pattern=rf"^{_HOST_NAME}$"),
    Allowed('a host\'s full name in lower case such as "model.example.com"'),
]
HostNames = Annotated[
    tuple[
        Annotated[str, Field(pattern=rf"^({_HOST_NAME}|127(\.\d{{1,3}}){{3}})$")],
        ...,
    ],
    Allowed('a list of hosts\' full names in lower case such as "images.example.com": no addresses'),
]
UrlPath = Annotated[str, Field(pattern=r"^/[A-Za-z0-9/._-]*$"), Allowed("a path such as /health")]
UrlPaths = Annotated[
    tuple[Annotated[str, Field(pattern=r"^/[A-Za-z0-9/._*-]+$")], ...],
    Allowed("a list of paths such as /v1/chat/completions; * stands for anything"),
]
VariableName = Annotated[
    str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$"), Allowed("the name of an environment variable")
]
BucketName = Annotated[
    str,
    Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$"),
    Allowed("the name of an S3 bucket"),
]
EmailAddresses = Annotated[
    tuple[Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+$")], ...],
    Field(min_length=1, max_length=10),
    Allowed("a list of 1 to 10 e-mail addresses"),
]
