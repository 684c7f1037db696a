"""Create, update, replace and delete: in which order, what at once, and what a preview says of it."""

from __future__ import annotations

import io
import json
import re
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from sandbox.engine import Engine, EngineError, LiveDisplay
from tests.engine.conftest import PASSPHRASE, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.engine.conftest import Shop

CHAIN = """
    a = Object("a", by(), value=1)
    group = Group("group", size=2)
    b = Object("b", by(parent=group), after=a.token)
    c = Object("c", by(depends_on=[b]))
    group.register_outputs({"token": b.token})
    note = Note("note", text="hello")
    pulumi.export("token", b.token)
    pulumi.export("length", note.length)
"""


def test_a_stack_is_made_kept_and_destroyed_in_order(shop: Shop) -> None:
    engine_text = CHAIN
    assert shop.preview(engine_text) == {"create": 7}
    assert not shop.path.exists()
    assert shop.calls("create") == []

    assert shop.up() == {"create": 7}
    assert shop.calls("create", "created") == [
        f"{call} {name}" for name in "abc" for call in ("create", "created")
    ]
    assert shop.engine().outputs() == {"token": "token-of-b", "length": 5}
    assert shop.resources()["group"]["outputs"] == {"token": "token-of-b"}
    assert shop.resources()["b"]["inputs"]["after"] == "token-of-a"
    assert shop.preview() == {}
    before = shop.path.read_bytes()
    assert shop.up() == {}
    recorded = {item["urn"]: item for item in json.loads(before)["checkpoint"]["latest"]["resources"]}
    assert recorded == {item["urn"]: item for item in shop.deployment()["resources"]}

    shop.forget_calls()
    (shop.root / "program" / "__main__.py").write_text("raise SystemExit('destroy does not run the program')")
    destroyed = shop.engine().destroy()
    assert destroyed.changes == {"delete": 7}
    assert shop.calls("delete", "deleted") == [
        f"{call} {name}" for name in "cba" for call in ("delete", "deleted")
    ]
    assert shop.deployment().get("resources") is None
    assert not list(shop.objects.glob("*.json")) + list(shop.objects.glob("*.note"))


def test_what_the_graph_allows_runs_at_once(shop: Shop, tmp_path: Path) -> None:
    gate = f"{tmp_path}/gate"
    # Each of the two ends only when the other has begun: the second one opens the gate.
    shop.program(f"""
        import pathlib
        pathlib.Path({gate!r}).touch()
        one, two = (Object(name, by(), whileExists={gate!r}) for name in ("one", "two"))
        last = Object("last", by(), after=[one.token, two.token])
    """)
    process = shop.start("up")
    wait_until(lambda: sorted(shop.calls("create")) == ["create one", "create two"], process)
    (shop.root.parent / "gate").unlink()
    assert process.wait(60) == 0
    assert shop.calls("create")[2:] == ["create last"]

    shop.forget_calls()
    (shop.root.parent / "gate").touch()
    process = shop.start("destroy")
    wait_until(lambda: sorted(shop.calls("delete")) == ["delete last", "delete one", "delete two"], process)
    (shop.root.parent / "gate").unlink()
    assert process.wait(60) == 0
    assert shop.calls("delete", "deleted")[:2] == ["delete last", "deleted last"]


def test_update_and_removal(shop: Shop) -> None:
    shop.up("""
        a = Object("a", by(), value=1, nested={"x": [1, 2]})
        b = Object("b", by(), value=a.token)
    """)
    shop.forget_calls()
    changed = """
        a = Object("a", by(), value=2, nested={"x": [1, 3]}, added="new")
    """
    assert shop.preview(changed) == {"update": 1, "delete": 1}
    assert "~ value: 1 => 2" in shop.shown.getvalue()
    assert "~ nested.x[1]: 2 => 3" in shop.shown.getvalue()
    assert '+ added: "new"' in shop.shown.getvalue()
    assert shop.calls("update", "delete") == []
    assert shop.up() == {"update": 1, "delete": 1}
    assert shop.calls("update", "delete") == ["update a", "delete b"]
    assert shop.object("a") is not None
    assert shop.object("b") is None


