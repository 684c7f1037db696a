"""What a load is to be: the parent says it to the process that sends the requests, on its standard input."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Self

from ops.load.mix import Mix, Part

if TYPE_CHECKING:
    from infra.settings import Task


@dataclass(frozen=True)
class Target:
    """One endpoint that is asked.

    Args:
        platform: `eks` or `runpod`.
        url: up to and with `/v1`.
        key: what opens it; never shown, and never in a command line.
        jobs: of a queue, the base URL of its job API.
    """

    platform: str
    url: str
    key: str = field(repr=False)
    jobs: str | None = None


@dataclass(frozen=True)
class Order:
    """A whole load.

    Args:
        targets: whom to ask; users are shared out among them evenly.
        model: the served name.
        task: what it is for.
        mix: what is asked of a model that generates; None for another task.
        users: how many there are at the most.
        ramp_seconds: how long it takes until all are there.
        seconds: how long requests are begun, the ramp included.
        limit_seconds: how long one request may take.
        web_port: where Locust's page is on the loopback address; None for no page.
    """

    targets: tuple[Target, ...]
    model: str
    task: Task
    mix: Mix | None
    users: int
    ramp_seconds: float
    seconds: float
    limit_seconds: float
    web_port: int | None = None

    def document(self) -> dict[str, Any]:
        """Return it as JSON can hold it, with the keys."""
        return asdict(self)

    @classmethod
    def of(cls, document: dict[str, Any]) -> Self:
        """Return the order in a document.

        Args:
            document: as `document` gave it.
        """
        mix = document["mix"]
        read = mix and Mix(mix["name"], tuple(Part(**part) for part in mix["parts"]))
        targets = tuple(Target(**target) for target in document["targets"])
        return cls(**{**document, "targets": targets, "mix": read})
