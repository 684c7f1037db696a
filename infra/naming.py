"""Physical names within AWS's limits, and the labels that say whose a thing is."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

IAM_ROLE_LENGTH = 64
LOAD_BALANCER_LENGTH = 32
BUCKET_LENGTH = 63
_HASH_LENGTH = 7


@dataclass(frozen=True)
class Names:
    """Names of one stack's things: `<project>-<stack>-<what>`, and who owns them.

    A name is part of the state: changing what a method returns replaces the resource.
    """

    project: str
    stack: str
    owner: str

    @property
    def base(self) -> str:
        """The name of what the stack has one of."""
        return f"{self.project}-{self.stack}"

    def of(self, what: str, length: int = 63) -> str:
        """Return the name of `what`, of at most `length` characters: a longer one ends in its hash."""
        name = f"{self.base}-{what}"
        return name if len(name) <= length else f"{name[: length - _HASH_LENGTH - 1]}-{_hash(name)}"

    def of_version(self, what: str, facts: object, length: int = 63) -> str:
        """Return a name of `what` that changes with `facts`.

        For what AWS cannot change in place: its successor stands beside it before it goes.

        Args:
            what: which thing of the stack.
            facts: what cannot be changed in place; anything that JSON can say.
            length: AWS's limit for names of this kind.
        """
        return f"{self.of(what, length - _HASH_LENGTH - 1)}-{_hash(json.dumps(facts, sort_keys=True))}"

    @property
    def tags(self) -> dict[str, str]:
        """The tags of every object on AWS."""
        return {"project": self.project, "stack": self.stack, "owner": self.owner}

    @property
    def labels(self) -> dict[str, str]:
        """The labels of every object on Kubernetes."""
        return {
            "app.kubernetes.io/part-of": self.project,
            "app.kubernetes.io/instance": self.stack,
            "app.kubernetes.io/managed-by": "pulumi",
            f"{self.project}/owner": self.owner,
        }


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_HASH_LENGTH]