def test_replacement_makes_the_new_one_first(shop: Shop) -> None:
    shop.up("""
        a = Object("a", by(), name="first")
        b = Object("b", by(), value=a.token)
    """)
    shop.forget_calls()
    shop.program("""
        a = Object("a", by(), name="second")
        b = Object("b", by(), value=a.token)
    """)
    assert shop.preview() == {"replace": 1, "update": 1}
    assert '~ name: "first" => "second"  (forces replacement)' in shop.shown.getvalue()
    assert '~ value: "token-of-first" => [unknown]' in shop.shown.getvalue()
    assert shop.up() == {"replace": 1, "update": 1}
    assert shop.calls("create", "update", "delete") == ["create a", "update b", "delete a"]
    assert shop.object("first") is None
    assert shop.object("second") is not None
    assert shop.resources()["b"]["inputs"]["value"] == "token-of-second"
    assert shop.up() == {}


def test_replacement_deletes_first_where_asked_and_takes_dependents_along(shop: Shop) -> None:
    text = """
        a = Object("a", by(), name="{name}", eager=True)
        pinned = Object("pinned", by(), pin=a.token)
        loose = Object("loose", by(), value=a.token)
    """
    shop.up(text.format(name="first"))
    shop.forget_calls()
    assert shop.preview(text.format(name="second")) == {"replace": 2, "update": 1}
    assert shop.up() == {"replace": 2, "update": 1}
    calls = shop.calls("create", "update", "delete")
    assert calls[:3] == ["delete pinned", "delete a", "create a"]
    assert sorted(calls[3:]) == ["create pinned", "update loose"]
    assert shop.up() == {}


def test_a_provider_whose_settings_are_unknown_is_previewed_as_far_as_possible(shop: Shop) -> None:
    text = """
        note = Note("note", text="{text}")
        late = Account("late", account=note.length.apply(lambda length: f"account-{{length}}"))
        a = Object("a", Options(provider=late), value=1)
        pulumi.export("token", a.token)
    """
    shop.program(text.format(text="abc"))
    preview = shop.engine().preview()
    assert preview.changes == {"create": 5}
    assert preview.outputs == {"token": "[unknown]"}
    shop.up()
    assert shop.resources()["a"]["outputs"]["account"] == "account-3"
    assert shop.preview() == {}
    # Now the length, and with it what the provider is, is only known once the note is changed.
    assert shop.preview(text.format(text="abcd")) == {"update": 1, "replace": 2}
    assert shop.up() == {"update": 1, "replace": 2}
    assert shop.resources()["a"]["outputs"]["account"] == "account-4"


def test_preview_as_json_is_shaped_like_pulumis(shop: Shop) -> None:
    shop.up('a = Object("a", by(), value=1)')
    shop.program('a = Object("a", by(), value=pulumi.Output.secret("hush"))')
    data = json.loads(json.dumps(shop.engine().preview().json()))
    assert data["changeSummary"] == {"same": 2, "update": 1}
    step = next(step for step in data["steps"] if step["op"] == "update")
    assert step["urn"].endswith("::a")
    assert step["oldState"]["inputs"]["value"] == 1
    assert step["newState"]["inputs"]["value"]["ciphertext"] == "[secret]"
    assert step["diffReasons"] == ["value"]
    assert "hush" not in json.dumps(data)


def test_a_failure_stops_what_follows_and_keeps_what_is_done(shop: Shop) -> None:
    shop.program("""
        a = Object("a", by())
        bad = Object("bad", by(depends_on=[a]), fail="no more room on this cloud")
        never = Object("never", by(depends_on=[bad]))
    """)
    with pytest.raises(EngineError) as raised:
        shop.engine().up()
    assert str(raised.value) == "probe:index:Object bad: no more room on this cloud"
    assert set(shop.resources()) == {"shop-local", "acme", "a"}
    assert shop.deployment().get("pending_operations") is None
    assert shop.up("""
        a = Object("a", by())
        bad = Object("bad", by(depends_on=[a]))
    """) == {"create": 1}


def test_what_did_not_come_up_is_kept_and_tried_again(shop: Shop) -> None:
    text = 'a = Object("a", by(), initError="{error}")'
    shop.program(text.format(error="the pod crashes"))
    with pytest.raises(EngineError, match="probe:index:Object a: the pod crashes"):
        shop.engine().up()
    assert shop.resources()["a"]["initErrors"] == ["the pod crashes"]
    assert shop.up(text.format(error="")) == {"update": 1}
    assert shop.calls("create") == ["create a"]
    assert "initErrors" not in shop.resources()["a"]


