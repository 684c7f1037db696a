"""A load for people: what it will be, how it goes, what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from ops import console

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ops.endpoints import Endpoint
    from ops.load.cost import Cost
    from ops.load.order import Order

_HEADINGS = (
    "endpoint", "request", "requests", "failed", "a second", "p50", "p95", "p99", "first token p50", "p99",
    "tokens/s",
)  # fmt: skip
_WAYS = {None: "load balancer", "LOAD_BALANCER": "load balancer", "QUEUE": "queue, by /run and /status"}
_BUSY_PERCENT = 90.0


def announcement(stack: str, order: Order, endpoints: Sequence[Endpoint], costs: Iterable[Cost]) -> list[str]:
    """Return what will be sent, for how long, to where, and what that costs.

    Args:
        stack: the stack's name.
        order: the load.
        endpoints: who is asked.
        costs: what they cost; none of the stack `local`.
    """
    asked = f"requests for the model's task, {order.task}"
    if order.mix is not None:
        kinds = dict.fromkeys(part.said() for part in order.mix.parts)
        asked = f"chat, mix {order.mix.name} ({'; '.join(kinds)})"
    lines = [
        f"Load on the stack {stack}: {asked}.",
        f"{order.users} users, all there in {order.ramp_seconds:g} s, ask again once they are answered.",
        f"Requests are begun for {order.seconds:g} s, and given up after {order.limit_seconds:g} s each.",
        *(
            f"  to {endpoint.platform} ({_WAYS[endpoint.type]}): {endpoint.jobs or endpoint.url}"
            for endpoint in endpoints
        ),
    ]
    said = [f"  {cost.platform}: {cost.said()}" for cost in costs]
    return [*lines, "It costs, load or not, for as long as the machines are there:", *said] if said else lines


def progress(sample: dict[str, Any], platform: str) -> str:
    """Return how it goes at one endpoint, in a line.

    Args:
        sample: of the last two seconds.
        platform: the endpoint's.
    """
    row = sample["platforms"][platform]
    return (
        f"{row['users']} users, {row['requests_per_second']:.1f} requests/s,"
        f" {row['failures_per_second']:.1f} failures/s, p50 {_ms(row['latency_ms'], 'p50')}, p95"
        f" {_ms(row['latency_ms'], 'p95')}, first token {_ms(row['first_token_ms'], 'p50')},"
        f" {row['completion_tokens_per_second']:.0f} tokens/s"
    )


def results(document: dict[str, Any]) -> None:
    """Write what came of a load.

    Args:
        document: as it is kept.
    """
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in _HEADINGS:
        table.add_column(heading, justify="left" if heading in _HEADINGS[:2] else "right")
    for row in document["requests"]:
        latency, first = row["latency_ms"], row["first_token_ms"]
        table.add_row(
            row["platform"],
            row["kind"],
            str(row["requests"]),
            str(row["failed"]),
            f"{row['requests_per_second']:.2f}",
            *(_ms(latency, name) for name in ("p50", "p95", "p99")),
            *(_ms(first, name) for name in ("p50", "p99")),
            f"{row['completion_tokens_per_second']:.1f}" if row["completion_tokens"] else "-",
        )
    console.out.print(table)
    for row in document["requests"]:
        for kind, failure in row["failures"].items():
            example = f", for example: {failure['example']}" if failure["example"] else ""
            console.out.print(
                Text(f"{row['platform']}: {row['kind']}: {failure['count']} x {kind}{example}", "yellow")
            )
    for found in document["engine_problems"]:
        console.note(f"{found['platform']}: not read, {found['count']} times: {found['problem']}")
    busiest = max((sample["cpu_percent"] for sample in document["sender"]), default=0.0)
    if busiest >= _BUSY_PERCENT:
        console.note(
            f"what sends the load was at {busiest:.0f}% of a processor: latencies may be its own, and fewer"
            " users, or several machines that send, tell more"
        )


def _ms(values: dict[str, float] | None, name: str) -> str:
    return "-" if values is None else f"{values[name]:.0f} ms"
