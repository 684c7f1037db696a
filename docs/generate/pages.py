"""docs/stacks/: a page for each stack file, from the file, its recorded graph and its plan."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from docs.generate.edits import edits
from docs.generate.groups import PARTS, parts_of
from infra.serving import spec
from ops.plan import assembly, other_server
from ops.plan import prices as price_list
from ops.plan.fixed_costs import fixed_costs
from ops.plan.monthly import Profile
from ops.plan.throughput import Load
from ops.stacks import LOCAL, STACKS_FOLDER

if TYPE_CHECKING:
    from collections.abc import Iterable

    from infra.settings import Settings
    from ops.graph.record import Graph
    from ops.plan.assembly import Plan
    from ops.plan.timeline import Timeline

_CLOUDS = {"eks": "EKS", "runpod": "RunPod"}
_WAYS = {"eks": "EKS alone", "runpod": "RunPod alone", "mix": "EKS, and RunPod for the rest"}
_PROFILE = Profile(requests_per_hour=1000, hours_per_day=24)
_INDEX = """\
A stack is one file, `stacks/Pulumi.<name>.yaml`. Each page is made from the file, the resources that the
program registers for it, and `berth plan --offline`; a test says when one is stale."""
_MADE = """\
{resources} resources, in {components} components, as the program registers them, and the provider of each
cloud."""
_COST = """\
From `berth plan --offline`, for requests of {prompt} tokens with {output} in the answer. Prices: EC2,
{aws}; RunPod, {runpod}; the cluster's parts, {parts}. Traffic, logs and whatever else is billed by use come
on top."""
_NO_COST = """\
Nothing: its clouds are processes on this machine. What its machines would cost if they were real:"""
_COST_OF_ANOTHER_SERVER = """\
Prices: EC2, {aws}; RunPod, {runpod}. `berth plan` does not estimate memory, speed and start of somebody
else's server, and so no month's cost."""
_FIRST_ANSWER = """\
After `up` begins, if nothing is there yet. Steps of seconds are left out; any number of others go on beside
these."""
_CHANGE = """\
Edit `stacks/Pulumi.{stack}.yaml`; `./berth preview --stack {stack}` then shows which resources change and
how, and `./berth up --stack {stack}` changes them. Each block below is one change, with the keys in their
places."""


@dataclass(frozen=True)
class Known:
    """What is known of a stack before it is made.

    Attributes:
        settings: the stack's.
        graph: the resources that the program registers for it.
        plan: what `berth plan --offline` says; None where another server than vLLM serves the model.
    """

    settings: Settings
    graph: Graph
    plan: Plan | None


def known(settings: Settings) -> Known:
    """Return what is known of a stack."""
    if settings.server is not None:
        return Known(settings, assembly.recorded_graph(settings), None)
    load = Load.of(settings.model.task, settings.model.max_model_len, None, None)
    plan = assembly.plan(settings, load, _PROFILE, offline=True)
    return Known(settings, plan.graph, plan)


def page(stack: Known) -> str:
    """Return a stack's page."""
    settings, graph = stack.settings, stack.graph
    sections = [
        f"# The stack `{settings.stack}`",
        about(settings.stack),
        _table(("", ""), _facts(settings)),
        "## What it makes",
        *_made(graph),
        "## What it costs",
        *(_plan(stack.plan) if stack.plan else _cost_of_another_server(settings, graph)),
        "## How to change it",
        *_changes(settings),
    ]
    return "\n\n".join(sections) + "\n"


def index(stacks: Iterable[Settings]) -> str:
    """Return the page that lists all others."""
    rows = [
        (
            f"[`{item.stack}`]({item.stack}.md)",
            _clouds(item),
            f"`{item.model.name}`",
            _first_sentence(item.stack),
        )
        for item in stacks
    ]
    return (
        "\n\n".join(
            [
                "# The stacks that ship",
                _INDEX,
                _table(("Stack", "Where", "Model", "What it is for"), rows),
            ]
        )
        + "\n"
    )


def about(stack: str) -> str:
    """Return what the first lines of a stack file say, as one paragraph."""
    text = (STACKS_FOLDER / f"Pulumi.{stack}.yaml").read_text()
    lines = re.match(r"(?:#.*\n)*", text)
    return " ".join(line.removeprefix("#").strip() for line in (lines.group() if lines else "").splitlines())


def _first_sentence(stack: str) -> str:
    return re.split(r"(?<=[.;])\s", about(stack), maxsplit=1)[0].rstrip(".;")


def _clouds(settings: Settings) -> str:
    where = " and ".join(_CLOUDS[target] for target in settings.targets)
    return f"{where}, both on this machine" if settings.stack == LOCAL else where


def _facts(settings: Settings) -> list[tuple[str, str]]:
    served, model = spec(settings), settings.model
    routes = ", ".join(f"`{route}`" for route in served.routes)
    names = ", ".join(f"`{name}`" for name in model.request_names)
    revision = f" at `{model.revision[:12]}`" if model.revision else ""
    server = f"`{settings.image.reference}`" if settings.server else "vLLM, in the image that `image/` builds"
    rows = [
        ("Where", f"{_clouds(settings)}; AWS region {settings.aws.region}"),
        ("Model", f"`{model.name}`{revision}; in requests {names}"),
        ("Serves", f"{model.task}: {routes}"),
        ("Server", server),
    ]
    if settings.eks is not None and "eks" in settings.targets:
        rows += [
            (f"EKS, group `{name}`", _group(group)) for name, group in settings.eks.gpu_node_groups.items()
        ]
        scaling = settings.eks.autoscaling
        count = (
            f"{scaling.min_replicas} to {scaling.max_replicas}, by load" if scaling else settings.eks.replicas
        )
        rows.append(("Replicas on EKS", f"{count}, of {_gpus(settings.gpu_count)} each"))
    if settings.runpod is not None and "runpod" in settings.targets:
        runpod = settings.runpod
        workers = f"{runpod.workers_min} to {runpod.workers_max} workers of {_gpus(settings.gpu_count)} each,"
        idle = f"a worker without work stops after {runpod.idle_timeout_seconds} s"
        rows.append(
            (
                "RunPod",
                f"{workers} in {' or '.join(runpod.gpu_pools)}; `{runpod.endpoint_type}`; {idle}",
            )
        )
    return rows


