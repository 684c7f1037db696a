"""REST v2: endpoints with their workers, releases and logs; ECR delegations; the catalogue."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from sandbox.runpod import catalogue, endpoints, registry, schema
from sandbox.runpod.problems import bad_request, not_found, unprocessable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.requests import Request

    from sandbox.runpod.logbook import Line, Logbook
    from sandbox.runpod.pool import Pool
    from sandbox.runpod.store import Store

_LOG_INTERVAL_SECONDS = 0.2
_SOURCES = ("container", "system")
_HEALTH_VARIABLE = "HEALTH_CHECK_PATH"


class Control:
    """The platform's resources.

    Args:
        store: what is kept.
        pools: the workers of every load-balancer endpoint, by endpoint id; kept in step with `store`.
        new_pool: makes an endpoint's workers from its document and version.
        images: where images and repository policies are looked up; None resolves no image.
        base_url: where the server is reached, without a path.
    """

    def __init__(
        self,
        store: Store,
        pools: dict[str, Pool],
        new_pool: Callable[[dict[str, Any], int], Pool],
        images: registry.Registry | None,
        base_url: str,
    ) -> None:
        self._store = store
        self._pools = pools
        self._new_pool = new_pool
        self._images = images
        self._base_url = base_url
        # One change at a time: rules over all endpoints are checked before and hold after.
        self._lock = asyncio.Lock()

    def routes(self) -> list[Route]:
        """Return the routes below `/v2`."""
        one = "/serverless/{id}"
        return [
            Route("/serverless", self.list_endpoints, methods=["GET"]),
            Route("/serverless", self.create_endpoint, methods=["POST"]),
            Route(one, self.read_endpoint, methods=["GET"]),
            Route(one, self.change_endpoint, methods=["PATCH"]),
            Route(one, self.delete_endpoint, methods=["DELETE"]),
            Route(f"{one}/workers", self.list_workers, methods=["GET"]),
            Route(f"{one}/releases", self.list_releases, methods=["GET"]),
            Route(f"{one}/workers/{{worker_id}}/logs", self.stream_logs, methods=["GET"]),
            Route("/registries/delegations", self.list_delegations, methods=["GET"]),
            Route("/registries/delegations", self.create_delegation, methods=["POST"]),
            Route("/registries/delegations/{id}", self.delete_delegation, methods=["DELETE"]),
            Route("/catalog/gpus", self.list_gpus, methods=["GET"]),
        ]

    async def list_endpoints(self, _request: Request) -> Response:
        """GET /serverless."""
        return JSONResponse({"endpoints": [self._document(item) for item in self._store.endpoints.values()]})

    async def create_endpoint(self, request: Request) -> Response:
        """POST /serverless."""
        body = schema.parse(schema.CreateEndpoint, await request.body())
        endpoint = endpoints.create(body.sent())
        async with self._lock:
            endpoints.require_quota([*self._store.endpoints.values(), endpoint])
            await self._require_image(endpoint["image"])
            self._store.endpoints[endpoint["id"]] = endpoint
            self._store.releases[endpoint["id"]] = [_release(1, [])]
            self._store.save()
            if endpoint["type"] == "LOAD_BALANCER":
                self._pools[endpoint["id"]] = self._new_pool(endpoint, 1)
        return JSONResponse(self._document(endpoint), 201)

    async def read_endpoint(self, request: Request) -> Response:
        """GET /serverless/{id}."""
        return JSONResponse(self._document(self._endpoint(request)))

    async def change_endpoint(self, request: Request) -> Response:
        """PATCH /serverless/{id}."""
        self._endpoint(request)
        body = schema.parse(schema.UpdateEndpoint, await request.body())
        async with self._lock:
            old = self._endpoint(request)
            new = endpoints.change(old, body.sent())
            others = [item for item in self._store.endpoints.values() if item is not old]
            if new["workers"]["max"] > old["workers"]["max"]:
                endpoints.require_quota([*others, new])
            if new["image"] != old["image"]:
                await self._require_image(new["image"])
            releases = self._store.releases[new["id"]]
            if difference := endpoints.difference(old, new):
                releases.append(_release(len(releases) + 1, difference))
            self._store.endpoints[new["id"]] = new
            self._store.save()
            if new["id"] in self._pools:
                self._pools[new["id"]].apply(new, len(releases))
        return JSONResponse(self._document(new))

    async def delete_endpoint(self, request: Request) -> Response:
        """DELETE /serverless/{id}: with all its workers."""
        async with self._lock:
            endpoint = self._endpoint(request)
            del self._store.endpoints[endpoint["id"]]
            del self._store.releases[endpoint["id"]]
            self._store.save()
            pool = self._pools.pop(endpoint["id"], None)
        if pool is not None:
            await pool.close()
        return Response(status_code=204)

    async def list_workers(self, request: Request) -> Response:
        """GET /serverless/{id}/workers."""
        endpoint = self._endpoint(request)
        version = len(self._store.releases[endpoint["id"]])
        pool = self._pools.get(endpoint["id"])
        workers = [worker.document(version) for worker in pool.workers.values()] if pool else []
        states = ("RUNNING", "IDLE", "INITIALIZING", "THROTTLED", "UNHEALTHY")
        summary = {state.lower(): sum(worker["status"] == state for worker in workers) for state in states}
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
        pool = self._pools.get(endpoint["id"])
        versions = [worker.deployment.version for worker in pool.workers.values()] if pool else []
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

    async def stream_logs(self, request: Request) -> Response:
        """GET /serverless/{id}/workers/{workerId}/logs, as server-sent events."""
        pool = self._pools.get(self._endpoint(request)["id"])
        worker_id = request.path_params["worker_id"]
        log = pool.log(worker_id) if pool else None
        if pool is None or log is None:
            raise not_found(f"worker {worker_id!r}")
        source = request.query_params.get("source")
        if source not in (None, *_SOURCES):
            raise unprocessable(f"$.query.source: value must be one of {', '.join(_SOURCES)}")
        log.collect()
        start = _first_line(request, log, source)

        def live() -> bool:
            worker = pool.workers.get(worker_id)
            return worker is not None and not worker.failed

        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        return StreamingResponse(
            _events(log, start, source, live), media_type="text/event-stream", headers=headers
        )

    async def list_delegations(self, _request: Request) -> Response:
        """GET /registries/delegations."""
        return JSONResponse({"delegations": list(self._store.delegations.values())})

    async def create_delegation(self, request: Request) -> Response:
        """POST /registries/delegations: the repository's policy must let RunPod in already."""
        body = schema.parse(schema.CreateDelegation, await request.body())
        repository, tag = registry.parse_arn(body.resource)
        if self._images is None:
            raise bad_request("the sandbox was started without a registry")
        await asyncio.to_thread(registry.require_access, self._images, repository)
        delegation = {
            "id": endpoints.new_id(),
            "name": body.name,
            "delegatorUserId": "user_sandbox",
            "awsUser": repository.account,
            "repository": repository.name,
            "tag": tag,
            "awsRegion": repository.region,
            "dockerRegistryUri": f"{repository.host}/{repository.name}",
            "createdAt": endpoints.now(),
        }
        async with self._lock:
            self._store.delegations[str(delegation["id"])] = delegation
            self._store.save()
        return JSONResponse(delegation, 201)

    async def delete_delegation(self, request: Request) -> Response:
        """DELETE /registries/delegations/{id}."""
        async with self._lock:
            if self._store.delegations.pop(request.path_params["id"], None) is None:
                raise not_found(f"delegation {request.path_params['id']!r}")
            self._store.save()
        return Response(status_code=204)

    async def list_gpus(self, _request: Request) -> Response:
        """GET /catalog/gpus."""
        return JSONResponse({"gpus": [gpu.document() for gpu in catalogue.GPU_TYPES]})

    def _endpoint(self, request: Request) -> dict[str, Any]:
        endpoint_id = request.path_params["id"]
        if endpoint_id not in self._store.endpoints:
            raise not_found(f"endpoint {endpoint_id!r}")
        return self._store.endpoints[endpoint_id]

    async def _require_image(self, image: str) -> None:
        delegations = list(self._store.delegations.values())
        await asyncio.to_thread(registry.require_image, self._images, delegations, image)

    def _document(self, endpoint: dict[str, Any]) -> dict[str, Any]:
        if endpoint["type"] == "LOAD_BALANCER":
            base = f"{self._base_url}/{endpoint['id']}"
            urls = {"base": base, "health": base + endpoint["env"].get(_HEALTH_VARIABLE, "/ping")}
        else:
            base = f"{self._base_url}/v2/{endpoint['id']}"
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


