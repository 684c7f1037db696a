"""Keeps secret values out of the messages of a server that quotes what it refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sandbox.engine.values import Secret

if TYPE_CHECKING:
    from sandbox.engine.values import Properties


def _secrets(value: Any) -> list[str]:
    match value:
        case Secret():
            return _texts(value.value)
        case dict():
            return [text for item in value.values() for text in _secrets(item)]
        case list():
            return [text for item in value for text in _secrets(item)]
    return []


def _texts(value: Any) -> list[str]:
    match value:
        case str():
            return [value]
        case dict():
            return [text for item in value.values() for text in _texts(item)]
        case list():
            return [text for item in value for text in _texts(item)]
        case Secret():
            return _texts(value.value)
    return []


def redacted(words: str, inputs: Properties) -> str:
    """Return a message without the secret values among some inputs."""
    for text in _secrets(inputs):
        if text:
            words = words.replace(text, "[secret]")
    return words
