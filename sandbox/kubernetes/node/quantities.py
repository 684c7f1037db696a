"""Reads Kubernetes' quantities ("500m", "2Gi") and writes what a `resourceFieldRef` gives."""

from __future__ import annotations

import math
import re
from decimal import Decimal

_SUFFIXES = {
    "": Decimal(1),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    **{letter: Decimal(1000) ** (index + 1) for index, letter in enumerate("kMGTPE")},
    **{f"{letter}i": Decimal(1024) ** (index + 1) for index, letter in enumerate("KMGTPE")},
}
_QUANTITY = re.compile(r"([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)([a-zA-Z]*)")


def parse(text: str) -> Decimal:
    """Return the number that a quantity stands for.

    Raises:
        ValueError: it is no quantity.
    """
    match = _QUANTITY.fullmatch(text)
    if match is None or match[2] not in _SUFFIXES:
        raise ValueError(f"{text!r} is not a quantity")
    return Decimal(match[1]) * _SUFFIXES[match[2]]


def divide(quantity: str, divisor: str) -> str:
    """Return a quantity in units of the divisor, rounded up to a whole number, as the downward API does."""
    unit = parse(divisor)
    return str(math.ceil(parse(quantity) / (unit or Decimal(1))))
