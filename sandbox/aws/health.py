"""Checks the health of targets, as often and as strictly as their target group says."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from sandbox.aws.routing import Target, TargetGroup


@dataclass
class Health:
    """What is known of a target.

    Args:
        state: `initial`, `healthy` or `unhealthy`.
        reason: AWS's code for why it is not healthy.
        description: the same in words.
    """

    state: str = "initial"
    reason: str | None = "Elb.RegistrationInProgress"
    description: str | None = "Target registration is in progress"
    good: int = field(default=0, repr=False)
    bad: int = field(default=0, repr=False)


class HealthChecker:
    """Checks all targets of all groups; lives in one event loop."""

    def __init__(self) -> None:
        self.health: dict[tuple[str, Target], Health] = {}
        self._tasks: dict[tuple[str, Target], tuple[TargetGroup, asyncio.Task[None]]] = {}
        self._clients: dict[str, httpx.AsyncClient] = {}

    def apply(self, groups: tuple[TargetGroup, ...]) -> None:
        """Check these groups' targets from now on, and no others."""
        wanted = {(group.arn, target): group for group in groups for target in group.targets}
        for key, (group, task) in list(self._tasks.items()):
            if key not in wanted or (wanted[key].check, wanted[key].source) != (group.check, group.source):
                task.cancel()
                del self._tasks[key]
            if key not in wanted:
                del self.health[key]
        for key, group in wanted.items():
            if key not in self._tasks:
                self.health.setdefault(key, Health())
                task = asyncio.get_running_loop().create_task(self._watch(group, key[1]))
                self._tasks[key] = (group, task)

    async def close(self) -> None:
        """Check nothing any more."""
        for _, task in self._tasks.values():
            task.cancel()
        for client in self._clients.values():
            await client.aclose()

    def _client_from(self, source: str) -> httpx.AsyncClient:
        """Return the client of a load balancer's address."""
        if source not in self._clients:
            limits = httpx.Limits(max_keepalive_connections=0)
            transport = httpx.AsyncHTTPTransport(
                verify=False,  # targets speak plain HTTP
                trust_env=False,
                local_address=source,
                limits=limits,
            )
            self._clients[source] = httpx.AsyncClient(
                trust_env=False, follow_redirects=False, transport=transport
            )
        return self._clients[source]

    async def _watch(self, group: TargetGroup, target: Target) -> None:
        while True:
            reason = await self._ask(group, target)
            self._note(group, target, reason)
            await asyncio.sleep(group.check.interval_seconds)

    async def _ask(self, group: TargetGroup, target: Target) -> tuple[str, str] | None:
        """Ask once; returns None, or AWS's code and words for what is wrong."""
        check = group.check
        if target.address is None:
            return "Target.FailedHealthChecks", "The target has no address on this machine"
        url = f"http://{target.address}:{check.port or target.port}{check.path}"
        try:
            async with asyncio.timeout(check.timeout_seconds):
                response = await self._client_from(group.source).get(
                    url, headers={"User-Agent": "ELB-HealthChecker/2.0"}
                )
        except (TimeoutError, httpx.TimeoutException):
            return "Target.Timeout", "Request timed out"
        except httpx.HTTPError:
            return "Target.FailedHealthChecks", "Health checks failed"
        if any(low <= response.status_code <= high for low, high in check.codes):
            return None
        return (
            "Target.ResponseCodeMismatch",
            f"Health checks failed with these codes: [{response.status_code}]",
        )

    def _note(self, group: TargetGroup, target: Target, reason: tuple[str, str] | None) -> None:
        health = self.health[group.arn, target]
        if reason is None:
            health.good, health.bad = health.good + 1, 0
            # A new target is healthy with its first good answer.
            if health.state == "initial" or health.good >= group.check.healthy_threshold:
                health.state, health.reason, health.description = "healthy", None, None
            return
        health.good, health.bad = 0, health.bad + 1
        if health.state == "unhealthy" or health.bad >= group.check.unhealthy_threshold:
            health.state = "unhealthy"
            health.reason, health.description = reason
