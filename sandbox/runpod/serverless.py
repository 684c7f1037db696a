"""REST v2: serverless endpoints, with their workers and releases."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response

from sandbox.runpod import endpoints, placement, registry, schema
from sandbox.runpod.problems import not_found
from sandbox.runpod.routes import route

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.routing import Route

    from sandbox.runpod.clock import Clock
    from sandbox.runpod.pool import Pool
    from sandbox.runpod.store import Store

_HEALTH_VARIABLE = "HEALTH_CHECK_PATH"
_STATES = ("RUNNING", "IDLE", "INITIALIZING", "THROTTLED", "UNHEALTHY")


class Serverless:
    """The account's endpoints.

    Args:
        store: what is kept.
        pools: the workers of every endpoint, by endpoint id; kept in step with `store`.
        new_pool: makes an endpoint's workers from its document and version.
        images: where images are looked up; None resolves no image.
        base_url: where the server is reached, without a path.
        clock: the platform's time.
    """

    def __init__(
        self,
        store: Store,
        pools: dict[str, Pool],
        new_pool: Callable[[dict[str, Any], int], Pool],
        images: registry.Registry | None,
        base_url: str,
        clock: Clock,
    ) -> None:
        self._store = store
        self._pools = pools
        self._new_pool = new_pool
        self._images = images
        self._base_url = base_url
        self._clock = clock

    def routes(self) -> list[Route]:
        """Return the routes below `/v2`."""
        one = "/serverless/{id}"
        return [
            route("/serverless", GET=self.list_all, POST=self.create),
            route(one, GET=self.read, PATCH=self.change, DELETE=self.delete),
            route(f"{one}/workers", GET=self.list_workers),
            route(f"{one}/releases", GET=self.list_releases),
        ]

    async def list_all(self, _request: Request) -> Response:
        """GET /serverless."""
        return JSONResponse({"endpoints": [self._document(item) for item in self._store.endpoints.values()]})

    async def create(self, request: Request) -> Response:
        """POST /serverless."""
        body = schema.parse(schema.CreateEndpoint, await request.body())
        async with self._store.lock:
            endpoint = endpoints.create(body.sent(), self._store, self._clock.now())
            endpoints.require_quota([*self._store.endpoints.values(), endpoint])
            await self._require_image(endpoint)
            self._store.endpoints[endpoint["id"]] = endpoint
            self._store.releases[endpoint["id"]] = [self._release(1, [])]
            self._store.save()
            self._pools[endpoint["id"]] = self._new_pool(endpoint, 1)
        return JSONResponse(self._document(endpoint), 201)

    async def read(self, request: Request) -> Response:
        """GET /serverless/{id}."""
        return JSONResponse(self._document(self._endpoint(request)))

    async def change(self, request: Request) -> Response:
        """PATCH /serverless/{id}."""
        self._endpoint(request)
        body = schema.parse(schema.UpdateEndpoint, await request.body())
        async with self._store.lock:
            old = self._endpoint(request)
            new = endpoints.change(old, body.sent(), self._store)
            others = [item for item in self._store.endpoints.values() if item is not old]
            if new["workers"]["max"] > old["workers"]["max"]:
                endpoints.require_quota([*others, new])
            if (new["image"], new["registry"]) != (old["image"], old["registry"]):
                await self._require_image(new)
            self._put(old, new)
        return JSONResponse(self._document(new))

    async def lower_workers(self, endpoint_id: str, most: int) -> None:
        """Lower `workers.max`, and `workers.min` with it, as the platform does of its own accord."""
        async with self._store.lock:
            old = self._store.endpoints.get(endpoint_id)
            if old is None or old["workers"]["max"] <= most:
                return
            workers = {**old["workers"], "min": min(old["workers"]["min"], most), "max": most}
            self._put(old, {**old, "workers": workers})

    async def delete(self, request: Request) -> Response:
        """DELETE /serverless/{id}: with all its workers."""
        async with self._store.lock:
            endpoint = self._endpoint(request)
            del self._store.endpoints[endpoint["id"]]
            del self._store.releases[endpoint["id"]]
            self._store.save()
            pool = self._pools.pop(endpoint["id"])
        await pool.close()
        return Response(status_code=204)

    async def list_workers(self, request: Request) -> Response:
        """GET /serverless/{id}/workers."""
        endpoint = self._endpoint(request)
        version = len(self._store.releases[endpoint["id"]])
        workers = [worker.document(version) for worker in self._pools[endpoint["id"]].workers.values()]
        for worker in workers:
            if worker["startedAt"] is not None:
                worker["dataCenterId"] = placement.center_of(
                    endpoint, self._store.volumes, worker["gpuTypeId"]
                )
        summary = {state.lower(): sum(worker["status"] == state for worker in workers) for state in _STATES}
        return JSONResponse(
            {
                "workers": workers,
                "summary": {**summary, "total": len(workers)},
                "endpointVersion": version,
            }
        )

    async def list_releases(self, request: Request) -> Response:
        """GET /serverless/{id}/releases, the newest first."""
        endpoint = self._endpoint(request)
        releases = self._store.releases[endpoint["id"]]
        versions = [worker.deployment.version for worker in self._pools[endpoint["id"]].workers.values()]
        latest = versions.count(len(releases))
        return JSONResponse(
            {
                "endpointVersion": len(releases),
                "rollout": {
                    "inProgress": latest < len(versions),
                    "workersOnLatest": latest,
                    "workersTotal": len(versions),
                    "percentOnLatest": 100 * latest // len(versions) if versions else 0,
                },
                "releases": [
                    {**release, "workerCount": versions.count(release["version"])}
                    for release in reversed(releases)
                ],
            }
        )

    def _endpoint(self, request: Request) -> dict[str, Any]:
        endpoint_id = request.path_params["id"]
        if endpoint_id not in self._store.endpoints:
            raise not_found(f"endpoint {endpoint_id!r}")
        return self._store.endpoints[endpoint_id]

    def _put(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        """Keep a changed endpoint, as a new release where what its workers run has changed."""
        releases = self._store.releases[new["id"]]
        if difference := endpoints.difference(old, new):
            releases.append(self._release(len(releases) + 1, difference))
        self._store.endpoints[new["id"]] = new
        self._store.save()
        self._pools[new["id"]].apply(new, len(releases))

    async def _require_image(self, endpoint: dict[str, Any]) -> None:
        login = None
        if endpoint["registry"]:
            credential = self._store.registries[endpoint["registry"]]
            password = self._store.unseal(credential["sealedPassword"])
            login = registry.Login(credential["username"], password)
        delegations = list(self._store.delegations.values())
        await asyncio.to_thread(registry.require_image, self._images, delegations, endpoint["image"], login)

    def _release(self, version: int, difference: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": endpoints.new_id(),
            "version": version,
            "source": "MANUAL",
            "buildId": None,
            "createdByUserId": None,
            "workerCount": 0,
            "createdAt": endpoints.timestamp(self._clock.now()),
            "diff": difference,
        }

    def _document(self, endpoint: dict[str, Any]) -> dict[str, Any]:
        if endpoint["type"] == "LOAD_BALANCER":
            base = f"{self._base_url}/{endpoint['id']}"
            urls = {"base": base, "health": base + endpoint["env"].get(_HEALTH_VARIABLE, "/ping")}
        else:
            base = f"{self._base_url}/api/v2/{endpoint['id']}"
            urls = {
                "run": f"{base}/run",
                "runSync": f"{base}/runsync",
                "status": f"{base}/status/{{job_id}}",
                "stream": f"{base}/stream/{{job_id}}",
                "cancel": f"{base}/cancel/{{job_id}}",
                "retry": f"{base}/retry/{{job_id}}",
                "purgeQueue": f"{base}/purge-queue",
                "health": f"{base}/health",
            }
        return {**endpoint, "requestUrls": urls}
