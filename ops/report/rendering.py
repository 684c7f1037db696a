"""Writes a report as one page of HTML and as Markdown, from the same blocks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from ops.report.charts import SERIES, style, svg
from ops.report.figures import significant

if TYPE_CHECKING:
    from ops.report.blocks import Chart, Report

_CODE = re.compile(r"`([^`]+)`")
_MOST_ROWS = 16  # of a chart's figures in Markdown: a load has thousands


def html(report: Report) -> str:
    """Return the page: everything is in it, and it asks nobody for anything."""
    return _environment(autoescape=True).get_template("page.html.j2").render(report=report)


def markdown(report: Report) -> str:
    """Return the same content as Markdown, the charts as tables of their points."""
    text = _environment(autoescape=False).get_template("page.md.j2").render(report=report)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _environment(*, autoescape: bool) -> Environment:
    environment = Environment(
        loader=PackageLoader("ops.report"),
        autoescape=autoescape,  # noqa: S701  # Markdown escapes in its own way: see _plain
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "inline": _inline,
        "svg": svg,
        "points": points,
        "plain": _plain,
        "cell": _cell,
    }
    environment.globals |= {"style": style, "series": range(1, SERIES + 1)}
    return environment


def _inline(text: str) -> Markup:
    """Escape a text, and make what is in backticks code."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704  # it is escaped


def _plain(text: str) -> str:
    """Return a text that Markdown takes as it is: what is not in backticks opens no tag and no emphasis."""
    parts = re.split(r"(`[^`]+`)", " ".join(text.split()))
    return "".join(
        part if part.startswith("`") else re.sub(r"([\\<*_\[\]])", r"\\\1", part) for part in parts
    )


def _cell(text: str) -> str:
    return _plain(text).replace("|", r"\|")


def points(chart: Chart, most: int = _MOST_ROWS) -> list[tuple[str, ...]]:
    """Return a chart's figures as rows: x, and the y of each line there.

    Args:
        chart: which.
        most: how many rows at most; of more, as many at the same distance from each other.
    """
    by_x: dict[float, list[float | None]] = {}
    for index, line in enumerate(chart.lines):
        for x, y in line.points:
            by_x.setdefault(x, [None] * len(chart.lines))[index] = y
    xs = sorted(by_x)
    if len(xs) > most:
        xs = [xs[round(index * (len(xs) - 1) / (most - 1))] for index in range(most)]
    return [(significant(x), *(significant(y) for y in by_x[x])) for x in xs]
