"""Whether the deployment is gone, and the proof: from the records of `destroy` and `leftovers`."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ops.report import figures
from ops.report.blocks import Facts, Section, Table, Text

if TYPE_CHECKING:
    from ops.report.blocks import Block
    from ops.report.evidence import Evidence, Kept
    from ops.report.shapes import Destroy, Leftovers


def verdict(evidence: Evidence) -> Text:
    """Say in a sentence how it stands with the deployment."""
    stack, now = evidence.stack, evidence.resources_now
    destroyed = _last_destroy(evidence)
    if destroyed is None:
        return _standing(evidence)
    left = now if now is not None else destroyed.said.resources
    if left:
        before = destroyed.said.resources_before
        of = f" of {sum(before.values())}" if before else ""
        return Text(
            f"Half destroyed: {sum(left.values())}{of} resources are still in the state."
            f" `./berth destroy --stack {stack}` goes on with it.",
            "bad",
        )
    if not destroyed.said.ok:
        return Text(
            f"The last `destroy` failed ({destroyed.said.problem}), and what is left in the state"
            f" {'is not known' if left is None else 'is nothing'}: `./berth destroy --stack {stack}`, then"
            f" `./berth leftovers --stack {stack} --expect-none`.",
            "bad",
        )
    return _proved(evidence, destroyed)


def _standing(evidence: Evidence) -> Text:
    stack, up, now = evidence.stack, evidence.up, evidence.resources_now
    if up is None:
        if now:
            return Text(f"It has {sum(now.values())} resources, and no `up` of it is recorded here.", "warn")
        return Text(f"It has never been brought up from here: `./berth up --stack {stack}`.", "missing")
    if now is not None and not now:
        return Text(
            "It has no resources any more, and no `destroy` is recorded. Whether anything is left:"
            f" `./berth leftovers --stack {stack} --expect-none`.",
            "warn",
        )
    if not up.said.ok:
        return Text(f"The last `up` failed: {up.said.problem}", "bad")
    return Text(
        f"It is up since {figures.when(up.at)}, and costs what it costs until it is destroyed.", "good"
    )


def _proved(evidence: Evidence, destroyed: Kept[Destroy]) -> Text:
    looks = [kept for kept in evidence.leftovers if kept.at >= destroyed.at]
    command = f"`./berth leftovers --stack {evidence.stack} --expect-none`"
    if not looks:
        return Text(f"Destroyed; whether anything is left has not been looked for: {command}.", "warn")
    seen = looks[-1].said
    if not seen.looked_at and not seen.not_looked_at:
        return Text("Destroyed, and the clouds of the sandbox are gone with all that they held.", "good")
    if seen.staying:
        return Text(f"Destroyed, but {len(seen.staying)} things are left in its accounts.", "bad")
    if seen.not_looked_at:
        return Text(
            f"Destroyed; {len(seen.not_looked_at)} kinds of things could not be looked at: {command}.", "warn"
        )
    return Text(f"Destroyed, and nothing is left: looked for at {figures.when(looks[-1].at)}.", "good")


def section(evidence: Evidence) -> Section:
    """Return the part."""
    blocks: list[Block] = [verdict(evidence)]
    destroyed = _last_destroy(evidence)
    if destroyed is None:
        command = f"./berth destroy --stack {evidence.stack}"
        blocks.append(Text(f"No `destroy` is recorded: `{command}`.", "missing"))
    else:
        blocks += _destroy(evidence.destroys)
    looks = evidence.leftovers
    if destroyed is not None:
        before = [kept for kept in looks if kept.at < destroyed.at]
        looks = [kept for kept in looks if kept.at >= destroyed.at]
        if before and not looks:
            blocks.append(Text("It was looked for leftovers only before the destroy, which proves nothing."))
    if looks:
        blocks += _look(looks[-1])
    else:
        command = f"./berth leftovers --stack {evidence.stack} --expect-none"
        blocks.append(Text(f"Nobody has looked for leftovers since: `{command}`.", "missing"))
    return Section("teardown", "Teardown", blocks)


def _last_destroy(evidence: Evidence) -> Kept[Destroy] | None:
    return evidence.destroys[-1] if evidence.destroys else None


def _destroy(kept: list[Kept[Destroy]]) -> list[Block]:
    rows = [
        (
            figures.when(item.said.begun_at),
            "yes" if item.said.ok else f"no: {item.said.problem}",
            figures.duration(item.said.duration_seconds),
            _total(item.said.resources_before),
            _total(item.said.resources),
        )
        for item in kept
    ]
    headings = ("Begun", "Done", "It took", "Resources before", "After")
    blocks: list[Block] = [Table("Every `destroy` since the last `up`", headings, rows, left=2)]
    # The first knows all that there was, the last what there is now.
    first, last = kept[0].said.resources_before, kept[-1].said.resources
    if first is not None and last is not None:
        deleted = Counter(first) - Counter(last)
        blocks.append(_types(f"Deleted: {deleted.total()}", dict(deleted)))
        if last:
            blocks.append(_types(f"Still in the state: {sum(last.values())}", last))
    return blocks


def _total(resources: dict[str, int] | None) -> str:
    return "not known" if resources is None else figures.number(sum(resources.values()))


def _types(title: str, counts: dict[str, int]) -> Table:
    by_package: dict[str, list[str]] = {}
    for type_, count in sorted(counts.items()):
        package, _, name = type_.partition(":")
        shown = name.rpartition(":")[2]
        by_package.setdefault(package, []).append(f"{shown} {count}" if count > 1 else shown)
    rows = [
        (
            package,
            ", ".join(names),
            figures.number(sum(n for t, n in counts.items() if t.startswith(f"{package}:"))),
        )
        for package, names in by_package.items()
    ]
    return Table(title, ("Provider", "Types", "Number"), rows, left=2)


def _look(kept: Kept[Leftovers]) -> list[Block]:
    seen = kept.said
    if not seen.looked_at and not seen.not_looked_at:
        where = "nowhere: the clouds of the sandbox are gone with all that they held"
    else:
        where = f"AWS account {seen.account or 'not known'}, {seen.region}, and RunPod"
    going = len(seen.found) - len(seen.staying)
    blocks: list[Block] = [
        Facts(
            [
                ("Looked for leftovers", figures.when(kept.at)),
                ("Where", where),
                (
                    "Found",
                    f"{len(seen.staying)} that stay, {going} that go by themselves",
                ),
                ("Kinds looked at", ", ".join(seen.looked_at) or figures.NONE),
                ("Kinds not looked at", str(len(seen.not_looked_at))),
            ]
        )
    ]
    if seen.found:
        rows = [
            (
                item.what,
                item.id,
                f"goes by itself on {item.goes_by_itself}" if item.goes_by_itself else item.why,
                figures.usd(item.hourly_usd, 4),
            )
            for item in seen.found
        ]
        blocks.append(Table("What was found", ("What", "Id", "Why", "USD an hour"), rows, left=3))
    blocks += [Text(f"Not looked at: {item.what}: {item.why}", "warn") for item in seen.not_looked_at]
    return blocks
