"""Figures as people read them, with their units."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

NONE = "–"


def when(at: datetime) -> str:
    """Return a time to the second, in UTC."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def duration(seconds: float | None) -> str:
    """Return how long something took."""
    if seconds is None:
        return NONE
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def number(value: float | None, digits: int = 0) -> str:
    """Return a number, its thousands apart."""
    return NONE if value is None else f"{value:,.{digits}f}"


def significant(value: float | None) -> str:
    """Return a number with three digits that matter."""
    if value is None:
        return NONE
    if abs(value) >= 100 or value == 0:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 1 else f"{value:.3g}"


def milliseconds(seconds: float | None) -> str:
    """Return seconds in milliseconds, without the unit."""
    return NONE if seconds is None else significant(seconds * 1000)


def usd(value: float | None, digits: int = 2) -> str:
    """Return an amount."""
    return NONE if value is None else f"${value:,.{digits}f}"


def percent(share: float | None) -> str:
    """Return a share, with enough digits for a small one."""
    if share is None:
        return NONE
    if share in (0, 1):
        return f"{share:.0%}"
    return f"{share:.1%}" if share >= 0.001 else f"{share:.3%}"
