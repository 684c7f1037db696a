"""Starts vLLM with LoRA adapters at pinned commits: `python3 adapters.py vllm serve MODEL ARGUMENTS…`.

vLLM takes an adapter by its repository on the hub and loads whatever commit is newest there. Here its path
may be `organization/name@commit`: that commit is fetched into the hub's cache, and vLLM, whose process this
one becomes, gets the folder. Reads HF_TOKEN and the hub's other variables, as vLLM does.
"""

from __future__ import annotations

import json
import os
import re
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

FLAG = "--lora-modules"
_PINNED = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)@(?P<commit>[0-9a-f]{40})")


def has_pinned(arguments: Sequence[str]) -> bool:
    """Tell whether there is an adapter to fetch among the arguments."""
    return any(_PINNED.search(value) for value in _modules(arguments))


def fetched(arguments: Sequence[str], fetch: Callable[[str, str], str]) -> list[str]:
    """Return the arguments with the folder of each pinned adapter in the place of its repository.

    Args:
        arguments: those of `vllm serve`.
        fetch: takes a repository and a commit, and returns the folder with its files.
    """

    def folder(match: re.Match[str]) -> str:
        # The path stands in JSON.
        return json.dumps(fetch(match["repository"], match["commit"]))[1:-1]

    modules = set(_modules(arguments))
    return [_PINNED.sub(folder, value) if value in modules else value for value in arguments]


def _modules(arguments: Sequence[str]) -> list[str]:
    """Return the values of the flag, which are all that follows it up to the next one."""
    found: list[str] = []
    is_module = False
    for value in arguments:
        if value.startswith("-"):
            is_module = value.replace("_", "-") == FLAG
        elif is_module:
            found.append(value)
    return found


def _fetch(repository: str, commit: str) -> str:
    from huggingface_hub import snapshot_download  # type: ignore[import-not-found]  # noqa: PLC0415

    print(f"berth: fetching the adapter {repository} at {commit}", flush=True)
    folder: str = snapshot_download(repository, revision=commit)
    return folder


def main(command: Sequence[str]) -> None:
    """Fetch the adapters and become vLLM."""
    try:
        whole = fetched(command, _fetch)
    except Exception as error:  # noqa: BLE001  # whatever the hub's client raises, its words are the reason
        sys.exit(f"{type(error).__name__}: an adapter cannot be fetched: {error}")
    os.execvp(whole[0], whole)  # noqa: S606  # no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1:])
