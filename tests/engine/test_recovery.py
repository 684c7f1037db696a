"""What is killed or interrupted half-way is gone on with: nothing is made twice, nothing forgotten."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from sandbox.engine import EngineError, LockedError
from tests.engine.conftest import wait_until

if TYPE_CHECKING:
    from tests.engine.conftest import Shop

GATED = """
    a = Object("a", by())
    b = Object("b", by(depends_on=[a]), whileExists="{gate}")
    c = Object("c", by(depends_on=[b]))
"""


NEVER_READY = GATED.replace('whileExists="{gate}"', 'whileExists="{gate}", initError="the pod crashes"')


def gate_path(shop: Shop) -> str:
    return str(shop.root.parent / "gate")


def gate(shop: Shop) -> str:
    path = Path(gate_path(shop))
    path.touch()
    return str(path)


def open_gate(shop: Shop) -> None:
    Path(gate_path(shop)).unlink()


def leave_interrupted_creation(shop: Shop, text: str = GATED) -> None:
    """Kill `up` while b is being created: the object exists, its id is not recorded."""
    shop.program(text.format(gate=gate(shop)))
    shop.kill_when("up", lambda: shop.object("b") is not None)
    open_gate(shop)
    assert [item["type"] for item in shop.deployment()["pending_operations"]] == ["creating"]
    assert "b" not in shop.resources()


def test_a_kill_leaves_no_process(shop: Shop) -> None:
    shop.program(GATED.format(gate=gate(shop)))
    process = shop.start("up")
    wait_until(lambda: shop.object("b") is not None, process)
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 2
    process.kill()
    process.communicate()
    wait_until(lambda: not any(child.is_running() and child.status() != "zombie" for child in children))
    open_gate(shop)


def test_up_after_a_kill_in_the_middle_of_a_create(shop: Shop) -> None:
    leave_interrupted_creation(shop)
    shop.forget_calls()
    assert shop.up() == {"create": 1}
    # The creation is finished with the inputs that were recorded; the rest follows.
    assert shop.calls("create") == ["create b", "create c"]
    assert "pending_operations" not in shop.deployment()
    assert {"a", "b", "c"} <= set(shop.resources())
    assert "is taken over: that process is gone" in shop.shown.getvalue()


def test_an_interrupted_creation_that_is_not_wanted_any_more_is_undone(shop: Shop) -> None:
    leave_interrupted_creation(shop)
    shop.up('a = Object("a", by())')
    assert shop.object("b") is None
    assert set(shop.resources()) == {"shop-local", "acme", "a"}


def test_destroy_after_a_kill_in_the_middle_of_a_create(shop: Shop) -> None:
    leave_interrupted_creation(shop)
    shop.engine().destroy()
    assert not list(shop.objects.glob("*.json"))
    assert "pending_operations" not in shop.deployment()


def test_destroy_after_a_kill_in_the_middle_of_a_create_that_does_not_come_up(shop: Shop) -> None:
    leave_interrupted_creation(shop, NEVER_READY)
    assert shop.engine().destroy().changes["delete"] >= 2
    assert "the pod crashes" in shop.shown.getvalue()
    assert not list(shop.objects.glob("*.json"))
    assert "pending_operations" not in shop.deployment()
    assert shop.resources() == {}


def test_up_after_a_kill_in_the_middle_of_a_create_that_does_not_come_up(shop: Shop) -> None:
    leave_interrupted_creation(shop, NEVER_READY)
    shop.forget_calls()
    # It is taken in as it is, and then brought to what the program wants, not made once more.
    assert shop.up(GATED.format(gate=gate_path(shop))) == {"update": 1, "create": 1}
    assert shop.calls("create", "update", "delete") == ["create b", "update b", "create c"]
    assert shop.resources()["b"]["id"] == "b"
    assert "initErrors" not in shop.resources()["b"]
    assert "pending_operations" not in shop.deployment()
    assert shop.up() == {}


def test_refresh_records_an_interrupted_creation_that_does_not_come_up(shop: Shop) -> None:
    leave_interrupted_creation(shop, NEVER_READY)
    shop.engine().refresh()
    assert shop.resources()["b"]["id"] == "b"
    assert "pending_operations" not in shop.deployment()


def test_an_interrupted_creation_that_cannot_be_finished_stays_on_record(shop: Shop) -> None:
    leave_interrupted_creation(shop)
    state = json.loads(shop.path.read_text())
    inputs = state["checkpoint"]["latest"]["pending_operations"][0]["resource"]["inputs"]
    inputs["fail"] = "the cloud does not answer"
    shop.path.write_text(json.dumps(state))
    with pytest.raises(EngineError, match=r"interrupted creations could not be finished.*::b"):
        shop.engine().destroy()
    assert shop.deployment()["pending_operations"][0]["resource"]["urn"].endswith("::b")


def test_destroy_and_up_after_a_kill_in_the_middle_of_a_delete(shop: Shop) -> None:
    text = GATED.format(gate=gate(shop))
    open_gate(shop)
    shop.up(text)
    gate(shop)
    shop.kill_when("destroy", lambda: "delete b" in shop.calls("delete"))
    open_gate(shop)
    assert [item["type"] for item in shop.deployment()["pending_operations"]] == ["deleting"]
    assert shop.object("b") is None
    # b is recorded but gone: the next up finds that out, and makes it and what was deleted before it.
    assert shop.up(text) == {"create": 2}
    assert shop.object("b") is not None
    assert shop.up() == {}
    gate(shop)
    shop.kill_when("destroy", lambda: shop.calls("delete").count("delete b") == 2)
    open_gate(shop)
    shop.engine().destroy()
    assert not list(shop.objects.glob("*.json"))
    assert shop.deployment().get("resources") is None


def test_up_after_a_kill_between_deletion_and_replacement(shop: Shop) -> None:
    text = 'a = Object("a", by(delete_before_replace=True), name="{name}", whileExists="{gate}")'
    path = gate(shop)
    open_gate(shop)
    shop.up(text.format(name="one", gate=path))
    shop.program(text.format(name="two", gate=path + "2"))
    (shop.root.parent / "gate2").touch()
    shop.kill_when("up", lambda: shop.object("two") is not None)
    (shop.root.parent / "gate2").unlink()
    assert shop.resources()["a"]["pendingReplacement"] is True
    shop.forget_calls()
    assert shop.up() == {}
    assert shop.calls("create", "delete") == ["create a"]
    assert shop.resources()["a"]["id"] == "two"
    assert "pendingReplacement" not in shop.resources()["a"]


def test_an_interrupted_update_is_repeated_even_if_it_was_undone(shop: Shop) -> None:
    text = 'a = Object("a", by(), value={n}, whileExists="{gate}")'
    path = gate(shop)
    open_gate(shop)
    shop.up(text.format(n=1, gate=path))
    gate(shop)
    shop.program(text.format(n=2, gate=path))
    shop.kill_when("up", lambda: "update a" in shop.calls("update"))
    open_gate(shop)
    assert shop.up(text.format(n=1, gate=path)) == {"update": 1}
    made = shop.object("a")
    assert made is not None
    assert made["inputs"]["value"] == 1


def test_interrupted_once_it_waits_for_what_runs(shop: Shop) -> None:
    shop.program(GATED.format(gate=gate(shop)))
    process = shop.start("up")
    wait_until(lambda: shop.object("b") is not None, process)
    process.send_signal(signal.SIGINT)
    wait_until(lambda: process.stdout is not None and "interrupted" in process.stdout.readline(), process)
    open_gate(shop)
    output, _ = process.communicate(timeout=60)
    assert "interrupted: what was running has ended and is recorded" in output
    assert process.returncode == 1
    assert "b" in shop.resources()
    assert "c" not in shop.resources()
    assert shop.up() == {"create": 1}


def test_interrupted_twice_it_gives_up(shop: Shop) -> None:
    shop.program(GATED.format(gate=gate(shop)))
    process = shop.start("up")
    wait_until(lambda: shop.object("b") is not None, process)
    process.send_signal(signal.SIGINT)
    wait_until(lambda: process.stdout is not None and "interrupted" in process.stdout.readline(), process)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 1
    open_gate(shop)
    assert shop.up() in ({"create": 1}, {"create": 2})
    assert {"a", "b", "c"} <= set(shop.resources())


def test_the_second_of_two_is_refused_and_told_who_is_first(shop: Shop) -> None:
    shop.program(GATED.format(gate=gate(shop)))
    process = shop.start("up")
    wait_until(lambda: shop.object("b") is not None, process)
    with pytest.raises(LockedError, match=rf"locked by .*@{socket.gethostname()} \(process {process.pid}\)"):
        shop.engine().up()
    with pytest.raises(LockedError):
        shop.engine().destroy()
    assert shop.preview() == {"create": 2}
    open_gate(shop)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert shop.up() == {}


def test_a_full_disk_leaves_the_old_state_whole(shop: Shop) -> None:
    shop.up('a = Object("a", by())')
    before = shop.path.read_bytes()
    shop.program('a = Object("a", by())\nb = Object("b", by(), text="x" * 20000)')
    # The kernel itself refuses to let a file grow beyond this; Python ignores SIGXFSZ, so the write fails.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 2000, hard))
    try:
        with pytest.raises(EngineError, match=r"the state cannot be written to .* unharmed"):
            shop.engine().up()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert shop.path.read_bytes() == before
    assert not list(shop.path.parent.glob(".*partial"))
    assert shop.calls("create") == ["create a"]
    assert shop.up() == {"create": 1}


def test_a_damaged_state_is_said(shop: Shop) -> None:
    shop.up("")
    shop.path.write_text(shop.path.read_text()[:100])
    with pytest.raises(EngineError, match=r"is damaged .*local.json.bak"):
        shop.engine().up()


def test_the_state_is_for_its_owner_only(shop: Shop) -> None:
    before = os.umask(0o000)
    try:
        shop.up('a = Object("a", by())')
        shop.up('a = Object("a", by(), value=1)')
    finally:
        os.umask(before)
    paths = [shop.state, *shop.state.rglob("*")]
    kinds = {
        "".join(path.suffixes[-2:])
        for path in paths
        if path.is_file() and path.parent.name in ("shop", "local")
    }
    assert {".json", ".json.bak", ".history.json", ".checkpoint.json"} <= kinds
    folders = {stat.S_IMODE(path.stat().st_mode) for path in paths if path.is_dir()}
    assert folders == {0o700}
    files = [path for path in paths if path.is_file() and not path.name.endswith(".guard")]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
