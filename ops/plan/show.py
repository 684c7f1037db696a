"""A plan as people read it: the model, the machines, the costs, and a chart of the way to the first token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from ops.plan.memory import GIB, MARGIN

if TYPE_CHECKING:
    from ops.plan.assembly import Plan
    from ops.plan.candidates import Candidate
    from ops.plan.memory import Fit
    from ops.plan.monthly import Monthly
    from ops.plan.throughput import Load
    from ops.plan.timeline import Timeline

_CHART_WIDTH = 50
_CLOUDS = {"eks": "EKS", "runpod": "RunPod"}


def shown(plan: Plan) -> Group:
    """Return all of a plan."""
    parts: list[Table | Text] = [Text(line) for line in _model(plan)]
    parts += [Text(), _machines(plan), *_too_small(plan), Text(_prices(plan), "dim")]
    if plan.monthly:
        parts += [Text(), _costs(plan)]
    for timeline in plan.timelines:
        parts += [Text(), _chart(timeline)]
    parts += [Text()]
    parts += [Text(problem, "bold red") for problem in plan.problems]
    if not plan.problems:
        names = ", ".join(dict.fromkeys(item.name for item in plan.chosen))
        parts.append(Text(f"fits: {plan.settings.model.name} on {names}", "bold green"))
    return Group(*parts)


def machines_of_another_server(document: dict[str, Any]) -> Group:
    """Return the plan of a stack that another server than vLLM serves."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("where", "machine", "GPU", "USD/h"):
        table.add_column(heading, no_wrap=True)
    for item in document["chosen"]:
        price = "?" if item["usd_per_hour"] is None else f"{item['usd_per_hour']:.2f}"
        table.add_row(_CLOUDS[item["target"]], item["name"], item["gpu"], price)
    return Group(table, Text(), *(Text(problem, "bold red") for problem in document["problems"]))


def _model(plan: Plan) -> list[str]:
    architecture, weights = plan.demand.architecture, plan.demand.weights
    active = ""
    if architecture.active < architecture.parameters * 0.8:
        active = f", {architecture.active / 1e9:.2f} billion of them for each token"
    name = (
        f"{plan.settings.model.name}: {architecture.parameters / 1e9:.2f} billion parameters{active}"
        f" ({architecture.name}; from {plan.model.source})"
    )
    lines = [
        name,
        f"weights: {weights.total_bytes / GIB:.2f} GiB, {weights.format}, from {weights.source}",
    ]
    if not architecture.is_decoder:
        lines.append("no KV cache: every text is read once and at once; sequences are those of a batch")
    by_gpu = {item.fit.gpu.name: item.fit for item in plan.chosen}
    return lines + [_division(fit) for fit in by_gpu.values()]


def _division(fit: Fit) -> str:
    share = f"one of {fit.tensor_parallel_size} GPUs" if fit.tensor_parallel_size > 1 else "one GPU"
    text = (
        f"{share}, {fit.gpu.name}: {fit.usable_bytes / GIB:.1f} GiB usable = weights "
        f"{fit.weights_bytes / GIB:.1f} + activations {fit.activations_bytes / GIB:.1f} + graphs "
        f"{fit.graphs_bytes / GIB:.1f} + CUDA {fit.overhead_bytes / GIB:.1f} + margin of {MARGIN:.0%} "
        f"{fit.margin_bytes / GIB:.1f} + {'KV cache' if fit.cache else 'free'} {fit.cache_bytes / GIB:.1f}"
    )
    if fit.cache and fit.fits:
        text += f": {fit.token_bytes / 1024:.0f} KiB a token, {fit.cache_tokens:,} tokens"
    return text


def _machines(plan: Plan) -> Table:
    load = plan.load
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    longest = plan.demand.max_model_len
    numbers = ("replicas", f"× {longest:,}", f"× {load.tokens:,}", "tokens/s", "USD/h", "USD/M")
    for heading in ("", "where", "machine", "GPUs"):
        table.add_column(heading, no_wrap=True)
    for heading in numbers:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("")
    for item in plan.candidates:
        if item.fit.fits:
            table.add_row(*_row(item, load), style="bold" if item.chosen else "")
    return table