def _release(version: int, difference: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": endpoints.new_id(),
        "version": version,
        "source": "MANUAL",
        "buildId": None,
        "workerCount": 0,
        "createdAt": endpoints.now(),
        "diff": difference,
    }


def _first_line(request: Request, log: Logbook, source: str | None) -> int:
    """Return the number of the line after which the stream begins."""
    cursor = request.headers.get("last-event-id") or request.query_params.get("since")
    if cursor:
        time, _, number = cursor.partition("/")
        if number.isdecimal():
            return int(number)
        return max((line.number for line in log.lines if line.time <= time), default=0)
    text = request.query_params.get("tail", "100")
    if not text.isdecimal() or int(text) > 5000:
        raise unprocessable("$.query.tail: value must be an integer from 0 to 5000")
    lines = log.after(0, source)
    kept = lines[-int(text) :] if int(text) else []
    if kept:
        return kept[0].number - 1
    return lines[-1].number if lines else 0


async def _events(
    log: Logbook, start: int, source: str | None, live: Callable[[], bool]
) -> AsyncIterator[bytes]:
    """Yield lines as they come, until no more can."""
    number = start
    while True:
        more = live()
        log.collect()
        for line in log.after(number, source):
            yield _event(line)
            number = line.number
        if not more:
            return
        await asyncio.sleep(_LOG_INTERVAL_SECONDS)


def _event(line: Line) -> bytes:
    data = json.dumps({"ts": line.time, "source": line.source, "line": line.text})
    return f"id: {line.time}/{line.number:012d}\ndata: {data}\n\n".encode()
