"""REST v2: how images are pulled that are not public: registry credentials, and delegations of ECR."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response

from sandbox.runpod import registry, schema
from sandbox.runpod.endpoints import new_id, timestamp
from sandbox.runpod.problems import bad_request, not_found
from sandbox.runpod.routes import route

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from starlette.requests import Request
    from starlette.routing import Route

    from sandbox.runpod.clock import Clock
    from sandbox.runpod.pool import Pool
    from sandbox.runpod.store import Store

_SHOWN = ("id", "name")


class Registries:
    """The account's registry credentials and delegations.

    Args:
        store: what is kept.
        pools: the workers of every endpoint, by endpoint id.
        images: where repository policies are looked up; None has none.
        clock: the platform's time.
    """

    def __init__(
        self, store: Store, pools: Mapping[str, Pool], images: registry.Registry | None, clock: Clock
    ) -> None:
        self._store = store
        self._pools = pools
        self._images = images
        self._clock = clock

    def routes(self) -> list[Route]:
        """Return the routes below `/v2`; a credential's id is never `delegations`."""
        return [
            route("/registries/delegations", GET=self.list_delegations, POST=self.create_delegation),
            route("/registries/delegations/{id}", DELETE=self.delete_delegation),
            route("/registries", GET=self.list_all, POST=self.create),
            route("/registries/{id}", GET=self.read, DELETE=self.delete),
        ]

    async def list_all(self, _request: Request) -> Response:
        """GET /registries."""
        return JSONResponse({"registries": [_shown(item) for item in self._store.registries.values()]})

    async def create(self, request: Request) -> Response:
        """POST /registries: what is given cannot be read again."""
        body = schema.parse(schema.CreateRegistry, await request.body())
        credential = {
            "id": new_id(),
            "name": body.name,
            "username": body.username,
            "sealedPassword": self._store.seal(body.password.get_secret_value()),
        }
        async with self._store.lock:
            self._store.registries[credential["id"]] = credential
            self._store.save()
        return JSONResponse(_shown(credential), 201)

    async def read(self, request: Request) -> Response:
        """GET /registries/{id}."""
        return JSONResponse(_shown(self._credential(request)))

    async def delete(self, request: Request) -> Response:
        """DELETE /registries/{id}.

        Only a worker that was pulled with it keeps it. The settings of an endpoint are a template bound to
        it, and templates do not: an endpoint without workers loses its `registry` without a word.
        """
        async with self._store.lock:
            credential_id = self._credential(request)["id"]
            users = [item for item in self._store.endpoints.values() if item["registry"] == credential_id]
            for endpoint in users:
                if endpoint["id"] in self._pools and self._pools[endpoint["id"]].workers:
                    raise bad_request(
                        f"registry {credential_id!r} is in use by a worker of endpoint {endpoint['id']}"
                    )
            for endpoint in users:
                endpoint["registry"] = None
            del self._store.registries[credential_id]
            self._store.save()
        return Response(status_code=204)

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
            "id": new_id(),
            "name": body.name,
            "delegatorUserId": "user_sandbox",
            "awsUser": repository.account,
            "repository": repository.name,
            "tag": tag,
            "awsRegion": repository.region,
            "dockerRegistryUri": repository.host,
            "createdAt": timestamp(self._clock.now()),
        }
        async with self._store.lock:
            self._store.delegations[str(delegation["id"])] = delegation
            self._store.save()
        return JSONResponse(delegation, 201)

    async def delete_delegation(self, request: Request) -> Response:
        """DELETE /registries/delegations/{id}."""
        async with self._store.lock:
            if self._store.delegations.pop(request.path_params["id"], None) is None:
                raise not_found(f"delegation {request.path_params['id']!r}")
            self._store.save()
        return Response(status_code=204)

    def _credential(self, request: Request) -> dict[str, Any]:
        credential_id = request.path_params["id"]
        if credential_id not in self._store.registries:
            raise not_found(f"registry {credential_id!r}")
        return self._store.registries[credential_id]


def _shown(credential: dict[str, Any]) -> dict[str, Any]:
    return {key: credential[key] for key in _SHOWN}
