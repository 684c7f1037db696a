"""How fast an endpoint classifies, by the number of sentences in a request."""

from __future__ import annotations

import itertools
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
from rich.progress import track

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

    from examples.intents.classifiers import Classifier

BATCH_SIZES = (1, 4, 8, 16, 32)
_WARM_UP_REQUESTS = 3
_REQUESTS = 30


@dataclass(frozen=True)
class Figures:
    """What one batch size gave, one request after the other.

    Args:
        batch_size: sentences in a request.
        sentences_per_second: over all requests.
        p50_ms: half of the requests took no longer, in milliseconds.
        p95_ms: 19 of 20 took no longer.
    """

    batch_size: int
    sentences_per_second: float
    p50_ms: float
    p95_ms: float

    def as_json(self) -> dict[str, float]:
        """Return the figures for programs."""
        return {name: round(value, 2) for name, value in asdict(self).items()}


def measure(classify: Classifier, texts: Sequence[str], progress: Console) -> Iterator[Figures]:
    """Yield the figures of each batch size.

    Args:
        classify: what is asked.
        texts: what it is asked, again and again.
        progress: where to show how far it is.

    Raises:
        IntentsError: it does not answer.
    """
    for size in BATCH_SIZES:
        endless = itertools.cycle(texts)
        seconds = []
        requests = range(_WARM_UP_REQUESTS + _REQUESTS)
        hidden = not progress.is_terminal
        for _ in track(requests, f"batch {size}", console=progress, transient=True, disable=hidden):
            batch = list(itertools.islice(endless, size))
            begun = time.perf_counter()
            classify(batch)
            seconds.append(time.perf_counter() - begun)
        counted = np.array(seconds[_WARM_UP_REQUESTS:])
        p50, p95 = np.percentile(counted * 1e3, [50, 95])
        yield Figures(size, size * len(counted) / counted.sum(), p50, p95)
