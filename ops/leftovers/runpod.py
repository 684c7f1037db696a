"""What of a stack is in the account on RunPod."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from infra.runpod.api import NotFoundError, RunpodClient, RunpodError
from infra.runpod.body import MARKER_VARIABLE
from infra.runpod.objects import delegations, endpoints
from ops.leftovers.found import Found, Unseen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ops.leftovers.owner import Owner

    Ours = Iterator[tuple[Found, str]]

KINDS = ("endpoints", "templates", "network volumes", "registry credentials", "ECR delegations")
"""What is looked for there, in the order in which it can be removed."""

# RunPod's published prices of network volumes, a GB and month; its faster type has none that is published.
_HOURS_A_MONTH = 730
_GB_MONTH, _GB_MONTH_ABOVE, _CHEAPER_ABOVE_GB = 0.07, 0.05, 1000


def of_stack(client: RunpodClient, url: str, owner: Owner) -> tuple[list[tuple[Found, str]], list[Unseen]]:
    """Return what is thought to be a stack's, each with the reason, and what could not be looked at.

    Endpoints come first: RunPod deletes nothing that a worker uses.

    Args:
        client: of the account.
        url: the base URL of REST v2, for the commands.
        owner: the stack.
    """
    account = _Account(client, url, owner)
    asks: tuple[Callable[[], Ours], ...] = (
        account.endpoints,
        account.templates,
        account.volumes,
        account.credentials,
        account.delegations,
    )
    found: list[tuple[Found, str]] = []
    unseen = []
    for what, ask in zip(KINDS, asks, strict=True):
        try:
            found += ask()
        except RunpodError as error:
            unseen.append(Unseen(f"RunPod: {what}", str(error)))
    return found, unseen


class _Account:
    def __init__(self, client: RunpodClient, url: str, owner: Owner) -> None:
        self._client, self._url, self._owner = client, url, owner

    def endpoints(self) -> Ours:
        for item in endpoints(self._client, action="list the endpoints"):
            if why := self._why(item, (item.get("env") or {}).get(MARKER_VARIABLE)):
                yield (
                    self._found("RunPod endpoint", item, "/serverless", self._workers_hourly(item["id"])),
                    why,
                )

    def templates(self) -> Ours:
        for item in self._list("/templates", "templates"):
            if why := self._why(item, (item.get("env") or {}).get(MARKER_VARIABLE)):
                yield self._found("RunPod template", item, "/templates"), why

    def volumes(self) -> Ours:
        for item in self._list("/network-volumes", "networkVolumes"):
            if why := self._why(item, item["name"].partition(" ")[2]):
                yield (
                    self._found("RunPod network volume", item, "/network-volumes", _volume_hourly(item)),
                    why,
                )

    def credentials(self) -> Ours:
        for item in self._list("/registries", "registries"):
            if why := self._why(item, item["name"]):
                yield self._found("RunPod registry credential", item, "/registries"), why

    def delegations(self) -> Ours:
        for item in delegations(self._client):
            why = self._why(item, item.get("name"))
            if why is None and self._owner.names(item.get("repository") or ""):
                why = f"it is of the repository {item['repository']}"
            if why:
                yield self._found("RunPod ECR delegation", item, "/registries/delegations"), why

    def _why(self, item: dict[str, Any], marker: str | None) -> str | None:
        if marker and marker.startswith(f"{self._owner.project}/"):
            whose = marker.startswith(f"{self._owner.project}/{self._owner.stack}/")
            return f"marked {marker}" if whose else None
        name = item.get("name") or ""
        return f"its name: {name}" if self._owner.names(name) else None

    def _list(self, path: str, key: str) -> list[dict[str, Any]]:
        return self._client.list_all(path, key, action=f"list {path.rpartition('/')[2]}")

    def _workers_hourly(self, endpoint: str) -> float:
        """Return what the workers that there are now cost together."""
        try:
            answer = self._client.get(f"/serverless/{endpoint}/workers", action="read its workers")
        except NotFoundError:
            return 0.0
        if not answer["workers"]:
            return 0.0
        gpus = self._client.list_all("/catalog/gpus", "gpus", action="read the prices")
        prices = {gpu["id"]: float(gpu["price"]["serverless"]) for gpu in gpus}
        return float(
            sum(prices.get(worker.get("gpuTypeId"), 0.0) * worker["gpuCount"] for worker in answer["workers"])
        )

    def _found(self, kind: str, item: dict[str, Any], path: str, hourly: float | None = 0.0) -> Found:
        place = f"{self._url}{path}/{item['id']}"
        # By the shell's own printf, so that the key is in no list of processes.
        remove = (
            'printf "Authorization: Bearer %s" "$RUNPOD_API_KEY" |'
            f" curl --fail-with-body -H @- -X DELETE {place}"
        )
        return Found(kind=kind, id=item["id"], place=place, remove=remove, hourly_usd=hourly)


def _volume_hourly(volume: dict[str, Any]) -> float | None:
    if volume.get("type") not in (None, "STANDARD"):
        return None
    size_gb: int = volume["size"]
    return size_gb * (_GB_MONTH_ABOVE if size_gb > _CHEAPER_ABOVE_GB else _GB_MONTH) / _HOURS_A_MONTH
