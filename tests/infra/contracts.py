"""What must hold for every resource of every graph, as functions that yield what does not.

A type that a table here does not know is a violation too: whoever adds one says what it can carry, whether it
waits and how long its name may be.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.infra.graph import Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.infra.graph import Graph, Recorded

UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
"""Pulumi's sign of a value that is not known before something is made."""


@dataclass(frozen=True)
class Facts:
    """What a graph is of: the tags that its stack gives to all, and whether nothing was made."""

    tags: dict[str, str]
    preview: bool


# Types that AWS gives no tags, each a part of something that has them or without a price of its own.
_WITHOUT_TAGS = frozenset(
    {
        "aws:autoscaling/attachment:Attachment",
        "aws:autoscaling/tag:Tag",
        "aws:ec2/route:Route",
        "aws:ec2/routeTableAssociation:RouteTableAssociation",
        "aws:ecr/lifecyclePolicy:LifecyclePolicy",
        "aws:ecr/repositoryPolicy:RepositoryPolicy",
        "aws:eks/accessPolicyAssociation:AccessPolicyAssociation",
        "aws:iam/rolePolicy:RolePolicy",
        "aws:iam/rolePolicyAttachment:RolePolicyAttachment",
        "aws:kms/alias:Alias",
        "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration",
        "aws:s3/bucketPolicy:BucketPolicy",
        "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock",
        "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration",
        "aws:s3/bucketOwnershipControls:BucketOwnershipControls",
        "aws:wafv2/webAclAssociation:WebAclAssociation",
    }
)
# What waits for a cloud: without limits of its own, the engine's defaults would cut it short or hang.
_WAITS = re.compile(
    r"aws:ec2/(natGateway|securityGroup|subnet|vpc|vpcEndpoint|internetGateway|flowLog|route|routeTable"
    r"|routeTableAssociation|eip):.*"
    r"|aws:eks/(accessEntry|accessPolicyAssociation|addon|cluster|nodeGroup):.*"
    r"|aws:lb/(loadBalancer|listener|targetGroup):.*"
    r"|aws:s3/bucket:.*|aws:kms/key:.*|aws:wafv2/.*"
    r"|kubernetes:.*"
    r"|pulumi-python:dynamic/(image:Build|sandbox:Clouds|weights:Copy)"
)
_AT_ONCE = re.compile(
    r"aws:(autoscaling|budgets|cloudwatch|codebuild|ecr|iam|vpc)/.*"
    r"|aws:ec2/launchTemplate:.*|aws:eks/podIdentityAssociation:.*|aws:kms/alias:.*|aws:lb/listenerRule:.*"
    r"|aws:s3/bucket[A-Z].*"
    # The sweep waits, and has a limit of its own: dynamic providers are not told of the engine's.
    r"|pulumi-python:dynamic/(credentials:ApiKey|interfaces:Sweep|runpod:.*)"
)
# Type -> the property that names it on the cloud, and what AWS takes there; source: AWS's API references.
NAMES: dict[str, tuple[str, str]] = {
    "aws:budgets/budget:Budget": ("name", r"[^:\\]{1,100}"),
    "aws:cloudwatch/logGroup:LogGroup": ("name", r"[\w./#-]{1,512}"),
    "aws:codebuild/project:Project": ("name", r"[A-Za-z0-9][\w-]{1,149}"),
    "aws:ec2/launchTemplate:LaunchTemplate": ("name", r"[\w().\-/]{3,128}"),
    "aws:ec2/securityGroup:SecurityGroup": ("name", r"(?!sg-)[\w .:/()#,@\[\]+=&;{}!$*-]{1,255}"),
    "aws:ecr/repository:Repository": ("name", r"(?=.{2,256}$)[a-z0-9]+([._/-][a-z0-9]+)*"),
    "aws:eks/cluster:Cluster": ("name", r"[A-Za-z0-9][\w-]{0,99}"),
    "aws:eks/nodeGroup:NodeGroup": ("nodeGroupName", r"[A-Za-z0-9][\w-]{0,62}"),
    "aws:iam/role:Role": ("name", r"[\w+=,.@-]{1,64}"),
    "aws:iam/rolePolicy:RolePolicy": ("name", r"[\w+=,.@-]{1,128}"),
    "aws:kms/alias:Alias": ("name", r"alias/(?!aws/)[\w/-]{1,250}"),
    "aws:lb/loadBalancer:LoadBalancer": ("name", r"(?!internal-)[A-Za-z0-9]([A-Za-z0-9-]{0,30}[A-Za-z0-9])?"),
    "aws:lb/targetGroup:TargetGroup": ("name", r"[A-Za-z0-9]([A-Za-z0-9-]{0,30}[A-Za-z0-9])?"),
    "aws:s3/bucket:Bucket": ("bucket", r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]"),
    "aws:wafv2/webAcl:WebAcl": ("name", r"[\w-]{1,128}"),
}
_DIGEST = re.compile(r".+@sha256:[0-9a-f]{64}")
_EXACT_VERSION = re.compile(r"v?\d+\.\d+\.\d+")
_TAGGED_BY_TEMPLATE = {"instance", "volume", "network-interface"}
# What others may change once it is there: type -> paths.
_CHANGED_BY_OTHERS = {
    "aws:ec2/subnet:Subnet": {"availabilityZone"},
    "aws:eks/nodeGroup:NodeGroup": {"scalingConfig.desiredSize"},
    "kubernetes:apps/v1:Deployment": {"spec.replicas"},
}
_OF_CLOUDS = ("aws:", "kubernetes:", "pulumi-python:")


