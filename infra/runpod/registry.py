"""A registry's credential as a dynamic resource, for images that RunPod may not pull by a delegation.

The provider is stateless and lives in this module, so that Pulumi pickles it by reference: the module's path
and the class's name are in the state of every stack. Moving or renaming it makes it unusable.
"""

from __future__ import annotations

import secrets
from typing import Any

from pulumi import Input, ResourceOptions
from pulumi.dynamic import (
    CheckFailure,
    CheckResult,
    CreateResult,
    DiffResult,
    ReadResult,
    Resource,
    UpdateResult,
)

from infra.runpod import objects
from infra.runpod.api import NotFoundError, RunpodClient
from infra.runpod.connection import DEFAULT_OPTIONS, RunpodProvider
from infra.runpod.reasons import naming_settings

_SETTING = "runpod.registry_username"
_PROPERTIES = ("apiUrl", "marker", "username", "password")


class RegistryCredentialProvider(RunpodProvider):
    """Credentials. RunPod neither changes one nor tells its password, so another password is another one."""

    def check(self, _olds: dict[str, Any], news: dict[str, Any]) -> CheckResult:
        """Refuse what is missing, without showing what is there."""
        return CheckResult(
            news, [CheckFailure(key, "is missing") for key in _PROPERTIES if news.get(key) in (None, "")]
        )

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        """Replace it when it changes: the endpoint is moved to the new one, then the old one is deleted."""
        replaces = [key for key in ("marker", "username", "password") if _olds.get(key) != _news.get(key)]
        moved = _olds.get("apiUrl") != _news.get("apiUrl")
        return DiffResult(changes=bool(replaces) or moved, replaces=replaces, delete_before_replace=False)

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Make it, after taking away what interrupted attempts left, whose passwords nobody can read."""
        # The name is new each time: a credential of this name is of this attempt, and has this password.
        name = objects.credential_name(props["marker"], secrets.token_hex(4))
        wanted = {"name": name, "username": props["username"], "password": props["password"]}
        with self._client(props) as client, naming_settings(props["marker"], _SETTING):
            _remove_unused(client, props["marker"])
            made = objects.create_once(
                find=lambda: next(
                    (
                        item
                        for item in objects.marked_credentials(client, props["marker"])
                        if item["name"] == name
                    ),
                    None,
                ),
                create=lambda: client.post("/registries", wanted, action="create the registry credential"),
            )
        return CreateResult(made["id"], {key: props[key] for key in _PROPERTIES})

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        """See whether it is there: RunPod tells no more of it."""
        try:
            with self._client(props) as client:
                client.get(f"/registries/{id_}", action=f"read registry credential {id_}")
        except NotFoundError:
            return ReadResult(None, {})
        return ReadResult(id_, {key: props[key] for key in _PROPERTIES})

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        """Keep it; only the address of the API can change without a replacement."""
        return UpdateResult({key: _news[key] for key in _PROPERTIES})

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        """Delete it and wait until it is gone."""
        with self._client(_props) as client:
            objects.remove(client, f"/registries/{_id}", what=f"registry credential {_id}")


def _remove_unused(client: RunpodClient, marker: str) -> None:
    """Delete credentials of ours that no endpoint has: one in use is replaced only after this one is made."""
    ours = objects.marked_credentials(client, marker)
    if not ours:
        return
    action = "see which registry credentials are in use"
    used = [endpoint.get("registry") for endpoint in objects.endpoints(client, action=action)]
    for item in ours:
        if item["id"] not in used:
            client.delete(f"/registries/{item['id']}", action=f"delete registry credential {item['id']}")


class RegistryCredential(Resource, module="runpod", name="RegistryCredential"):
    """The name and password by which RunPod pulls an endpoint's image.

    Args:
        resource_name: the logical name.
        api_url: base URL of REST v2; it is kept in state, the key is not.
        marker: a `Marker`'s value; the credential's name begins with it.
        username: at the registry; another one replaces the credential.
        password: at the registry, as a secret; another one replaces the credential.
    """

    def __init__(
        self,
        resource_name: str,
        *,
        api_url: Input[str],
        marker: Input[str],
        username: Input[str],
        password: Input[str],
        opts: ResourceOptions | None = None,
    ) -> None:
        properties = {"apiUrl": api_url, "marker": marker, "username": username, "password": password}
        defaults = ResourceOptions(additional_secret_outputs=["password"])
        opts = ResourceOptions.merge(ResourceOptions.merge(DEFAULT_OPTIONS, defaults), opts)
        super().__init__(RegistryCredentialProvider(), resource_name, properties, opts)
