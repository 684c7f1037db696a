"""The engine's order of work over RunPod's dynamic providers, in this process: hundreds of stacks a minute.

It does to the real providers what Pulumi's engine does, with an engine's state and its ways to lose it. Tests
that use it show that the providers hold, and nothing of engines.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx
import tenacity

from infra.runpod.provider import EcrDelegationProvider, EndpointProvider, MarkerProvider
from infra.runpod.registry import RegistryCredentialProvider
from infra.runpod.volume import NetworkVolumeProvider
from sandbox.runpod.cloud import RunpodCloud
from tests.blocks import free_block
from tests.runpod.conftest import (
    IMAGE,
    KEY,
    POLICY,
    REPOSITORY_ARN,
    FakeLauncher,
    FakeRegistry,
    Platform,
    body,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import pytest
    from pulumi.dynamic import ResourceProvider

    from sandbox.runpod.registry import Login, Repository

USERNAME = "robot"


class Registry(FakeRegistry):
    """A registry that takes any password of one user, beside the delegation."""

    def has_image(
        self, repository: Repository, *, tag: str | None, digest: str | None, login: Login | None = None
    ) -> bool:
        return (login is None or login.username == USERNAME) and super().has_image(
            repository, tag=tag, digest=digest
        )


def platform_in(folder: Path) -> Iterator[Platform]:
    """Run the platform with such a registry."""
    launcher, registry = FakeLauncher(), Registry(json.dumps(POLICY))
    cloud = RunpodCloud(key=KEY, directory=folder, launcher=launcher, images=registry, block=free_block())
    cloud.start()
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=cloud.endpoint, headers=headers, timeout=30, trust_env=False) as api:
        yield Platform(cloud, launcher, registry, api)
    cloud.stop()


def short_waits(patch: pytest.MonkeyPatch) -> None:
    """Give the providers the platform's key, and let them wait for nothing."""
    patch.setenv("RUNPOD_API_KEY", KEY)
    for name in ("api._BACK_OFF", "objects._BACK_OFF", "objects._GONE_WAIT"):
        patch.setattr(f"infra.runpod.{name}", tenacity.wait_fixed(0.001))
    patch.setattr("infra.runpod.objects._GONE_SECONDS", 3.0)


@dataclass(frozen=True)
class Wanted:
    """What one stack shall have, as a program would say it; what is None or empty is not there."""

    args: str = "model --max-model-len 2048"
    image: str = IMAGE
    type: str = "LOAD_BALANCER"
    scaling: tuple[str, float] = ("requestCount", 4)
    cpu: str | None = None
    pools: tuple[str, ...] = ("AMPERE_24",)
    excluded: tuple[str, ...] = ()
    cuda: tuple[str, ...] = ()
    workers_max: int = 1
    timeout: int = 330_000
    variables: tuple[tuple[str, str], ...] = ()
    volumes: tuple[tuple[str, int, str], ...] = ()
    password: str | None = None

    def endpoint(self) -> dict[str, Any]:
        """Return the endpoint's own properties."""
        rule, value = self.scaling
        kind = {"requestCount": "REQUEST_COUNT", "queueDelay": "QUEUE_DELAY"}[rule]
        workers = {"min": 0, "max": self.workers_max, "idleTimeout": 60}
        if self.type == "QUEUE" and kind == "REQUEST_COUNT":
            del workers["idleTimeout"]
        cuda = {"allowedCudaVersions": list(self.cuda)} if self.cuda else {"minCudaVersion": "12.8"}
        gpu = {"pools": list(self.pools), "excludedTypes": list(self.excluded), "count": 1, **cuda}
        return {
            **body(),
            "type": self.type,
            "args": self.args,
            "image": self.image,
            "env": {**body()["env"], **dict(self.variables)},
            "gpu": None if self.cpu else gpu,
            "cpu": [{"id": self.cpu, "vcpuCount": 4}] if self.cpu else None,
            "workers": workers,
            "scaling": {"type": kind, rule: value},
            "dataCenterIds": sorted(center for center, _, _ in self.volumes),
            "timeout": self.timeout,
            "disk": 20,
            "flashboot": "OFF",
        }


@dataclass
class Kept:
    """One resource in the state."""

    provider: ResourceProvider
    id: str
    outs: dict[str, Any]


class KilledError(Exception):
    """The engine's process ended before it wrote down what its provider had just done."""


