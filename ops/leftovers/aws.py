"""What of a stack is in its AWS account and region."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from ops.leftovers.found import Found, Unseen
from ops.leftovers.instances import on_demand_usd
from ops.leftovers.kinds import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ops.leftovers.asker import Asker
    from ops.leftovers.kinds import Item, Kind
    from ops.leftovers.owner import Owner

NO_ANSWER = (BotoCoreError, ClientError)
"""What a service that refuses or does not answer makes these functions raise."""

# What is only there as long as something else that is looked for: a listener, for example, of its balancer.
_PARTS = re.compile(
    r":elasticloadbalancing:.*:listener|:eks:.*:(addon|access-entry|podidentityassociation)/"
    r"|:ec2:.*:security-group-rule/"
)
# What the tags that EKS puts on what it makes name.
_MADE_BY_EKS = (("eks:nodegroup-name", "EKS node group"), ("aws:eks:cluster-name", "EKS cluster"))
# Where an ARN stops being the same for all objects of a kind.
_OF_THE_ITEM = re.compile(r"\{(?!partition|region|account)")


@dataclass
class Inventory:
    """All of an account and region that is of one of the kinds, whoever made it.

    Args:
        found: in the order in which it can be removed.
        unseen: kinds that could not be looked at.
        arns: the beginnings of the ARNs of the kinds that were looked at.
    """

    found: list[Found] = field(default_factory=list)
    unseen: list[Unseen] = field(default_factory=list)
    arns: list[str] = field(default_factory=list)


def inventory(asker: Asker) -> Inventory:
    """List all that is of one of the kinds; a kind that AWS refuses to list is noted as unseen."""
    result = Inventory()
    place = {"partition": asker.partition, "region": asker.region, "account": asker.account}
    for kind in KINDS:
        try:
            # One by one: what was told before a refusal is kept.
            for item in kind.ask(asker):
                result.found.append(_found(kind, item, place))
        except NO_ANSWER as error:
            result.unseen.append(Unseen(f"AWS: {kind.name}", reason(error)))
        else:
            result.arns.append(_OF_THE_ITEM.split(kind.arn, maxsplit=1)[0].format_map(place))
    return result


def of_stack(asker: Asker, owner: Owner) -> tuple[list[tuple[Found, str]], list[Unseen]]:
    """Return what is thought to be a stack's, each with the reason, and what could not be looked at."""
    seen = inventory(asker)
    try:
        tagged = frozenset(_tagged(asker, owner))
    except NO_ANSWER as error:
        seen.unseen.append(Unseen("AWS: all that carries the stack's tags", reason(error)))
        tagged = frozenset()
    vpcs = {item.id for item in seen.found if item.kind == "VPC" and owner.why(item, tagged)}
    ours = [(item, why) for item in seen.found if (why := owner.why(item, tagged, vpcs))]
    whole = {f"{item.kind} {item.id}" for item, _ in ours}
    ours = [(_priced(asker, _as_part(item, whole)), why) for item, why in ours]
    listed = {item.place for item in seen.found}
    # What has just gone is still in the index of tags for some time: of the kinds above, their lists know.
    others = sorted(
        arn
        for arn in tagged - listed
        if not _PARTS.search(arn) and not any(arn.startswith(known) for known in seen.arns)
    )
    return [*((_other(arn), owner.tagged) for arn in others), *ours], seen.unseen


def _as_part(found: Found, whole: set[str]) -> Found:
    """Return what EKS made for a node group or a cluster, and removes with it, as part of that."""
    for tag, kind in _MADE_BY_EKS:
        owner = f"{kind} {found.tags.get(tag)}"
        if owner in whole and found.kind != kind:
            return replace(found, remove="", part_of=owner)
    return found


def _priced(asker: Asker, found: Found) -> Found:
    if found.instance_type is None:
        return found
    return replace(found, hourly_usd=on_demand_usd(asker, found.instance_type))


def reason(error: Exception) -> str:
    """Return a service's refusal on one line."""
    return " ".join(str(error).split())


def _tagged(asker: Asker, owner: Owner) -> Iterable[str]:
    filters = [{"Key": "project", "Values": [owner.project]}, {"Key": "stack", "Values": [owner.stack]}]
    return asker.items(
        "resourcegroupstaggingapi",
        "get_resources",
        "ResourceTagMappingList[].ResourceARN",
        TagFilters=filters,
    )


def _found(kind: Kind, item: Item, place: dict[str, str]) -> Found:
    known = {**place, **item}
    arn = item.get("arn") or kind.arn.format_map(known)
    quoted = {
        key: value if key == "before" else shlex.quote(str(value))
        for key, value in {**known, "arn": arn}.items()
    }
    going = item.get("going")
    return Found(
        kind=kind.name,
        id=item["id"],
        place=arn,
        remove=kind.remove.format_map(quoted),
        names=tuple(filter(None, [item.get("name")])),
        tags=_tags(item.get("tags")),
        vpc=item.get("vpc"),
        role=item.get("role"),
        instance_type=item.get("instance_type"),
        hourly_usd=kind.hourly_usd(item),
        going=going and f"{going:%Y-%m-%d}",
    )


def _tags(tags: Any) -> dict[str, str]:
    """Return tags as a mapping; services write them in three ways."""
    if isinstance(tags, dict):
        return tags
    return {tag.get("Key", tag.get("key")): tag.get("Value", tag.get("value", "")) for tag in tags or ()}


def _other(arn: str) -> Found:
    service, name = arn.split(":", 5)[2], arn.split(":", 5)[5]
    return Found(kind=f"{service}: something", id=name, place=arn, remove="", hourly_usd=None)