def _group(group: Any) -> str:
    size = f"{group.min} to {group.max} machines, {group.desired} at first"
    return f"{' or '.join(group.instance_types)}, {group.capacity_type.lower().replace('_', '-')}; {size}"


def _gpus(count: int) -> str:
    return "one GPU" if count == 1 else f"{count} GPUs"


def _made(graph: Graph) -> list[str]:
    parts = parts_of(graph)
    kinds = {
        part: Counter(_kind(graph.resources[urn].type) for urn in parts if parts[urn] is part)
        for part in PARTS
    }
    rows = [
        (
            part.title,
            counted.total(),
            ", ".join(_times(kind, count) for kind, count in sorted(counted.items())),
        )
        for part, counted in kinds.items()
        if counted
    ]
    components = sum(not item.custom for item in graph)
    resources = sum(counted.total() for counted in kinds.values())
    return [
        _MADE.format(resources=resources, components=components),
        _table(("Part", "Resources", "Of these kinds"), rows),
    ]


def _kind(type_: str) -> str:
    """Return a type without what repeats itself: `ec2.Subnet`, `apps/v1 Deployment`, `runpod.Endpoint`."""
    package, module, name = type_.split(":")
    if package == "kubernetes":
        return f"{module} {name}"
    return f"{module.split('/')[0]}.{name}" if package == "aws" else f"{module.rpartition('/')[2]}.{name}"


def _times(kind: str, count: int) -> str:
    return kind if count == 1 else f"{count} × {kind}"


def _plan(found: Plan) -> list[str]:
    load = found.load
    sources = found.prices.sources
    spot = f"; spot: {sources['spot']}" if any(item.capacity == "SPOT" for item in found.chosen) else ""
    rows = [
        (
            _CLOUDS[item.target],
            f"{item.name} ({item.fit.gpu.name}){' spot' if item.capacity == 'SPOT' else ''}",
            _usd(item.usd_per_hour, 2),
            f"{item.throughput.requests_per_second * load.tokens:,.0f}" if item.throughput else "",
            _usd(item.usd_per_million_tokens(load), 3),
            item.throughput.source if item.throughput else "",
        )
        for item in found.chosen
    ]
    said = [
        _COST.format(
            prompt=load.prompt_tokens,
            output=load.output_tokens,
            aws=f"{sources['aws']}{spot}",
            runpod=sources["runpod"],
            parts=sources["parts"],
        ),
        _table(
            ("Where", "Machine", "USD an hour", "Tokens a second", "USD a million tokens", "Speed is"), rows
        ),
    ]
    if found.settings.stack == LOCAL:
        return [
            _NO_COST,
            *said[1:],
        ]
    return [
        *said,
        f"A month at {_PROFILE.requests_per_hour:,.0f} such requests an hour, day and night:",
        _table(
            ("", "USD", "Of it"),
            [
                (_WAYS[item.way], f"{item.usd:,.0f}", _parts(item.parts, item.problem))
                for item in found.monthly
            ],
        ),
        "## When the first token comes",
        _FIRST_ANSWER,
        *(_first_token(item) for item in found.timelines),
    ]


def _parts(parts: dict[str, float], problem: str) -> str:
    text = ", ".join(f"{name} {cost:,.0f}" for name, cost in parts.items())
    return f"{text}: {problem}" if problem else text


def _first_token(timeline: Timeline) -> str:
    rows = [(step.name, f"{step.starts:.1f}", f"{step.minutes:.1f}", step.source) for step in timeline.steps]
    title = f"**{_CLOUDS[timeline.target]}: {timeline.minutes:.0f} minutes.**"
    return f"{title}\n\n{_table(('Step', 'Begins at', 'Minutes', 'Says who'), rows)}"


def _cost_of_another_server(settings: Settings, graph: Graph) -> list[str]:
    document = other_server.document(settings, offline=True)
    system = settings.require_eks().system_nodes.instance_types
    prices = price_list.read(settings.aws.region, instance_types=system, spot_types=(), offline=True)
    fixed = fixed_costs(settings, graph, prices)
    rows = [
        (_CLOUDS[item["target"]], f"{item['name']} ({item['gpu']})", _usd(item["usd_per_hour"], 2))
        for item in document["chosen"]
    ]
    return [
        _COST_OF_ANOTHER_SERVER.format(**document["prices"]),
        _table(("Where", "Machine", "USD an hour"), rows),
        f"What EKS costs a month beside GPU machines, {sum(fixed.values()):,.0f} USD: {_parts(fixed, '')}.",
    ]


def _changes(settings: Settings) -> list[str]:
    said = [_CHANGE.format(stack=settings.stack)]
    for edit in edits(settings):
        also = "".join(f" Take `{path.partition('.')[2]}` away." for path in edit.removed)
        said.append(f"{edit.aim}.{also}\n\n```yaml\n{edit.text()}```")
    return said


def _usd(value: float | None, digits: int) -> str:
    return "?" if value is None else f"{value:.{digits}f}"


def _table(heads: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> str:
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "\n".join(
        f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in line)} |" for line in lines
    )
