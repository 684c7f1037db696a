"""Reads the fields of a job's input, and says which is wrong and what would be right."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from queue_door.errors import JobError

_NAMES = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}


def described(value: object) -> str:
    """Return what JSON calls a value's type."""
    return _NAMES.get(type(value), "a number")


class Fields:
    """The fields of an input. Those that are read are taken out; what is left goes on to vLLM as it is.

    A field that is null is as if it were not there: clients write so what they have nothing to say about.
    """

    def __init__(self, given: dict[str, Any]) -> None:
        self.rest = {name: value for name, value in given.items() if value is not None}

    def __contains__(self, name: str) -> bool:
        return name in self.rest

    def text(self, name: str, default: str | None = None) -> str:
        """Take a string that is not empty.

        Raises:
            JobError: it is missing and has no default, or is no string, or is empty.
        """
        value = self.rest.pop(name, default)
        if value is None:
            raise wrong(name, "is missing: give a string")
        if not isinstance(value, str):
            raise wrong(name, f"must be a string, not {described(value)}")
        if not value.strip():
            raise wrong(name, "is empty")
        return value

    def texts(self, name: str) -> list[str]:
        """Take a list of strings, or one string as a list of one.

        Raises:
            JobError: it is missing, empty, or something else.
        """
        value = self.rest.pop(name, None)
        if value is None:
            raise wrong(name, "is missing: give a list of strings, or one string")
        if isinstance(value, str):
            value = [value]
        if not isinstance(value, list):
            raise wrong(name, f"must be a list of strings, or one string, not {described(value)}")
        if not value:
            raise wrong(name, "is empty: give at least one string")
        for index, item in enumerate(value):
            if not isinstance(item, str):
                raise wrong(f"{name}[{index}]", f"must be a string, not {described(item)}")
            if not item.strip():
                raise wrong(f"{name}[{index}]", "is empty")
        return value

    def flag(self, name: str, *, default: bool) -> bool:
        """Take true or false.

        Raises:
            JobError: it is something else.
        """
        value = self.rest.pop(name, default)
        if not isinstance(value, bool):
            raise wrong(name, f"must be true or false, not {described(value)}")
        return value

    def whole(self, name: str, default: int) -> int:
        """Take a whole number of 1 or more.

        Raises:
            JobError: it is something else.
        """
        value = self.rest.pop(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            given = value if isinstance(value, int | float) else described(value)
            raise wrong(name, f"must be a whole number of 1 or more, not {given}")
        return value

    def one_of(self, name: str, allowed: tuple[str, ...], default: str | None = None) -> str:
        """Take one of some words, in any case.

        Raises:
            JobError: it is missing and has no default, or is none of them.
        """
        value = self.text(name, default)
        for word in allowed:
            if word.lower() == value.lower():
                return word
        raise wrong(name, f"is {value!r}: it must be one of {', '.join(allowed)}")

    def file(self, name: str) -> bytes:
        """Take a file in base64, with or without `data:…;base64,` before it.

        Raises:
            JobError: it is missing, empty, or no base64.
        """
        return decoded(name, self.text(name))


def decoded(name: str, text: str) -> bytes:
    """Return the bytes that a field holds in base64."""
    try:
        found = base64.b64decode("".join(text.rpartition(";base64,")[2].split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise wrong(name, f"is not base64: {error}") from error
    if not found:
        raise wrong(name, "is empty")
    return found


def wrong(name: str, words: str) -> JobError:
    """Return the error of a field."""
    return JobError(f"input.{name} {words}", param=name)
