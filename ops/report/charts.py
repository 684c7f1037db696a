"""Draws a chart as SVG whose colours are the page's, so that one picture serves light, dark and paper."""

from __future__ import annotations

import io
import re
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ops.report.blocks import Chart, Line

# Colours that stand for variables of the page's style, which a picture of its own could not name.
_TEXT, _RULE = "#010203", "#010204"
SERIES = 6
_SERIES_COLOURS = tuple(f"#0a0b{index:02x}" for index in range(1, SERIES + 1))
_VARIABLES = {
    _TEXT: "var(--muted)",
    _RULE: "var(--rule)",
    **{colour: f"var(--series-{index})" for index, colour in enumerate(_SERIES_COLOURS, 1)},
}
DASHES = ("solid", "dashed", "dotted")
_MATPLOTLIB_DASHES = {"solid": "-", "dashed": (0, (4, 2)), "dotted": (0, (1, 1.5))}
# Inches of 100 pixels: as wide as a telephone's screen, so that letters are read there at their size.
_SIZE = (4.1, 2.5)
_MARKED = 24  # a line of more points is seen well enough without a mark on each


def style(index: int) -> tuple[int, str]:
    """Return the number of the colour and the dashes of a line: no two of the first 18 have both.

    Args:
        index: of the line in its chart, from 0.
    """
    return index % SERIES + 1, DASHES[index // SERIES % len(DASHES)]


def svg(chart: Chart) -> Markup:
    """Return a chart as an `svg` element, which refers to nothing outside of itself.

    Args:
        chart: with at least one point that has a y.
    """
    settings: Any = {
        "svg.fonttype": "none",  # letters stay letters, in the page's font
        "svg.hashsalt": sha256(
            f"{chart.title} {chart.x_label}".encode()
        ).hexdigest(),  # else two pictures share ids
        "font.size": 8,
        "text.color": _TEXT,
        "axes.labelcolor": _TEXT,
        "axes.edgecolor": _RULE,
        "xtick.color": _TEXT,
        "ytick.color": _TEXT,
        "grid.color": _RULE,
    }
    with rc_context(settings):
        figure = Figure(figsize=_SIZE, layout="constrained")
        axes = figure.subplots()
        for index, line in enumerate(chart.lines):
            _draw(axes, index, line)
        _scale(axes, chart)
        drawn = io.StringIO()
        figure.savefig(drawn, format="svg", transparent=True)
    return Markup(_inline(drawn.getvalue(), f"{chart.title}: {chart.y_label} over {chart.x_label}"))  # noqa: S704


def _draw(axes: Axes, index: int, line: Line) -> None:
    colour, dashes = style(index)
    axes.plot(
        [x for x, _ in line.points],
        [float("nan") if y is None else y for _, y in line.points],
        color=_SERIES_COLOURS[colour - 1],
        linestyle=_MATPLOTLIB_DASHES[dashes],
        linewidth=1.6,
        marker="o" if len(line.points) <= _MARKED else "",
        markersize=3.5,
        clip_on=False,
    )


def _scale(axes: Axes, chart: Chart) -> None:
    axes.set_xlabel(chart.x_label)
    # Beside the axis it would be turned, and take width from the lines.
    axes.set_title(chart.y_label, loc="left", fontsize=8, color=_TEXT)
    axes.grid(axis="y", linewidth=0.6)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0)
    axes.tick_params(axis="x", length=3)
    highest = max(y for line in chart.lines for _, y in line.points if y is not None)
    axes.set_ylim(0, chart.y_limit or (highest * 1.08 if highest > 0 else 1))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    xs = sorted({x for line in chart.lines for x, _ in line.points})
    if chart.x_doubles:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_locator(FixedLocator(xs))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    else:
        axes.set_xlim(0, xs[-1] or 1)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))


def _inline(drawn: str, label: str) -> str:
    """Return a picture as part of a page: no declarations, sizes, names of namespaces or shared ids."""
    picture = drawn[drawn.index("<svg") :]
    # Its style would be the whole page's, and its font is the page's.
    picture = re.sub(r"<(metadata|style).*?</\1>\s*", "", picture, flags=re.DOTALL)
    picture = re.sub(r" font-family: [^;]*;", "", picture)
    view = re.search(r'viewBox="[^"]*"', picture)
    if view is None:
        raise ValueError("matplotlib's picture has no viewBox")
    picture = re.sub(
        r"<svg.*?>",
        f'<svg {view[0]} role="img" aria-label="{escape(label)}">',
        picture,
        count=1,
        flags=re.DOTALL,
    )
    picture = re.sub(r'<g id="[^"]*"', "<g", picture)
    for colour, variable in _VARIABLES.items():
        picture = picture.replace(colour, variable)
    return re.sub(r"\n\s*", "\n", picture)
