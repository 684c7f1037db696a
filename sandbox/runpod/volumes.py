"""REST v2: network volumes, and which of them an endpoint may have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response

from sandbox.runpod import catalogue, schema
from sandbox.runpod.endpoints import new_id
from sandbox.runpod.problems import bad_request, not_found
from sandbox.runpod.routes import route

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import Route

    from sandbox.runpod.store import Store


class Volumes:
    """The account's network volumes.

    Args:
        store: what is kept.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def routes(self) -> list[Route]:
        """Return the routes below `/v2`."""
        return [
            route("/network-volumes", GET=self.list_all, POST=self.create),
            route("/network-volumes/{id}", GET=self.read, PATCH=self.change, DELETE=self.delete),
        ]

    async def list_all(self, _request: Request) -> Response:
        """GET /network-volumes."""
        return JSONResponse({"networkVolumes": list(self._store.volumes.values())})

    async def create(self, request: Request) -> Response:
        """POST /network-volumes."""
        body = schema.parse(schema.CreateVolume, await request.body())
        volume = {
            "id": new_id(),
            "name": body.name,
            "size": body.size,
            "dataCenter": body.dataCenter,
            "type": _volume_type(body.dataCenter, body.type),
        }
        async with self._store.lock:
            self._store.volumes[str(volume["id"])] = volume
            self._store.save()
        return JSONResponse(volume, 201)

    async def read(self, request: Request) -> Response:
        """GET /network-volumes/{id}."""
        return JSONResponse(self._volume(request))

    async def change(self, request: Request) -> Response:
        """PATCH /network-volumes/{id}: another name, or more room."""
        self._volume(request)
        body = schema.parse(schema.UpdateVolume, await request.body())
        async with self._store.lock:
            old = self._volume(request)
            new = {**old, **body.sent()}
            if new["size"] < old["size"]:
                raise bad_request(f"size {new['size']} is less than the volume's {old['size']} GB")
            self._store.volumes[new["id"]] = new
            self._store.save()
        return JSONResponse(new)

    async def delete(self, request: Request) -> Response:
        """DELETE /network-volumes/{id}.

        The API's document says nothing of volumes in use. Data cannot be taken from under a worker that has
        it mounted, so the sandbox refuses, with the status that registry credentials in use have.
        """
        async with self._store.lock:
            volume_id = self._volume(request)["id"]
            users = [
                endpoint["id"]
                for endpoint in self._store.endpoints.values()
                if volume_id in endpoint["networkVolumes"]
            ]
            if users:
                raise bad_request(f"network volume {volume_id!r} is in use by endpoint {', '.join(users)}")
            del self._store.volumes[volume_id]
            self._store.save()
        return Response(status_code=204)

    def _volume(self, request: Request) -> dict[str, Any]:
        volume_id = request.path_params["id"]
        if volume_id not in self._store.volumes:
            raise not_found(f"network volume {volume_id!r}")
        return self._store.volumes[volume_id]


def _volume_type(center_id: str, wanted: str | None) -> str:
    """Return the type of a new volume: the one asked for, or the data center's own.

    Raises:
        Problem: the data center has none such.
    """
    center = catalogue.data_center(center_id)
    there = center.volume_types if center else ()
    if wanted is None and there:
        return there[0]
    if wanted is None or wanted not in there:
        kind = wanted or catalogue.STANDARD
        valid = ", ".join(item.id for item in catalogue.DATA_CENTERS if kind in item.volume_types)
        raise bad_request(f"data center {center_id!r} has no {kind} network volumes; valid are {valid}")
    return wanted