def _too_small(plan: Plan) -> list[Text]:
    """Return a line for each reason why machines do not hold the model, with these machines."""
    by_reason: dict[str, list[str]] = {}
    for item in plan.candidates:
        if not item.fit.fits and not item.chosen:
            by_reason.setdefault(item.fit.problem, []).append(item.name)
    return [Text(f"not on {', '.join(names)}: {reason}", "dim") for reason, names in by_reason.items()]


def _row(item: Candidate, load: Load) -> list[str]:
    fit = item.fit
    name = item.name if item.capacity != "SPOT" else f"{item.name} spot"
    first = [
        "→" if item.chosen else "",
        _CLOUDS[item.target],
        name,
        f"{fit.tensor_parallel_size} × {fit.gpu.name}",
    ]
    price = "?" if item.usd_per_hour is None else f"{item.usd_per_hour:.2f}"
    cost = item.usd_per_million_tokens(load)
    at_max = f"{fit.sequences_at_max:.1f}" if fit.sequences_at_max is not None else str(fit.batch_sequences)
    served = item.throughput
    return [
        *first,
        str(item.replicas),
        at_max,
        str(fit.room(load.tokens)),
        f"{served.requests_per_second * load.tokens:,.0f}" if served else "",
        price,
        "?" if cost is None else f"{cost:.3f}",
        served.source if served else f"no room for {load.tokens} tokens",
    ]


def _prices(plan: Plan) -> str:
    sources = plan.prices.sources
    spot = f"; spot: {sources['spot']}" if any(item.capacity == "SPOT" for item in plan.chosen) else ""
    notes = "".join(f"\n{note}" for note in plan.prices.notes)
    return (
        f"GPUs: of a replica; replicas: of a machine; × {plan.demand.max_model_len:,} and "
        f"× {plan.load.tokens:,}: sequences of so many tokens at once; tokens/s: of a replica with its batch "
        f"full, {plan.load.prompt_tokens} in and {plan.load.output_tokens} out of each request;\n"
        f"USD/M: of a million of these tokens. A pool counts by the worst of its GPUs.\n"
        f"prices: EC2: {sources['aws']}{spot}; RunPod: {sources['runpod']}; "
        f"the rest: {sources['parts']}{notes}"
    )


def _costs(plan: Plan) -> Table:
    profile = plan.profile
    title = (
        f"a month at {profile.requests_per_hour:,.0f} requests an hour, {profile.hours_per_day:g} hours a day"
    )
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", title=title, title_justify="left")
    table.add_column("", no_wrap=True)
    table.add_column("USD", justify="right", no_wrap=True)
    table.add_column("of it")
    for item in plan.monthly:
        table.add_row(_WAYS[item.way], f"{item.usd:,.0f}", _parts(item))
    return table


_WAYS = {"eks": "EKS alone", "runpod": "RunPod alone", "mix": "EKS, and RunPod for the rest"}


def _parts(item: Monthly) -> str:
    text = ", ".join(f"{name} {cost:,.0f}" for name, cost in item.parts.items())
    return f"{text}: {item.problem}" if item.problem else text


def _chart(timeline: Timeline) -> Table:
    """A Gantt chart: a row for each step, its bar where and as long as it takes."""
    title = f"first token on {_CLOUDS[timeline.target]}: {timeline.minutes:.0f} minutes after `up` begins"
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", title=title, title_justify="left")
    table.add_column("step", no_wrap=True)
    table.add_column("minutes", justify="right", no_wrap=True)
    table.add_column(f"0{f'{timeline.minutes:.0f}'.rjust(_CHART_WIDTH - 1)}", no_wrap=True)
    table.add_column("")
    scale = _CHART_WIDTH / timeline.minutes
    for step in timeline.steps:
        begin = min(round(step.starts * scale), _CHART_WIDTH - 1)
        length = max(1, round((step.starts + step.minutes) * scale) - begin)
        bar = Text(" " * begin + "█" * length, "cyan")
        table.add_row(step.name, f"{step.minutes:.1f}", bar, Text(step.source, "dim"))
    return table
