"""Where RunPod's API is and by which key: from the environment, then from the stack."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from pulumi import CustomTimeouts, ResourceOptions
from pulumi.dynamic import ConfigureRequest, ResourceProvider

from infra.runpod.api import RunpodClient, is_loopback

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY_VARIABLE = "RUNPOD_API_KEY"
URL_VARIABLE = "RUNPOD_REST_V2_API_URL"
"""The base URL with its version; the name is that of RunPod's own MCP server."""

DEFAULT_OPTIONS = ResourceOptions(custom_timeouts=CustomTimeouts(create="10m", update="10m", delete="5m"))


class MissingKeyError(Exception):
    """There is no API key."""


def connect(configured_url: str, configured_key: str | None) -> RunpodClient:
    """Return a client of REST v2.

    Args:
        configured_url: the base URL where the environment names none; one of this machine is the sandbox's,
            which nothing in the environment leads away from.
        configured_key: the key where the environment has none.

    Raises:
        MissingKeyError: there is no key.
    """
    # The environment comes first: on `destroy` the configured key is the one of the last `up`.
    key = (os.environ.get(KEY_VARIABLE) or configured_key or "").strip()
    if not key:
        raise MissingKeyError(
            f"RunPod: no API key: set {KEY_VARIABLE}, or `pulumi config set --secret berth:runpodApiKey`"
        )
    url = configured_url if is_loopback(configured_url) else os.environ.get(URL_VARIABLE) or configured_url
    return RunpodClient(url, key)


class RunpodProvider(ResourceProvider):
    """What the dynamic providers share; stateless but for the stack's key, which is pickled nowhere."""

    serialize_as_secret_always = False
    _configured_key: str | None = None

    def configure(self, req: ConfigureRequest) -> None:
        """Take the stack's key; it stays in this process and never gets into state."""
        self._configured_key = req.config.get("runpodApiKey")

    def _client(self, properties: Mapping[str, Any]) -> RunpodClient:
        return connect(properties["apiUrl"], self._configured_key)