def cloud_resources(graph: Graph) -> Iterator[Recorded]:
    """Yield what stands for something on a cloud: neither components nor providers."""
    for item in graph:
        if item.custom and item.type.startswith(_OF_CLOUDS):
            yield item


def explicit_provider(graph: Graph, _facts: Facts) -> Iterator[str]:
    """Yield resources whose provider is the environment's, or of another cloud."""
    for item in graph:
        package = item.type.partition(":")[0]
        if package not in ("aws", "kubernetes"):
            continue
        provider = graph.resources.get(item.provider)
        if provider is None or provider.type != f"pulumi:providers:{package}":
            yield f"{item.urn} has no explicit provider of {package}"


def parent(graph: Graph, _facts: Facts) -> Iterator[str]:
    """Yield resources of AWS and Kubernetes that no component declares."""
    for item in graph:
        above = graph.resources.get(item.parent)
        if item.type.startswith(("aws:", "kubernetes:")) and (
            above is None or not above.type.startswith("berth:")
        ):
            yield f"{item.urn} has no component above it"


def owned(graph: Graph, facts: Facts) -> Iterator[str]:
    """Yield what does not say of which project and stack it is, and whose."""
    for item in cloud_resources(graph):
        if item.type.startswith("aws:"):
            yield from _tagged(graph, item, facts)
        elif item.type.startswith("kubernetes:") and not item.type.startswith("kubernetes:helm"):
            for place, labels in _labels(item):
                yield from _labelled(item, place, labels, facts)


def _tagged(graph: Graph, item: Recorded, facts: Facts) -> Iterator[str]:
    if _takes_tags(item.type) == (item.type in _WITHOUT_TAGS):
        yield f"{item.type}: say whether it carries tags"
    provider = graph.resources[item.provider]
    given = json.loads(provider.inputs.get("defaultTags", "{}")).get("tags")
    if given != facts.tags:
        yield f"{item.urn}: its provider tags with {given}, not {facts.tags}"
    own = item.inputs.get("tags") or {}
    for key in set(own) & set(facts.tags):
        if own[key] != facts.tags[key]:
            yield f"{item.urn}: the tag {key} is {own[key]}, not {facts.tags[key]}"
    if item.type == "aws:ec2/launchTemplate:LaunchTemplate":
        kinds = {each["resourceType"]: each["tags"] for each in item.inputs.get("tagSpecifications", [])}
        for kind in _TAGGED_BY_TEMPLATE:
            if not facts.tags.items() <= kinds.get(kind, {}).items():
                yield f"{item.urn}: what it starts has a {kind} without the stack's tags"


def _takes_tags(type_: str) -> bool:
    """Return whether the provider's schema has tags for a type: its default tags then reach it."""
    _, module, name = type_.split(":")
    made = getattr(importlib.import_module(f"pulumi_aws.{module.partition('/')[0]}"), name)
    return "tags" in inspect.signature(made._internal_init).parameters


def _labels(item: Recorded) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "it", (item.inputs.get("metadata") or {}).get("labels") or {}
    spec = item.inputs.get("spec")
    if isinstance(spec, dict) and "spec" in (spec.get("template") or {}):
        yield "its pods", (spec["template"].get("metadata") or {}).get("labels") or {}


def _labelled(item: Recorded, place: str, labels: dict[str, Any], facts: Facts) -> Iterator[str]:
    project = facts.tags["project"]
    wanted = {
        "app.kubernetes.io/part-of": project,
        "app.kubernetes.io/instance": facts.tags["stack"],
        f"{project}/owner": facts.tags["owner"],
    }
    if not wanted.items() <= labels.items():
        yield f"{item.urn}: {place} does not carry the labels {wanted}, but {labels}"


def timeouts(graph: Graph, _facts: Facts) -> Iterator[str]:
    """Yield what waits for a cloud without limits of its own."""
    for item in cloud_resources(graph):
        if _WAITS.fullmatch(item.type):
            if not all(item.timeouts):
                yield f"{item.urn} has no timeouts"
        elif not _AT_ONCE.fullmatch(item.type):
            yield f"{item.type}: say whether it waits"
        if item.type == "kubernetes:helm.sh/v3:Release" and not item.inputs.get("timeout"):
            yield f"{item.urn}: Helm itself gives up after its default of five minutes"


