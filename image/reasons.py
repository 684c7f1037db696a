"""Finds in vLLM's log the line that says why it ended."""

from __future__ import annotations

import re

_PREFIX = re.compile(r"^(?:\([^)]*pid=\d+\) ?)?(?:(?:ERROR|CRITICAL) \S+ \S+ \[[^]]*\] ?)?")
_EXCEPTION = re.compile(r"^(?:[A-Za-z_][\w.]*\.)?(?P<name>[A-Z]\w*(?:Error|Exception|Exit)): (?P<text>.*)")
_USAGE = re.compile(r"^vllm(?: serve)?: error: (?P<text>.+)")
_VALIDATION = re.compile(r"validation errors? for ")
# What vLLM's server says when its engine has failed: the reason is in an earlier line.
_CONSEQUENCE = re.compile(
    r"Engine core initialization failed|EngineDeadError|WorkerProc initialization failed"
)


def find_reason(lines: list[str]) -> str | None:
    """Return the line of vLLM's log that says why it ended, or None.

    The last exception is taken, as it is the one that nothing caught, but for those that only say that
    another process of vLLM has failed: then it is that one's last.
    """
    cleaned = [_PREFIX.sub("", line).rstrip() for line in lines]
    for index in range(len(cleaned) - 1, -1, -1):
        if usage := _USAGE.match(cleaned[index]):
            return usage["text"]
        match = _EXCEPTION.match(cleaned[index])
        if match is None or _CONSEQUENCE.search(cleaned[index]):
            continue
        if _VALIDATION.search(match["text"]):
            # pydantic says what is wrong in the lines below, each followed by the whole input in brackets.
            details = [line.strip() for line in cleaned[index + 1 : index + 4]]
            detail = next((line for line in details if "[type=" in line), "")
            return detail.partition(" [type=")[0].removeprefix("Value error, ") or match["text"]
        return f"{match['name']}: {match['text']}"
    return None
