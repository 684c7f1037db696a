"""Refresh: what changed or vanished in the clouds is found and recorded, and put right by the next `up`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.engine.conftest import Shop


def test_drift_and_loss_are_found(shop: Shop) -> None:
    shop.up("""
        a = Object("a", by(), value=1)
        b = Object("b", by(), value=a.token)
        gone = Object("gone", by())
        after = Object("after", by(depends_on=[gone]), value=gone.token)
        note = Note("note", text=pulumi.Output.secret("written"))
    """)
    assert shop.engine().refresh().changed is False
    made = shop.object("a")
    assert made is not None
    made["inputs"]["value"] = 7
    (shop.objects / "a.json").write_text(json.dumps(made))
    (shop.objects / "gone.json").unlink()
    (shop.objects / "note.note").write_text("rewritten")
    result = shop.engine().refresh()
    assert result.changes == {"delete": 1, "same": 2, "update": 2}
    assert "~ value: 1 => 7" in shop.shown.getvalue()
    assert "rewritten" not in shop.shown.getvalue() + shop.path.read_text()
    assert shop.resources()["a"]["inputs"]["value"] == 7
    assert "gone" not in shop.resources()
    assert "dependencies" not in shop.resources()["after"]
    assert shop.up() == {"create": 1, "update": 2}
    assert (shop.objects / "note.note").read_text() == "written"
    made = shop.object("a")
    assert made is not None
    assert made["inputs"]["value"] == 1


def test_refresh_finishes_an_interrupted_creation(shop: Shop) -> None:
    shop.program('a = Object("a", by(), seconds=100)')
    shop.kill_when("up", lambda: shop.object("a") is not None)
    state = json.loads(shop.path.read_text())
    state["checkpoint"]["latest"]["pending_operations"][0]["resource"]["inputs"]["seconds"] = 0
    shop.path.write_text(json.dumps(state))
    shop.engine().refresh()
    assert shop.resources()["a"]["id"] == "a"


def test_what_a_refresh_finds_in_an_ignored_property_stays(shop: Shop) -> None:
    text = 'a = Object("a", by(ignore_changes=["scaling.desired"]), scaling={{"desired": 1, "max": {n}}})'
    shop.up(text.format(n=3))
    made = shop.object("a")
    assert made is not None
    made["inputs"]["scaling"]["desired"] = 5
    (shop.objects / "a.json").write_text(json.dumps(made))
    shop.engine().refresh()
    assert shop.up(text.format(n=3)) == {}
    assert shop.up(text.format(n=4)) == {"update": 1}
    made = shop.object("a")
    assert made is not None
    assert made["inputs"]["scaling"] == {"desired": 5, "max": 4}
