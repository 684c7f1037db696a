"""The API key of the model service: generated once, kept encrypted in the state."""

from __future__ import annotations

import secrets
from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, ReadResult, Resource, ResourceProvider

_BYTES = 32


# The class's module and name are in the state of every stack: moving it gives every stack a new key.
class ApiKeyProvider(ResourceProvider):
    """Makes a key that nobody chose."""

    serialize_as_secret_always = False

    def create(self, _props: dict[str, Any]) -> CreateResult:
        """Make a key of 256 random bits."""
        return CreateResult(secrets.token_hex(8), {"key": f"sk-{secrets.token_urlsafe(_BYTES)}"})

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        """See no change: a key has no inputs."""
        return DiffResult(changes=False)

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        """Answer what is recorded: the state is where the key lives."""
        return ReadResult(id_, props)


class ApiKey(Resource, module="credentials", name="ApiKey"):
    """A generated API key, `key`, a secret.

    To replace it: `pulumi up --replace <its URN>`.

    It has no component above it: a parent is part of the URN, and another URN is another key.
    """

    key: pulumi.Output[str]

    def __init__(self, name: str, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(
            ApiKeyProvider(),
            name,
            {"key": None},
            pulumi.ResourceOptions.merge(pulumi.ResourceOptions(additional_secret_outputs=["key"]), opts),
        )
