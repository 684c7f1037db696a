"""The figures as tables for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from ops import console
from ops.bench.compare import figures
from ops.bench.figures import PERCENTILES
from ops.bench.words import in_words, settings_in_words

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ops.bench.compare import Comparison

_Row = dict[str, Any]
_SETTINGS_WIDTH = 26
_SAME = 1.05  # a ratio within it is coloured neither better nor worse: single runs differ by as much
_OF_TIMES = " ".join(f"p{percent}" for percent in PERCENTILES)
# In each: its heading, and what it says of a row; a column of which every row says nothing is left out.
_COLUMNS: tuple[tuple[str, Callable[[_Row], str]], ...] = (
    ("endpoint", lambda row: str(row.get("platform", ""))),
    ("settings", lambda row: settings_in_words(row.get("changes", {}))),
    ("at once", lambda row: str(row["workload"]["concurrency"])),
    ("inputs", lambda row: _above(row["workload"]["batch_size"], 1)),
    ("in", lambda row: "+".join(map(str, row["workload"]["prompt_tokens"]))),
    ("sound s", lambda row: _above(row["workload"]["audio_seconds"], 0)),
    ("out", lambda row: _above(row["workload"]["output_tokens"], 0)),
    (f"TTFT ms\n{_OF_TIMES}", lambda row: _times(row, "ttft_ms")),
    (f"ITL ms\n{_OF_TIMES}", lambda row: _times(row, "itl_ms")),
    (f"whole ms\n{_OF_TIMES}", lambda row: _times(row, "e2e_ms")),
    ("tok/s in", lambda row: _rate(row, "input_tokens_per_second")),
    ("tok/s out", lambda row: _rate(row, "output_tokens_per_second")),
    ("req/s", lambda row: _rate(row, "requests_per_second")),
    ("inputs/s", lambda row: _rate(row, "inputs_per_second") if row["workload"]["batch_size"] > 1 else ""),
    ("errors", lambda row: str(sum(row.get("errors", {}).values()) or "")),
    ("servers", lambda row: "" if row.get("replicas", 1) == 1 else str(row["replicas"])),
    ("$/M tok", lambda row: _rate(row, "usd_per_million_tokens", digits=3)),
    ("", lambda row: "best" if row.get("best") else ""),
)


def table(rows: Sequence[_Row]) -> Table:
    """Return the figures of workloads, one in each line."""
    found = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    columns = [(heading, [say(row) for row in rows]) for heading, say in _COLUMNS]
    columns = [(heading, cells) for heading, cells in columns if any(cells)]
    for heading, _ in columns:
        is_text = heading in {"endpoint", "settings", ""}
        found.add_column(
            heading,
            justify="left" if is_text else "right",
            min_width=_SETTINGS_WIDTH if heading == "settings" else None,
            overflow="fold",  # a figure that is cut would be another figure
            no_wrap=not console.out.is_terminal,
        )
    for index, row in enumerate(rows):
        style = "bold green" if row.get("best") else ""
        found.add_row(*(cells[index] for _, cells in columns), style=style)
    return found


def remarks(rows: Sequence[_Row]) -> list[Text]:
    """Return what there is to say about single rows: errors, what was left out, and whether to trust them."""
    found = []
    for row in rows:
        where = " · ".join(filter(None, (row.get("platform"), settings_in_words(row.get("changes", {})))))
        where = f"{where}: {in_words(row['workload'])}" if "workload" in row else where
        for kind, count in row.get("errors", {}).items():
            detail = row["error_details"].get(kind)
            said = f"{where}: {count} × {kind}" + (f": {detail}" if detail else "")
            found.append(Text(said, "red"))
        if row.get("problem"):
            found.append(Text(f"{where}: {row['problem']}", "red"))
        elif not row.get("complete", True):
            found.append(Text(f"{where}: interrupted: these are the figures until then", "yellow"))
        if row.get("client_cpu_share", 0) > 0.8:
            found.append(
                Text(
                    f"{where}: this machine was busy asking ({row['client_cpu_share']:.0%} of a core): the"
                    " endpoint may do better",
                    "yellow",
                )
            )
    tried = [row for row in rows if "within_bound" in row]
    won = {in_words(row["workload"]) for row in tried if row.get("best")}
    found += [
        Text(f"{name}: no combination is within the bound with every request answered", "yellow")
        for name in dict.fromkeys(in_words(row["workload"]) for row in tried)
        if name not in won
    ]
    return found


def comparison(found: Comparison) -> list[Table | Text]:
    """Return two records side by side: what differs, then the figures of each workload that both have."""
    parts: list[Table | Text] = []
    if found.differences:
        differs = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for heading in ("differs", "A", "B"):
            differs.add_column(heading, overflow="fold", no_wrap=not console.out.is_terminal)
        for name, first, second in found.differences:
            differs.add_row(name, Text(str(first)), Text(str(second)))
        parts += [differs, Text()]
    sides = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("workload", "figure", "A", "B", "B/A"):
        is_text = heading in {"workload", "figure"}
        sides.add_column(heading, justify="left" if is_text else "right", no_wrap=not is_text)
    for name, first, second in found.pairs:
        shown = name
        for label, a, b, ratio, more in figures(first, second):
            better = ratio is not None and ((ratio > _SAME) if more else (ratio < 1 / _SAME))
            worse = ratio is not None and ((ratio < 1 / _SAME) if more else (ratio > _SAME))
            style = "green" if better else "red" if worse else ""
            said = "" if ratio is None else f"{ratio:.2f}"
            sides.add_row(shown, label, f"{a:,.5g}", f"{b:,.5g}", Text(said, style))
            shown = ""
    parts.append(sides)
    for side, names in zip("AB", found.only, strict=True):
        parts += [Text(f"only in {side}: {name}", "yellow") for name in names]
    return parts


def _above(value: int, least: int) -> str:
    return str(value) if value > least else ""


def _times(row: _Row, key: str) -> str:
    times = row.get(key)
    return " ".join(_short(times[f"p{percent}"]) for percent in PERCENTILES) if times else ""


def _short(milliseconds: float) -> str:
    return f"{milliseconds:.{0 if milliseconds >= 100 else 1}f}"


def _rate(row: _Row, key: str, *, digits: int = 1) -> str:
    value = row.get(key)
    return "" if not value else f"{value:,.{0 if value >= 100 else digits}f}"