def test_failures_of_the_program_are_told_in_its_own_words(shop: Shop) -> None:
    shop.program("raise SystemExit('stacks/Pulumi.local.yaml: model.name is missing')")
    with pytest.raises(EngineError, match=r"^stacks/Pulumi.local.yaml: model.name is missing$"):
        shop.engine().up()
    shop.program("raise pulumi.RunError('settings are wrong')")
    with pytest.raises(EngineError, match=r"^settings are wrong$"):
        shop.engine().preview()
    shop.program("pulumi.log.error('told by log')\nraise SystemExit(1)")
    with pytest.raises(EngineError, match=r"^told by log$"):
        shop.engine().preview()
    shop.program("def broken():\n    return {}['absent']\nbroken()")
    with pytest.raises(EngineError) as raised:
        shop.engine().preview()
    assert "KeyError: 'absent'" in str(raised.value)
    assert "runner.py" not in str(raised.value)
    shop.program("Note('note', text='x', fail='the disk of notes is full')")
    with pytest.raises(EngineError) as raised:
        shop.engine().up()
    assert str(raised.value) == "pulumi-python:dynamic/kit:Note note: ValueError: the disk of notes is full"
    shop.program('Object("a", by(), bogus=1)')
    with pytest.raises(
        EngineError, match=r"probe:index:Object a: there is no such property \(property bogus\)"
    ):
        shop.engine().preview()


def test_invokes(shop: Shop) -> None:
    shop.program("""
        from pulumi import InvokeOptions
        from pulumi.runtime import invoke_output
        ask = lambda **arguments: pulumi.runtime.invoke(
            "probe:index:getAnswer", arguments, InvokeOptions(provider=acme)
        ).value
        pulumi.export("answer", ask(question="why")["answer"])
    """)
    assert shop.engine().up().outputs == {"answer": "why!"}
    shop.program("""
        from pulumi import InvokeOptions
        pulumi.runtime.invoke("probe:index:getAnswer", {"wrong": True}, InvokeOptions(provider=acme)).value
    """)
    with pytest.raises(EngineError, match="must not be given"):
        shop.engine().preview()


def test_settings_reach_the_program(shop: Shop) -> None:
    shop.settings(size=3, deep={"list": [1, 2.5, True], "text": "x"}, flag=True, one=1)
    shop.program("""
        config = pulumi.Config()
        pulumi.export("all", [
            config.require_int("size"), config.require_object("deep"),
            config.require_bool("flag"), config.get("one"),
        ])
    """)
    assert shop.engine().preview().outputs["all"] == [3, {"list": [1, 2.5, True], "text": "x"}, True, "1"]


def test_a_live_tree_on_a_terminal(shop: Shop) -> None:
    screen = io.StringIO()
    display = LiveDisplay(Console(file=screen, force_terminal=True, width=120))
    slow = 'Object("slow", by(), seconds=1, say="almost ready", secret=pulumi.Output.secret("hush"))'
    shop.program(f"{CHAIN}    {slow}")
    Engine(
        shop.root,
        "local",
        backend=shop.state,
        passphrase=PASSPHRASE,
        environment=shop.environment,
        display=display,
    ).up()
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.getvalue())
    assert "slow creating" in shown
    assert "almost ready" in shown
    assert "slow created" in shown
    assert "8 created" in shown
    assert "hush" not in shown


def test_every_failure_is_told(shop: Shop) -> None:
    gate = shop.root.parent / "gate"
    gate.touch()
    shop.program(f"""
        one = Object("one", by(), whileExists={str(gate)!r}, initError="one is broken")
        two = Object("two", by(), whileExists={str(gate)!r}, initError="two is broken")
    """)
    process = shop.start("up")
    wait_until(lambda: sorted(shop.calls("create")) == ["create one", "create two"], process)
    gate.unlink()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "probe:index:Object one: one is broken" in output
    assert "probe:index:Object two: two is broken" in output


def test_what_providers_say_is_shown_with_their_resource(shop: Shop) -> None:
    shop.up("""
        a = Object("a", by(), say="nearly there")
        note = Note("note", Options(depends_on=[a]), text="x")
    """)
    assert "a: nearly there" in shop.shown.getvalue()
    assert "note: writing note" in shop.shown.getvalue()
