"""Merges an adapter into its base: a model as any other, which needs no PEFT where it is served."""

from __future__ import annotations

from typing import TYPE_CHECKING

from examples.intents import adapter, base
from examples.intents.errors import IntentsError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def merge(folder: Path, name: str, revision: str, output: Path, report: Callable[[str], None]) -> None:
    """Write base and adapter as one model, in float32, in which both were added up.

    Args:
        folder: the adapter's.
        name: the base's name on the hub.
        revision: its commit there.
        output: a new folder, or an empty one.
        report: takes lines that say what is done.

    Raises:
        IntentsError: there is no adapter, or it is of another base, or the new folder has files in it.
    """
    trained_on = adapter.origin(folder)
    if trained_on != (name, revision):
        raise IntentsError(
            f"{folder}: was trained on {' at '.join(trained_on)}, not on {name} at {revision}, whose weights"
            f" it does not know: merge it with --base {' --revision '.join(trained_on)}"
        )
    if output.is_dir() and any(output.iterdir()):
        raise IntentsError(f"{output}: has files in it: name a folder for the merged model alone")
    below = base.fetch(name, revision, report)
    model, labels = adapter.load(folder, below)
    model.merge_and_unload().save_pretrained(output)
    below.tokenizer().save_pretrained(output)
    report(f"{below} and {folder} are merged into {output}, with {len(labels)} intents")