def images(graph: Graph, facts: Facts) -> Iterator[str]:
    """Yield images that are not known by digest, and charts that are not known by version."""
    for item in cloud_resources(graph):
        if item.type.startswith(("kubernetes:core", "kubernetes:apps", "kubernetes:batch")):
            for image in _values_of("image", item.inputs):
                if not (facts.preview and image == UNKNOWN) and not _DIGEST.fullmatch(str(image)):
                    yield f"{item.urn} runs the image {image}, without its digest"
        if item.type == "kubernetes:helm.sh/v3:Release" and not _EXACT_VERSION.fullmatch(
            str(item.inputs.get("version"))
        ):
            yield f"{item.urn}: its chart has no exact version"
    for endpoint in (item for item in graph if item.type == "pulumi-python:dynamic/runpod:Endpoint"):
        image = endpoint.inputs.get("image", UNKNOWN)
        if not (facts.preview and image == UNKNOWN) and not _DIGEST.fullmatch(str(image)):
            yield f"{endpoint.urn} runs the image {image}, without its digest"


def _values_of(key: str, value: Any) -> Iterator[Any]:
    if isinstance(value, Secret):
        yield from _values_of(key, value.value)
    elif isinstance(value, dict):
        for name, item in value.items():
            if name == key:
                yield item
            yield from _values_of(key, item)
    elif isinstance(value, list):
        for item in value:
            yield from _values_of(key, item)


def deleted_by_the_engine(graph: Graph, _facts: Facts) -> Iterator[str]:
    """Yield what `destroy` would only forget, and what it would take along unasked."""
    for item in graph:
        if item.request.retainOnDelete:
            yield f"{item.urn} is retained when it is deleted"
        if item.request.deletedWith:
            yield f"{item.urn} is deleted with {item.request.deletedWith}, and never by its own provider"


def names(graph: Graph, facts: Facts) -> Iterator[str]:
    """Yield names that AWS would refuse."""
    for item in cloud_resources(graph):
        if item.type not in NAMES:
            if item.type.startswith("aws:") and isinstance(item.inputs.get("name"), str):
                yield f"{item.type}: say what its name may be"
            continue
        key, allowed = NAMES[item.type]
        name = item.inputs.get(key)
        if name is None or (facts.preview and name == UNKNOWN):
            continue
        if not re.fullmatch(allowed, name):
            yield f"{item.urn}: AWS refuses the name {name!r}"


def components_complete(graph: Graph, _facts: Facts) -> Iterator[str]:
    """Yield components that do not say when they are complete."""
    for item in graph:
        if not item.custom and item.type.startswith("berth:") and item.urn not in graph.completed:
            yield f"{item.urn} does not call register_outputs"


def no_past(graph: Graph, _facts: Facts) -> Iterator[str]:
    """Yield what carries a past along: aliases, imports, and changes that are overlooked."""
    for item in graph:
        # Those of a type alone are the SDK's own: what the provider called the type before.
        others = [
            alias for alias in item.request.aliases if alias.spec.name or alias.spec.parentUrn or alias.urn
        ]
        if others or item.request.aliasURNs:
            yield f"{item.urn} has aliases"
        if item.request.importId:
            yield f"{item.urn} is imported"
        for path in set(item.request.ignoreChanges) - _CHANGED_BY_OTHERS.get(item.type, set()):
            yield f"{item.urn} overlooks changes of {path}"


def known(graph: Graph, facts: Facts) -> Iterator[str]:
    """Yield inputs that are still unknown although everything is made."""
    for item in graph:
        if not facts.preview and UNKNOWN in json.dumps(item.inputs, default=lambda secret: secret.value):
            yield f"{item.urn} has inputs that nothing decides"


CONTRACTS: tuple[Callable[[Graph, Facts], Iterator[str]], ...] = (
    explicit_provider,
    parent,
    owned,
    timeouts,
    images,
    deleted_by_the_engine,
    names,
    components_complete,
    no_past,
    known,
)


def in_the_clear(graph: Graph) -> dict[str, Any]:
    """Return all that the engine would keep and show in clear, by place: secrets are left out."""
    found: dict[str, Any] = {}
    for item in graph:
        found[f"{item.urn} in"] = _clear(item.inputs)
        found[f"{item.urn} out"] = _clear(item.outputs)
    for urn, outputs in graph.completed.items():
        found[f"{urn} offers"] = _clear(outputs)
    return found


def _clear(value: Any) -> Any:
    if isinstance(value, Secret):
        return None
    if isinstance(value, dict):
        return {key: _clear(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_clear(item) for item in value]
    return value
