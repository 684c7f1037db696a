"""The one pooled HTTP client that the queue door asks vLLM with."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from typing import TYPE_CHECKING, Any, Self

import aiohttp

from queue_door.errors import JobError, of_response

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from types import TracebackType

# The entrypoint reads the rest of vLLM's log before it says why vLLM ended.
_REASON_SECONDS = 5.0
# vLLM closes an idle connection after so long (its default); the client is to be the one that does it first.
_SERVER_KEEP_ALIVE_SECONDS = 5
# What vLLM's server says in answers when its engine has failed; it ends soon after.
_ENGINE_FAILED = "EngineCore encountered an issue"


class Engine:
    """vLLM's server.

    Attributes:
        model: the name that requests without one get.
        ended: done once vLLM has ended, with what the entrypoint says about it.
        streams: how many answers are being streamed.
    """

    model: str
    ended: asyncio.Future[str]

    def __init__(self, url: str) -> None:
        """Know where vLLM is."""
        self.streams = 0
        self._url = url

    async def __aenter__(self) -> Self:
        """Open the pool, and ask what vLLM calls its model."""
        self.ended = asyncio.get_running_loop().create_future()
        keep_alive = int(os.environ.get("VLLM_HTTP_TIMEOUT_KEEP_ALIVE") or _SERVER_KEEP_ALIVE_SECONDS)
        key = os.environ.get("VLLM_API_KEY")
        self._session = aiohttp.ClientSession(
            self._url,
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=max(1, keep_alive - 1)),
            timeout=aiohttp.ClientTimeout(total=None),
            headers={"Authorization": f"Bearer {key}"} if key else None,
            skip_auto_headers=("Accept-Encoding", "User-Agent"),
        )
        models = json.loads(await self.ask("/v1/models", None, "door"))
        self.model = models["data"][0]["id"]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the pool."""
        await self._session.close()

    @contextlib.asynccontextmanager
    async def request(
        self,
        route: str,
        body: Mapping[str, Any] | list[Any] | aiohttp.FormData | None,
        job_id: str,
        method: str | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Ask vLLM; leaving the context early closes the connection, which aborts the request in vLLM.

        Args:
            route: path and query.
            body: what to send: JSON unless it is a form.
            job_id: becomes vLLM's own id of the request, so that its log and its answers carry it.
            method: POST if there is a body, otherwise GET, where it is not given.

        Raises:
            JobError: vLLM refused, cannot be reached, or ended in the middle of its answer.
        """
        data: bytes | aiohttp.FormData | None
        headers = {"X-Request-Id": job_id}
        if body is None or isinstance(body, aiohttp.FormData):
            data = body
        else:
            if isinstance(body, dict) and not body.get("model"):
                body = {**body, "model": self.model}
            data = json.dumps(body, ensure_ascii=False).encode()
            headers["Content-Type"] = "application/json"
        method = method or ("GET" if body is None else "POST")
        try:
            async with self._session.request(method, route, data=data, headers=headers) as response:
                if response.status >= 400:
                    raise await self._refusal(response, route)
                yield response
        except (aiohttp.ClientError, OSError) as error:
            raise await self.gone(error) from error

    async def ask(self, route: str, body: Mapping[str, Any] | aiohttp.FormData | None, job_id: str) -> bytes:
        """Ask vLLM for a whole answer, and return its body.

        Raises:
            JobError: as `request` has it.
        """
        async with self.request(route, body, job_id) as response:
            return await response.read()

    async def gone(self, error: object) -> JobError:
        """Return the error of a job whose answer broke off: vLLM's own reason if it has ended."""
        with contextlib.suppress(TimeoutError):
            reason = await asyncio.wait_for(asyncio.shield(self.ended), _REASON_SECONDS)
            return JobError(reason, "EngineEnded", 503)
        return JobError(f"the connection to vLLM broke: {error}", "EngineUnreachable", 502)

    async def _refusal(self, response: aiohttp.ClientResponse, route: str) -> JobError:
        error = of_response(response.status, route, await response.read())
        return await self.gone(error) if _ENGINE_FAILED in error.message else error