@dataclass
class Stack:
    """One stack: its state, and what an engine does with it."""

    platform: Platform
    owner: str
    state: dict[str, Kept] = field(default_factory=dict)
    pending: list[Kept] = field(default_factory=list)
    """What was replaced and is not deleted yet."""
    die_at: int | None = None
    """How many changes from now the engine is killed at."""
    lost: set[str] = field(default_factory=set)
    """The ids of what was made when the engine was killed."""
    done: list[str] = field(default_factory=list)

    def up(self, wanted: Wanted) -> list[str]:
        """Bring the stack to what is wanted; return what was done."""
        self.done = []
        names: list[str] = []
        for name, provider, inputs in self._program(wanted):
            names.append(name)
            self._settle(name, provider, inputs)
        self._delete_pending()
        for name in sorted(set(self.state) - set(names), key=_rank, reverse=True):
            self._delete(name)
        return self.done

    def refresh(self) -> None:
        """Take what the platform has into the state."""
        for name, kept in list(self.state.items()):
            read = kept.provider.read(kept.id, kept.outs)
            if read.id:
                self.state[name] = Kept(kept.provider, kept.id, _floats(read.outs))
            else:
                del self.state[name]

    def destroy(self) -> None:
        """Delete all of it, the last first."""
        for name in sorted(self.state, key=_rank, reverse=True):
            if name == "marker":
                self._delete_pending()
            self._delete(name)

    def _program(
        self, wanted: Wanted
    ) -> Iterator[tuple[str, ResourceProvider, Callable[[], dict[str, Any]]]]:
        at = {"apiUrl": self.platform.cloud.endpoint}

        def ours() -> dict[str, Any]:
            return {**at, "marker": self.state["marker"].outs["value"]}

        yield "marker", MarkerProvider(), lambda: {**at, "owner": self.owner}
        yield "delegation", EcrDelegationProvider(), lambda: {**ours(), "resource": REPOSITORY_ARN}
        if wanted.password:
            login = {"username": USERNAME, "password": wanted.password}
            yield "credential", RegistryCredentialProvider(), lambda: {**ours(), **login}
        for center, size, kind in wanted.volumes:
            place = {"name": "llm", "size": size, "dataCenter": center, "type": kind}
            yield f"volume-{center}", NetworkVolumeProvider(), partial(lambda it: {**ours(), **it}, place)

        def endpoint() -> dict[str, Any]:
            volumes = [self.state[f"volume-{center}"].id for center, _, _ in wanted.volumes]
            registry = self.state["credential"].id if wanted.password else None
            return {**ours(), **wanted.endpoint(), "networkVolumes": volumes, "registry": registry}

        yield "endpoint", EndpointProvider(), endpoint

    def _settle(self, name: str, provider: ResourceProvider, inputs: Callable[[], dict[str, Any]]) -> None:
        props = _floats(inputs())
        kept = self.state.get(name)
        failures = provider.check(kept.outs if kept else {}, props).failures
        assert failures == [], [(item.property, item.reason) for item in failures]
        if kept is None:
            self._create(name, provider, props)
            return
        diff = provider.diff(kept.id, kept.outs, props)
        if not diff.changes:
            return
        if not diff.replaces:
            outs = provider.update(kept.id, kept.outs, props).outs
            self._changed("update", name)
            self.state[name] = Kept(provider, kept.id, _floats(outs))
        elif diff.delete_before_replace:
            self._delete(name)
            self._create(name, provider, props)
        else:
            self._create(name, provider, props, replaced=kept)

    def _create(
        self, name: str, provider: ResourceProvider, props: dict[str, Any], replaced: Kept | None = None
    ) -> None:
        made = provider.create(props)
        self.lost.add(made.id)
        self._changed("create", name)
        self.lost.discard(made.id)
        self.state[name] = Kept(provider, made.id, _floats(made.outs))
        if replaced is not None:
            self.pending.append(replaced)

    def _delete(self, name: str) -> None:
        kept = self.state[name]
        kept.provider.delete(kept.id, kept.outs)
        self._changed("delete", name)
        del self.state[name]

    def _delete_pending(self) -> None:
        while self.pending:
            kept = self.pending[-1]
            kept.provider.delete(kept.id, kept.outs)
            self._changed("delete", "replaced")
            self.pending.pop()

    def _changed(self, what: str, name: str) -> None:
        if self.die_at is not None:
            self.die_at -= 1
            if self.die_at < 0:
                self.die_at = None
                raise KilledError
        self.done.append(f"{what} {name}")


def _rank(name: str) -> int:
    """Return a resource's place in the order of dependence."""
    return ("marker", "delegation", "credential", "volume", "endpoint").index(name.partition("-")[0])


def _floats(properties: dict[str, Any] | None) -> dict[str, Any]:
    """Return properties as they come out of Pulumi's wire format: every number a float."""
    floats: dict[str, Any] = json.loads(json.dumps(properties), parse_int=float)
    return floats
