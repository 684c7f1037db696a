"""200 stacks, each through random changes under random faults: nothing twice, nothing left, state as it is.

The real providers are driven against the platform by `small_engine`, in this process, and not by Pulumi's
engine, which takes seconds for each deployment: `test_lifecycle` has that one. A seed makes a run again:
`pytest tests/runpod/test_storm.py -k "[17]"`; failures print theirs, and every step with its fault.
"""

from __future__ import annotations

import random
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from infra.runpod.api import RunpodError
from infra.runpod.body import MARKER_VARIABLE
from tests.runpod.conftest import IMAGE, OTHER_IMAGE
from tests.runpod.small_engine import KilledError, Stack, Wanted, platform_in, short_waits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx

    from tests.runpod.conftest import Platform

SEEDS = range(200)
_PATHS = (
    "/v2/serverless",
    "/v2/serverless/[a-z0-9]+",
    "/v2/network-volumes",
    "/v2/network-volumes/[a-z0-9]+",
    "/v2/registries",
    "/v2/registries/[a-z0-9]+",
    "/v2/registries/delegations",
    "/v2/registries/delegations/[a-z0-9]+",
)
_CENTERS = ("EU-RO-1", "CA-MTL-3", "US-KS-2")


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    yield from platform_in(tmp_path_factory.mktemp("storm"))


@pytest.fixture(scope="module")
def admin(cloud: Platform) -> Iterator[httpx.Client]:
    with cloud.admin as client:
        yield client


@pytest.fixture(scope="module", autouse=True)
def _waits() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        short_waits(patch)
        yield


@pytest.mark.parametrize("seed", SEEDS)
def test_a_stack_comes_through(cloud: Platform, admin: httpx.Client, seed: int) -> None:
    dice = random.Random(seed)
    print(f"seed {seed}")
    stack = Stack(cloud, f"berth/storm-{seed}/runpod")
    wanted = Wanted()
    for _ in range(dice.randint(3, 6)):
        wanted = _changed(wanted, dice)
        if dice.random() < 0.25:
            _drift(cloud, stack, dice)
        step, name = dice.choice(
            [(partial(stack.up, wanted), f"up {wanted}")] * 4
            + [(stack.refresh, "refresh"), (stack.destroy, "destroy")]
        )
        _stormy(admin, stack, dice, step, name)

    stack.refresh()
    print("done in fair weather:", stack.up(wanted))
    _assert_state_is_the_platform(cloud, stack, wanted)
    _stormy(admin, stack, dice, stack.destroy, "destroy")
    stack.destroy()
    assert _there(cloud) == {"endpoints": [], "networkVolumes": [], "registries": [], "delegations": []}


def _stormy(
    admin: httpx.Client, stack: Stack, dice: random.Random, step: Callable[[], Any], name: str
) -> None:
    """Do one step under a fault, or with the engine killed in it; it may fail, in RunPod's words."""
    fault = _fault(dice)
    stack.die_at = dice.randint(0, 4) if dice.random() < 0.25 else None
    print(f"{name}\n    under {fault}, killed at {stack.die_at}")
    if fault:
        assert admin.post("/faults", json=fault).status_code == 200
    try:
        print("    done:", step())
    except (RunpodError, KilledError) as error:
        print(f"    {type(error).__name__}: {error}")
    finally:
        stack.die_at = None
        assert admin.delete("/faults").status_code == 200


def _fault(dice: random.Random) -> dict[str, Any]:
    if dice.random() < 0.1:
        return {}
    where: dict[str, Any] = {
        "method": dice.choice(("GET", "POST", "PATCH", "DELETE")),
        "path": dice.choice((".*", dice.choice(_PATHS))),
    }
    # Once or twice is got over; eight times is more than any attempts, and the step fails.
    where["count"] = dice.choice((1, 1, 1, 2, 8))
    return where | dice.choice(
        [
            {"kind": "status", "status": 429, "retry_after_seconds": 0.0},
            {"kind": "status", "status": 500},
            {"kind": "status", "status": 422, "detail": "Request validation failed."},
            {"kind": "drop_before"},
            {"kind": "drop_after"},
            {"kind": "delay", "delay_seconds": 0.01},
        ]
    )


