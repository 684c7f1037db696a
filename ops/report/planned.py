"""The plan of a stack beside what was measured of it: memory, throughput and price."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ops.change_records import settings_in_file
from ops.errors import OpsError
from ops.plan import assembly, throughput
from ops.plan.memory import GIB, MARGIN
from ops.plan.monthly import Profile
from ops.plan.throughput import Load
from ops.report import figures
from ops.report.benched import rows_of
from ops.report.blocks import Facts, Section, Table, Text
from ops.report.deployed import CLOUDS
from ops.stacks import LOCAL

if TYPE_CHECKING:
    from infra.settings import Settings
    from ops.plan.assembly import Plan
    from ops.plan.candidates import Candidate
    from ops.report.blocks import Block
    from ops.report.evidence import Evidence
    from ops.report.shapes import BenchRow

REQUESTS_PER_HOUR, HOURS_PER_DAY = 1000.0, 24.0
"""The load of a month, as of `berth plan` where nobody says another."""


@dataclass(frozen=True)
class Planned:
    """A plan, or why there is none.

    Args:
        plan: of the stack file as it is now.
        problem: why there is none.
        changed: the keys of the stack file that are not as they were deployed.
    """

    plan: Plan | None
    problem: str = ""
    changed: tuple[str, ...] = ()


def planned(settings: Settings, evidence: Evidence, *, offline: bool) -> Planned:
    """Plan a stack.

    Args:
        settings: of its file.
        evidence: which has the settings that were deployed.
        offline: ask neither a hub nor a cloud.
    """
    if settings.server is not None:
        return Planned(None, "another server than vLLM: nothing is known of what it needs")
    deployed = evidence.settings
    now = settings_in_file(settings.stack)
    keys = sorted({*now, *deployed} if deployed is not None else ())
    changed = tuple(key for key in keys if deployed is not None and now.get(key) != deployed.get(key))
    load = Load.of(settings.model.task, settings.model.max_model_len, None, None)
    try:
        profile = Profile(REQUESTS_PER_HOUR, HOURS_PER_DAY)
        return Planned(assembly.plan(settings, load, profile, offline=offline), changed=changed)
    except OpsError as error:
        return Planned(None, str(error), changed)


def section(evidence: Evidence, found: Planned) -> Section:
    """Return the part."""
    blocks: list[Block] = []
    plan = found.plan
    if plan is None:
        blocks.append(Text(f"There is no plan: {found.problem}.", "warn"))
        return Section("plan", "Plan against measured", blocks)
    if found.changed:
        blocks.append(
            Text(
                f"The stack file has changed since it was deployed ({', '.join(found.changed)}): the plan"
                " is of the file as it is now.",
                "warn",
            )
        )
    if evidence.stack == LOCAL:
        blocks.append(
            Text(
                "The servers of this stack run on this machine's processors, with a stand-in for the model"
                " where no hub answers, and the plan is of the GPUs that the stack file names: what was"
                " measured here says nothing about them.",
                "warn",
            )
        )
    blocks += [Text(problem, "bad") for problem in plan.problems]
    architecture, weights = plan.demand.architecture, plan.demand.weights
    blocks.append(
        Facts(
            [
                ("Parameters", f"{architecture.parameters / 1e9:.2f} billion ({architecture.name})"),
                ("Weights", f"{weights.total_bytes / GIB:.2f} GiB, {weights.format}"),
                ("Source of both", plan.model.source),
                ("Prices", f"EC2: {plan.prices.sources['aws']}; RunPod: {plan.prices.sources['runpod']}"),
            ]
        )
    )
    blocks += [_memory(plan), *_cache(evidence, plan), *_throughput(evidence, plan)]
    return Section("plan", "Plan against measured", blocks)


def _memory(plan: Plan) -> Table:
    rows = [
        (
            item.name,
            f"{item.fit.tensor_parallel_size} × {item.fit.gpu.name}",
            "yes" if item.fit.fits else f"no: {item.fit.problem}",
            *(
                f"{value / GIB:.1f}"
                for value in (
                    item.fit.usable_bytes,
                    item.fit.weights_bytes,
                    item.fit.activations_bytes + item.fit.graphs_bytes + item.fit.overhead_bytes,
                    item.fit.margin_bytes,
                    item.fit.cache_bytes,
                )
            ),
        )
        for item in plan.chosen
    ]
    headings = ("Machine", "A replica", "Fits", "Usable, GiB", "Weights", "Activations, graphs, CUDA")
    cache = "KV cache" if plan.demand.architecture.is_decoder else "Free"
    title = "Memory of each GPU as planned"
    return Table(title, (*headings, f"Margin of {MARGIN:.0%}", cache), rows, left=3)


def _cache(evidence: Evidence, plan: Plan) -> list[Block]:
    """Compare the KV cache with what vLLM said in the last smoke test."""
    if not plan.demand.architecture.is_decoder:
        return []
    said = {
        platform: tokens
        for kept in evidence.smokes
        for platform, tokens in kept.said.kv_cache_tokens.items()
        if tokens is not None
    }
    rows = [
        (
            CLOUDS[item.target],
            item.name,
            figures.number(item.fit.cache_tokens if item.fit.fits else 0),
            figures.number(said.get(item.target)),
            _difference(plan, said.get(item.target), item.fit.cache_tokens),
        )
        for item in plan.chosen
    ]
    blocks: list[Block] = [
        Table(
            "Tokens that the KV cache of a replica has room for",
            ("Where", "Machine", "Planned", "vLLM said", "Difference"),
            rows,
            left=2,
        )
    ]
    if not said:
        blocks.append(
            Text(
                f"What vLLM says of its cache is read by `./berth smoke --stack {evidence.stack}`.", "missing"
            )
        )
    return blocks


def _difference(plan: Plan, measured: float | None, expected: float | None) -> str:
    # A processor is no measure of a GPU.
    if measured is None or not expected or plan.settings.stack == LOCAL:
        return figures.NONE
    # Adding zero makes a minus of what is rounded to nothing a plus.
    return f"{round(measured / expected - 1, 2) + 0.0:+.0%}"


def _throughput(evidence: Evidence, plan: Plan) -> list[Block]:
    rows = []
    for (platform, kind), measured in rows_of(evidence).items():
        best = max(measured.values(), key=lambda row: row.tokens_per_second or 0)
        work = best.workload
        if work is None or best.tokens_per_second is None:
            continue
        if len(work.prompt_tokens) != 1 or work.batch_size != 1:
            continue  # the plan is of requests that are alike
        load = Load(work.prompt_tokens[0], work.output_tokens)
        rows += [
            _compared(plan, item, load, f"{kind}, {work.concurrency} at once", best)
            for item in plan.chosen
            if item.target == platform
        ]
    if not rows:
        return [
            Text("No throughput of one kind of request was measured to compare the plan with.", "missing")
        ]
    headings = (
        "Where",
        "Machine",
        "Request",
        "Planned, tokens/s",
        "Measured",
        "Difference",
        "Planned, USD per million",
        "Measured",
    )
    title = "Throughput and price of a replica, tokens of prompts and answers together"
    return [Table(title, headings, rows, left=3)]


def _compared(plan: Plan, item: Candidate, load: Load, kind: str, best: BenchRow) -> tuple[str, ...]:
    served = throughput.of(plan.demand, item.fit, load, plan.settings.model.name) if item.fit.fits else None
    expected = served.requests_per_second * load.tokens if served else None
    price = item.usd_per_replica_hour
    cost = price / 3600 / expected * 1e6 if price is not None and expected else None
    measured = (best.tokens_per_second or 0) / (best.replicas or 1)
    return (
        CLOUDS[item.target],
        item.name,
        kind,
        f"{figures.number(expected)} ({served.source})" if served else figures.NONE,
        figures.number(measured),
        _difference(plan, measured, expected),
        figures.usd(cost, 3),
        figures.NONE if plan.settings.stack == LOCAL else figures.usd(best.usd_per_million_tokens, 3),
    )
