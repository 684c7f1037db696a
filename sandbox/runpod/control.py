"""REST v2, put together: the routes of every resource, and what the platform does of its own accord."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response

from sandbox.runpod.billing import Billing
from sandbox.runpod.catalog_api import CatalogApi
from sandbox.runpod.idle import IdleWatch
from sandbox.runpod.registries import Registries
from sandbox.runpod.routes import route
from sandbox.runpod.serverless import Serverless
from sandbox.runpod.volumes import Volumes
from sandbox.runpod.worker_logs import WorkerLogs

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.routing import Route

    from sandbox.runpod.billing import Meter
    from sandbox.runpod.clock import Clock
    from sandbox.runpod.pool import Pool
    from sandbox.runpod.registry import Registry
    from sandbox.runpod.store import Store


class Control:
    """The platform's resources.

    Args:
        store: what is kept.
        pools: the workers of every endpoint, by endpoint id; kept in step with `store`.
        new_pool: makes an endpoint's workers from its document and version.
        images: where images and repository policies are looked up; None resolves no image.
        base_url: where the server is reached, without a path.
        clock: the platform's time.
        meter: what ran for how long.
    """

    def __init__(
        self,
        store: Store,
        pools: dict[str, Pool],
        new_pool: Callable[[dict[str, Any], int], Pool],
        images: Registry | None,
        base_url: str,
        *,
        clock: Clock,
        meter: Meter,
    ) -> None:
        self._serverless = Serverless(store, pools, new_pool, images, base_url, clock)
        self._logs = WorkerLogs(pools)
        self._volumes = Volumes(store)
        self._registries = Registries(store, pools, images, clock)
        self._catalog = CatalogApi()
        self._billing = Billing(meter, clock)
        self.idle = IdleWatch(store, clock, self._serverless.lower_workers)

    def routes(self) -> list[Route]:
        """Return the routes below `/v2`."""
        return [
            *self._serverless.routes(),
            route("/serverless/{id}/workers/{worker_id}/logs", GET=self._logs.stream),
            *self._volumes.routes(),
            *self._registries.routes(),
            *self._catalog.routes(),
            route("/templates", GET=_list_templates),
            route("/billing/serverless", GET=self._billing.list_all),
        ]


async def _list_templates(_request: Request) -> Response:
    """GET /templates: none, as endpoints have their settings inline and nothing here makes a template."""
    return JSONResponse({"templates": []})