def _changed(wanted: Wanted, dice: random.Random) -> Wanted:
    """Change one or two things that a stack file can say."""
    for _ in range(dice.randint(1, 2)):
        wanted = replace(wanted, **dice.choice(_EDITS)(dice))
    if wanted.type == "LOAD_BALANCER":
        return replace(wanted, scaling=("requestCount", wanted.scaling[1] // 1 or 1))
    return wanted


_EDITS: tuple[Callable[[random.Random], dict[str, Any]], ...] = (
    lambda dice: {"args": f"model --max-model-len {dice.randint(1, 9)}000"},
    lambda dice: {"image": dice.choice((IMAGE, OTHER_IMAGE))},
    lambda dice: {"type": dice.choice(("QUEUE", "LOAD_BALANCER"))},
    lambda dice: {
        "type": "QUEUE",
        "scaling": dice.choice((("requestCount", 4), ("queueDelay", 0.5), ("queueDelay", 4))),
    },
    lambda dice: {"cpu": dice.choice((None, "cpu3c", "cpu5c"))},
    lambda dice: {"pools": dice.choice((("AMPERE_24",), ("ADA_24", "AMPERE_24"))), "excluded": ()},
    lambda _dice: {"pools": ("AMPERE_24",), "excluded": ("NVIDIA L4",)},
    lambda dice: {"cuda": dice.choice(((), ("12.8",), ("12.8", "12.9")))},
    lambda dice: {"workers_max": dice.randint(1, 5)},
    lambda dice: {"timeout": dice.choice((5_000, 330_000, 600_000))},
    lambda dice: {"variables": dice.choice(((), (("A", "1"),), (("A", "2"), ("B", "3"))))},
    lambda dice: {
        "volumes": tuple(
            (center, dice.choice((10, 20, 40)), dice.choice(("STANDARD", "HIGH_PERFORMANCE")))
            for center in dice.sample(_CENTERS, dice.randint(0, 2))
        )
    },
    lambda dice: {"volumes": (("EU-RO-1", dice.choice((10, 20, 40)), "STANDARD"),)},
    lambda dice: {"password": dice.choice((None, "first", "second"))},
)


def _drift(cloud: Platform, stack: Stack, dice: random.Random) -> None:
    """Change the endpoint past the engine: as the platform does to idle ones, or people in its console."""
    if "endpoint" not in stack.state:
        return
    path = f"/serverless/{stack.state['endpoint'].id}"
    change = dice.choice(
        (
            {"workers": {"max": 0}},
            {"env": {"PORT": "8000", "EDITED": "by hand"}},
            {"name": "renamed", "timeout": 20_000},
            None,
        )
    )
    print(f"past the engine: {change or 'deleted'}")
    if change is None:
        cloud.api.delete(path)
    else:
        cloud.api.patch(path, json=change)


def _there(cloud: Platform) -> dict[str, list[dict[str, Any]]]:
    paths = {
        "endpoints": "/serverless",
        "networkVolumes": "/network-volumes",
        "registries": "/registries",
        "delegations": "/registries/delegations",
    }
    return {key: cloud.api.get(path).json()[key] for key, path in paths.items()}


def _assert_state_is_the_platform(cloud: Platform, stack: Stack, wanted: Wanted) -> None:
    """Nothing there that the state does not have, nothing twice, every setting as wanted; nothing to do."""
    there = _there(cloud)
    ids = {kept.id for name, kept in stack.state.items() if name != "marker"}
    found = [item["id"] for items in there.values() for item in items]
    assert len(found) == len(set(found))
    # What a killed engine made, and the program then came to want no more, goes with the stack.
    assert ids <= set(found) <= ids | stack.lost
    there = {key: [item for item in items if item["id"] in ids] for key, items in there.items()}
    (endpoint,) = there["endpoints"]
    asked = wanted.endpoint()
    marker = {MARKER_VARIABLE: stack.state["marker"].outs["value"]}
    assert endpoint["env"] == {**asked["env"], **marker}
    for key in ("name", "type", "args", "image", "workers", "scaling", "timeout", "disk", "flashboot"):
        assert endpoint[key] == asked[key], key
    assert endpoint["networkVolumes"] == [stack.state[f"volume-{item[0]}"].id for item in wanted.volumes]
    assert endpoint["registry"] == (stack.state["credential"].id if wanted.password else None)
    volumes = [(item["dataCenter"], item["size"], item["type"]) for item in there["networkVolumes"]]
    assert sorted(volumes) == sorted(wanted.volumes)
    before = {name: (kept.id, kept.outs) for name, kept in stack.state.items()}
    stack.refresh()
    assert {name: (kept.id, kept.outs) for name, kept in stack.state.items()} == before
    assert stack.up(wanted) == []
