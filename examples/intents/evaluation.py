"""What a classifier gets right: accuracy, precision and recall of each intent, and the confusion matrix."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import pyplot as plt
from rich.progress import track
from sklearn.metrics import (
    ConfusionMatrixDisplay,
    accuracy_score,
    confusion_matrix,
    precision_recall_fscore_support,
)

from examples.intents.errors import IntentsError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.console import Console

    from examples.intents.classifiers import Classifier
    from examples.intents.sentences import Sentences

_BATCH_SIZE = 16


@dataclass(frozen=True)
class Evaluation:
    """How one classifier did.

    Args:
        source: the folder or the URL.
        labels: the intents.
        probabilities: one row for each sentence, one column for each intent.
        accuracy: the share of sentences whose most probable intent is theirs.
        precision: for each intent, the share of what was taken for it that is it.
        recall: for each intent, the share of its sentences that was taken for it.
        confusion: sentences, by their intent (rows) and what they were taken for (columns).
    """

    source: str
    labels: list[str]
    probabilities: Any = field(repr=False)
    accuracy: float
    precision: list[float]
    recall: list[float]
    confusion: Any

    def largest_difference(self, other: Evaluation) -> float:
        """Return by how much the probabilities of two classifiers differ at the most."""
        return float(np.abs(self.probabilities - other.probabilities).max())

    def as_json(self) -> dict[str, Any]:
        """Return the figures for programs."""
        return {
            "source": self.source,
            "accuracy": self.accuracy,
            "intents": {
                label: {"precision": self.precision[index], "recall": self.recall[index]}
                for index, label in enumerate(self.labels)
            },
            "confusion_matrix": self.confusion.tolist(),
        }


def evaluate(source: str, classify: Classifier, sentences: Sentences, progress: Console) -> Evaluation:
    """Ask a classifier for every sentence.

    Args:
        source: what to call it.
        classify: the classifier.
        sentences: what to ask, with the right answers.
        progress: where to show how far it is.

    Raises:
        IntentsError: it does not answer, or has another number of classes.
    """
    labels = sentences.labels
    rows: list[list[float]] = []
    starts = range(0, len(sentences.texts), _BATCH_SIZE)
    for start in track(starts, source, console=progress, transient=True, disable=not progress.is_terminal):
        rows += classify(sentences.texts[start : start + _BATCH_SIZE])
    if {len(row) for row in rows} != {len(labels)}:
        raise IntentsError(f"{source}: gives {len(rows[0])} probabilities for each text, not {len(labels)}")
    probabilities = np.array(rows)
    right = [labels.index(intent) for intent in sentences.intents]
    taken_for = probabilities.argmax(axis=1)
    classes = range(len(labels))
    precision, recall, _, _ = precision_recall_fscore_support(
        right, taken_for, labels=classes, zero_division=0.0
    )
    return Evaluation(
        source=source,
        labels=labels,
        probabilities=probabilities,
        accuracy=float(accuracy_score(right, taken_for)),
        precision=precision.tolist(),
        recall=recall.tolist(),
        confusion=confusion_matrix(right, taken_for, labels=classes),
    )


def draw(evaluations: Sequence[Evaluation], path: Path) -> None:
    """Draw the confusion matrix of each classifier, beside each other.

    Args:
        evaluations: one or more.
        path: a file whose ending says the format: .png, .svg or .pdf.

    Raises:
        IntentsError: it cannot be written, or it is of another format.
    """
    figure, places = plt.subplots(
        1, len(evaluations), figsize=(6.5 * len(evaluations), 6.5), squeeze=False, layout="constrained"
    )
    for place, one in zip(places[0], evaluations, strict=True):
        ConfusionMatrixDisplay(one.confusion, display_labels=one.labels).plot(
            ax=place, cmap="Blues", colorbar=False, xticks_rotation=45
        )
        for tick in place.get_xticklabels():
            tick.set_horizontalalignment("right")
        place.set(title=f"{one.source}\naccuracy {one.accuracy:.1%}", xlabel="taken for", ylabel="intent")
    try:
        figure.savefig(path, dpi=110, bbox_inches="tight")
    except (OSError, ValueError) as error:
        raise IntentsError(f"{path}: the picture cannot be written: {error}") from error
    finally:
        plt.close(figure)
