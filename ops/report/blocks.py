"""What a report is made of, whichever way it is written. In texts, `backticks` are code."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

Tone = Literal["plain", "good", "warn", "bad", "missing"]


@dataclass(frozen=True)
class Text:
    """A sentence or more.

    Args:
        text: itself.
        tone: whether it is good news; "missing" is what no record tells.
    """

    text: str
    tone: Tone = "plain"
    type: Literal["text"] = "text"


@dataclass(frozen=True)
class Facts:
    """Names with their values.

    Args:
        rows: in their order.
    """

    rows: list[tuple[str, str]]
    type: Literal["facts"] = "facts"


@dataclass(frozen=True)
class Table:
    """Rows of cells.

    Args:
        title: what it shows.
        headings: of the columns; a number's has its unit.
        rows: as many cells as headings.
        left: how many columns, from the left, are words; the others are numbers.
    """

    title: str
    headings: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    left: int = 1
    type: Literal["table"] = "table"


@dataclass(frozen=True)
class Code:
    """What is copied rather than read.

    Args:
        title: what it is.
        text: lines.
    """

    title: str
    text: str
    type: Literal["code"] = "code"


@dataclass(frozen=True)
class Line:
    """One series of a chart.

    Args:
        name: as the legend has it.
        points: x and y; y is None where there is a gap.
    """

    name: str
    points: list[tuple[float, float | None]]


@dataclass(frozen=True)
class Chart:
    """Lines over one axis.

    Args:
        title: what it shows.
        x_label, y_label: each with its unit.
        lines: with at least one point between them.
        x_doubles: whether x is a number of requests or the like, whose steps are doublings.
        y_limit: the highest y that there can be.
    """

    title: str
    x_label: str
    y_label: str
    lines: list[Line]
    x_doubles: bool = False
    y_limit: float | None = None
    type: Literal["chart"] = "chart"


@dataclass(frozen=True)
class Charts:
    """Charts beside each other.

    Args:
        charts: at least one.
    """

    charts: list[Chart]
    type: Literal["charts"] = "charts"


Block = Text | Facts | Table | Code | Charts


@dataclass(frozen=True)
class Section:
    """A part of the report.

    Args:
        id: its anchor.
        title: its heading.
        blocks: its content.
    """

    id: str
    title: str
    blocks: list[Block]


@dataclass(frozen=True)
class Tile:
    """A figure that is seen first.

    Args:
        name: what it is.
        value: with its unit.
        note: where it is from.
    """

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Report:
    """All of it.

    Args:
        stack: the stack's name.
        span: the time that it is of.
        verdict: what is to be said first.
        tiles: the figures to be seen first.
        sections: the parts.
        made_at: when it was written.
    """

    stack: str
    span: str
    verdict: Text
    tiles: list[Tile]
    made_at: str
    sections: list[Section] = field(default_factory=list)
