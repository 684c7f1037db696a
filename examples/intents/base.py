"""The model that is fine-tuned: Qwen2.5-0.5B, or a stand-in of its architecture where no hub answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from examples.intents.errors import IntentsError
from sandbox import model

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Base:
    """A language model on the disk.

    Args:
        name: its name on the hub.
        revision: its commit there.
        folder: where it is.
    """

    name: str
    revision: str
    folder: Path

    def __str__(self) -> str:
        return f"{self.name} at {self.revision}"

    @property
    def is_stand_in(self) -> bool:
        """Whether it is tiny and has random weights."""
        return model.is_stand_in(self.folder)

    def tokenizer(self) -> Any:
        """Return its tokenizer."""
        return AutoTokenizer.from_pretrained(self.folder)

    def classifier(self, labels: Sequence[str]) -> Any:
        """Return the model with a new, untrained head of one class for each label, in float32."""
        return AutoModelForSequenceClassification.from_pretrained(
            self.folder,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,  # of the head, where the base is a classifier of other things
            id2label=dict(enumerate(labels)),
            label2id={label: index for index, label in enumerate(labels)},
            # The class is read off the last token that is not padding.
            pad_token_id=self.tokenizer().pad_token_id,
        )


def fetch(name: str, revision: str, report: Callable[[str], None]) -> Base:
    """Return a model of the hub, downloaded if need be, or its stand-in.

    Raises:
        IntentsError: the hub has it, but it cannot be downloaded.
    """
    try:
        return Base(name, revision, model.ensure(name, revision, report))
    except model.ModelError as error:
        raise IntentsError(str(error)) from error
