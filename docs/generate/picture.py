"""docs/architecture.svg: the parts of a stack on a grid, each with an arrow to what it waits for."""

from __future__ import annotations

from collections import Counter
from html import escape
from typing import TYPE_CHECKING

from docs.generate.groups import PARTS, needs, parts_of

if TYPE_CHECKING:
    from docs.generate.groups import Part
    from ops.graph.record import Graph

_WIDTH, _HEIGHT = 184, 64  # of a box
_ACROSS, _DOWN = 220, 112  # from one box to the next
_LEFT, _TOP = 32, 68
_RUNPOD_BELOW = 36  # RunPod's frame is apart from AWS's
_CORNER = 8

# The page that shows the picture may be light or dark, and the picture asks which.
_STYLE = """\
text { font-family: system-ui, -apple-system, "Segoe UI", Arial, sans-serif; fill: #1f2328; }
.page { fill: #ffffff; }
.aws { fill: #fff8ef; stroke: #c77700; }
.kubernetes { fill: #eef3ff; stroke: #326ce5; }
.runpod { fill: #f5effd; stroke: #7a3fd0; }
.box { fill: #ffffff; stroke: #57606a; }
.zone { font-size: 15px; font-weight: 600; }
.title { font-size: 15px; font-weight: 600; text-anchor: middle; }
.holds { font-size: 12.5px; text-anchor: middle; }
.edge { fill: none; stroke: #57606a; stroke-width: 1.6; marker-end: url(#arrow); }
.arrow { fill: #57606a; }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3; }
.page { fill: #0d1117; }
.aws { fill: #221a0e; stroke: #d9963a; }
.kubernetes { fill: #101b33; stroke: #6c9bff; }
.runpod { fill: #1d1430; stroke: #b48cff; }
.box { fill: #161b22; stroke: #9198a1; }
.edge { stroke: #9198a1; }
.arrow { fill: #9198a1; }
}"""

_ARROW = (
    '<defs><marker id="arrow" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
    'orient="auto"><path class="arrow" d="M0 0L10 5L0 10z"/></marker></defs>'
)


def svg(graph: Graph, stack: str) -> str:
    """Return the picture.

    Args:
        graph: the stack's, all of whose parts have a place.
        stack: its name.
    """
    counts = Counter(parts_of(graph).values())
    drawn = [part for part in PARTS if counts[part]]
    waits = needs(graph)
    edges = [(part, needed) for part in drawn for needed in drawn if needed in waits[part]]
    width = max(_x(part) for part in drawn) + _WIDTH + _LEFT
    height = max(_y(part) for part in drawn) + _HEIGHT + 64
    total = sum(counts[part] for part in drawn)
    caption = (
        f"The stack {stack}: {total} resources. An arrow points at what is made before; destroy goes the "
        "other way."
    )
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
        f"<title>{escape(caption)}</title>",
        f"<style>\n{_STYLE}\n</style>",
        _ARROW,
        f'<rect class="page" width="{width}" height="{height}"/>',
        *_frames(drawn),
        *(_edge(*edge) for edge in edges),
        *(_box(part, counts[part]) for part in drawn),
        f'<text class="holds" x="{width / 2:g}" y="{height - 14}">{escape(caption)}</text>',
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _x(part: Part) -> int:
    return _LEFT + part.column * _ACROSS


def _y(part: Part) -> int:
    return _TOP + part.row * _DOWN + (_RUNPOD_BELOW if part.zone == "RunPod" else 0)


def _frames(drawn: list[Part]) -> list[str]:
    """Return the frames of the clouds; what is inside of another one comes after it."""
    lines = []
    for zone, inside, margin in (
        ("AWS", ("AWS", "Kubernetes"), 24),
        ("Kubernetes", (), 14),
        ("RunPod", (), 24),
    ):
        parts = [part for part in drawn if part.zone in (inside or (zone,))]
        left, top = min(map(_x, parts)) - margin, min(map(_y, parts)) - margin - 20
        right, bottom = max(map(_x, parts)) + _WIDTH + margin, max(map(_y, parts)) + _HEIGHT + margin
        top += 10 if zone == "Kubernetes" else 0
        lines.append(
            f'<rect class="{zone.lower()}" x="{left}" y="{top}" width="{right - left}" '
            f'height="{bottom - top}" rx="{_CORNER}"/>'
        )
        lines.append(f'<text class="zone" x="{left + 12}" y="{top + 19}">{zone}</text>')
    return lines


def _box(part: Part, count: int) -> str:
    x, y, middle = _x(part), _y(part), _x(part) + _WIDTH // 2
    return (
        f'<rect class="box" x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="{_CORNER}"/>'
        f'<text class="title" x="{middle}" y="{y + 27}">{escape(part.title)}</text>'
        f'<text class="holds" x="{middle}" y="{y + 48}">{count}: {escape(part.holds)}</text>'
    )


def _edge(part: Part, needed: Part) -> str:
    """Return a line: straight in a row or column, else through the gap before the other's column."""
    x, y, to_x, to_y = _x(part), _y(part), _x(needed), _y(needed)
    if part.column == needed.column:
        middle = x + _WIDTH // 2
        begin, end = (y + _HEIGHT, to_y) if to_y > y else (y, to_y + _HEIGHT)
        return f'<path class="edge" d="M{middle} {begin}V{end}"/>'
    begin, end = (x + _WIDTH, to_x) if to_x > x else (x, to_x + _WIDTH)
    row, to_row = y + _HEIGHT // 2, to_y + _HEIGHT // 2
    if row == to_row:
        return f'<path class="edge" d="M{begin} {row}H{end}"/>'
    gap = end - (_ACROSS - _WIDTH) // 2 if to_x > x else end + (_ACROSS - _WIDTH) // 2
    return f'<path class="edge" d="M{begin} {row}H{gap}V{to_row}H{end}"/>'
