"""What the real vLLM exported, as series for promtool: as recorded, and then going on."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

RECORDINGS = Path(__file__).with_name("recordings")
STEP_SECONDS = 15
_SAMPLE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Scrape:
    """One answer of `/metrics`.

    Attributes:
        phase: "idle", "load-1" and so on, "after".
        header: the comment that says whose it is.
        samples: values by name and labels.
        types: kinds of metrics by the name in their comment.
    """

    phase: str
    header: str
    samples: dict[tuple[str, Labels], float] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)

    def names(self) -> set[str]:
        return {name for name, _ in self.samples}


def scrapes() -> list[Scrape]:
    """Return the recordings in their order."""
    found = []
    for path in sorted(RECORDINGS.glob("*.txt")):
        lines = path.read_text().splitlines()
        scrape = Scrape(path.stem.partition("-")[2], lines[0])
        for line in lines[1:]:
            if line.startswith("# TYPE "):
                _, _, name, kind = line.split()
                scrape.types[name] = kind
            elif match := _SAMPLE.match(line):
                labels = tuple(_LABEL.findall(match[2] or ""))
                scrape.samples[match[1], labels] = float(match[3])
        found.append(scrape)
    return found


def series(name: str, labels: dict[str, str] | Labels) -> str:
    """Return a series as promtool's tests name it."""
    inner = ",".join(f'{key}="{value}"' for key, value in dict(labels).items())
    return f"{name}{{{inner}}}"


def of_pod(phases: list[Scrape], *, minutes: int, still: bool, **target: str) -> list[dict[str, str]]:
    """Return what one pod exports: the phases as recorded, then `minutes` more of the same.

    Args:
        phases: consecutive scrapes.
        minutes: how long it goes on after them.
        still: whether nothing happens then: counters stay and gauges keep their last values. Otherwise
            counters rise as they did, on average, from the first phase to the last.
        target: labels that Prometheus adds to everything from this pod.
    """
    first, last = phases[0], phases[-1]
    steps = minutes * 60 // STEP_SECONDS
    found = []
    for (name, labels), value in last.samples.items():
        if not name.startswith("vllm:"):
            continue
        recorded = [scrape.samples.get((name, labels), 0.0) for scrape in phases]
        is_still = still or last.types.get(name) == "gauge"
        rise = 0.0 if is_still else (value - first.samples.get((name, labels), 0.0)) / (len(phases) - 1)
        values = " ".join(f"{item:.17g}" for item in recorded)
        found.append(
            {
                "series": series(name, {**dict(labels), **target}),
                "values": f"{values} {value + rise:.17g}+{rise:.17g}x{steps}",
            }
        )
    return found
