"""A network volume as a dynamic resource: disk space in one data center that outlives workers.

The provider is stateless and lives in this module, so that Pulumi pickles it by reference: the module's path
and the class's name are in the state of every stack. Moving or renaming it makes it unusable.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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

from infra.runpod import body, objects
from infra.runpod.api import NotFoundError, RunpodClient
from infra.runpod.connection import DEFAULT_OPTIONS, RunpodProvider
from infra.runpod.reasons import naming_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

_SETTING = "runpod.volumes"
_PROPERTIES = ("apiUrl", "marker", "name", "size", "dataCenter", "type")
_TYPES = ("STANDARD", "HIGH_PERFORMANCE")
_SIZE_GB = (10, 4096)


class NetworkVolumeProvider(RunpodProvider):
    """Network volumes. A volume has no environment, so it is known by the marker in its name."""

    def check(self, _olds: dict[str, Any], news: dict[str, Any]) -> CheckResult:
        """Refuse what RunPod would refuse, without asking it."""
        failures = [CheckFailure(key, "is missing") for key in _PROPERTIES if news.get(key) in (None, "")]
        size, kind = news.get("size"), news.get("type")
        if size is not None and not body.is_unknown(size) and not body.is_whole(size, *_SIZE_GB):
            failures.append(CheckFailure("size", f"= {size!r} must be a whole number of GB, 10 to 4096"))
        if kind and not body.is_unknown(kind) and kind not in _TYPES:
            failures.append(CheckFailure("type", f"= {kind!r} must be {' or '.join(_TYPES)}"))
        return CheckResult(news, failures)

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        """Grow in place; a smaller volume, another data center or another type is another volume.

        What it holds does not move along: it is what can be fetched again.
        """
        changed = [key for key in _PROPERTIES if _olds.get(key) != _news.get(key)]
        replaces = [key for key in changed if key in ("dataCenter", "type")]
        if "size" in changed and not body.is_unknown(_news["size"]) and _news["size"] < _olds["size"]:
            replaces.append("size")
        # The new one is made first: the endpoint is moved to it while it serves.
        return DiffResult(changes=bool(changed), replaces=replaces, delete_before_replace=False)

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Make the volume, or take over the one that an interrupted attempt has made."""
        wanted = _body(props)
        with self._client(props) as client, naming_settings(props["marker"], _SETTING):

            def find() -> dict[str, Any] | None:
                # One that is being replaced has our marker too, but is elsewhere, of another type or larger.
                for item in objects.marked_volumes(client, props["marker"]):
                    same = all(item[key] == wanted[key] for key in ("dataCenter", "type"))
                    if same and item["size"] <= wanted["size"]:
                        return item
                return None

            made = objects.create_once(
                find=find,
                create=lambda: client.post(
                    "/network-volumes", wanted, action=f"create network volume {props['name']}"
                ),
            )
            made = _bring_to(client, made, wanted, action=f"create network volume {props['name']}")
        return CreateResult(made["id"], _outputs(props, made))

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        """Return what RunPod has now, drift included."""
        try:
            with self._client(props) as client:
                volume = client.get(f"/network-volumes/{id_}", action=f"read network volume {id_}")
        except NotFoundError:
            return ReadResult(None, {})
        outputs = _outputs(props, volume)
        return ReadResult(id_, outputs, dict(outputs))

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        """Grow or rename it, as far as it is not so yet."""
        action = f"update network volume {_news['name']} ({_id})"
        with self._client(_news) as client, naming_settings(_news["marker"], _SETTING):
            volume = client.get(f"/network-volumes/{_id}", action=action)
            volume = _bring_to(client, volume, _body(_news), action=action)
        return UpdateResult(_outputs(_news, volume))

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        """Delete it with all that it holds, and wait until it is gone."""
        with self._client(_props) as client:
            objects.remove(client, f"/network-volumes/{_id}", what=f"network volume {_id}")


def _bring_to(
    client: RunpodClient, volume: dict[str, Any], wanted: dict[str, Any], *, action: str
) -> dict[str, Any]:
    change = {key: wanted[key] for key in ("name", "size") if volume[key] != wanted[key]}
    return client.patch(f"/network-volumes/{volume['id']}", change, action=action) if change else volume


def _body(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": objects.volume_name(properties["name"], properties["marker"]),
        "size": int(properties["size"]),
        "dataCenter": properties["dataCenter"],
        "type": properties["type"],
    }


def _outputs(props: Mapping[str, Any], volume: Mapping[str, Any]) -> dict[str, Any]:
    """Return what goes into state; a volume that was renamed has lost our marker."""
    name, _, marker = str(volume["name"]).rpartition(" ")
    if marker != props["marker"]:
        name, marker = str(volume["name"]), ""
    there = {key: volume[key] for key in ("size", "dataCenter", "type")}
    return {"apiUrl": props["apiUrl"], "marker": marker, "name": name, **there}


class NetworkVolume(Resource, module="runpod", name="NetworkVolume"):
    """A network volume, which the workers of an endpoint mount.

    Args:
        resource_name: the logical name.
        api_url: base URL of REST v2; it is kept in state, the key is not.
        marker: a `Marker`'s value, by which the volume is found again.
        name: its name in the console, before the marker.
        size: in GB, 10 to 4096; a smaller one replaces the volume.
        data_center: where it is, such as "EU-RO-1"; another one replaces the volume.
        type: "STANDARD" or "HIGH_PERFORMANCE"; another one replaces the volume.
    """

    def __init__(
        self,
        resource_name: str,
        *,
        api_url: Input[str],
        marker: Input[str],
        name: Input[str],
        size: Input[int],
        data_center: Input[str],
        type: Input[str],  # noqa: A002  # the API's word
        opts: ResourceOptions | None = None,
    ) -> None:
        properties = {
            "apiUrl": api_url,
            "marker": marker,
            "name": name,
            "size": size,
            "dataCenter": data_center,
            "type": type,
        }
        opts = ResourceOptions.merge(DEFAULT_OPTIONS, opts)
        super().__init__(NetworkVolumeProvider(), resource_name, properties, opts)
