"""Resource options, each by what it makes the engine do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sandbox.engine import EngineError

if TYPE_CHECKING:
    from tests.engine.conftest import Shop


def test_protect(shop: Shop) -> None:
    text = 'a = Object("a", by(protect={protect}), name="{name}")'
    shop.up(text.format(protect=True, name="one"))
    with pytest.raises(EngineError, match="protected"):
        shop.engine().destroy()
    shop.program(text.format(protect=True, name="two"))
    with pytest.raises(EngineError, match=r"would be replaced \(name\) but is protected"):
        shop.engine().up()
    shop.program("")
    with pytest.raises(EngineError, match="protected, so not deleted: probe:index:Object a"):
        shop.engine().up()
    assert shop.calls("delete") == []
    assert shop.up(text.format(protect=False, name="one")) == {}
    assert shop.engine().destroy().changes["delete"] == 3


def test_ignore_changes(shop: Shop) -> None:
    text = """
        a = Object("a", by(ignore_changes=["value", "nested.kept", "tags[*].v"]),
            value={n}, other={n}, nested={{"kept": {n}, "free": {n}}}, tags=[{{"v": {n}}}])
    """
    shop.up(text.format(n=1))
    shop.up(text.format(n=2))
    inputs = shop.resources()["a"]["inputs"]
    assert inputs == {
        "name": "a",
        "value": 1,
        "other": 2,
        "nested": {"kept": 1, "free": 2},
        "tags": [{"v": 1}],
    }
    assert shop.resources()["a"]["ignoreChanges"] == ["value", "nested.kept", "tags[*].v"]


def test_replace_on_changes_and_delete_before_replace(shop: Shop) -> None:
    text = 'a = Object("a", by(replace_on_changes=["value"], delete_before_replace=True), value={n})'
    shop.up(text.format(n=1))
    shop.forget_calls()
    assert shop.up(text.format(n=2)) == {"replace": 1}
    assert shop.calls("create", "delete") == ["delete a", "create a"]


def test_custom_timeouts_reach_the_provider(shop: Shop) -> None:
    text = """
        timeouts = pulumi.CustomTimeouts(create="1h30m", update="45s", delete="10m")
        a = Object("a", by(custom_timeouts=timeouts), value={n})
    """
    shop.up(text.format(n=1))
    shop.up(text.format(n=2))
    shop.engine().destroy()
    timeouts = {item["call"]: item["timeout"] for item in shop.log() if "timeout" in item}
    assert timeouts == {"create": 5400, "update": 45, "delete": 600}


def test_retain_on_delete_and_deleted_with(shop: Shop) -> None:
    shop.up("""
        cluster = Object("cluster", by())
        inside = Object("inside", by(deleted_with=cluster, depends_on=[cluster]))
        kept = Object("kept", by(retain_on_delete=True))
        child = Object("child", by(parent=kept))
    """)
    shop.engine().destroy()
    assert shop.calls("delete") == ["delete cluster"]
    assert shop.deployment().get("resources") is None


def test_deleted_with_follows_a_replacement(shop: Shop) -> None:
    text = """
        cluster = Object("cluster", by(), name="{name}")
        inside = Object("inside", by(deleted_with=cluster))
    """
    shop.up(text.format(name="one"))
    shop.forget_calls()
    assert shop.up(text.format(name="two")) == {"replace": 2}
    # The old inside went with the old cluster.
    assert shop.calls("delete") == ["delete cluster"]


def test_aliases_keep_what_was_renamed_or_moved(shop: Shop) -> None:
    shop.up("""
        a = Object("a", by(), value=1)
        b = Object("b", by(), value=a.token)
    """)
    shop.forget_calls()
    moved = """
        group = Group("group")
        before = pulumi.Alias(name="a", parent=pulumi.ROOT_STACK_RESOURCE)
        a = Object("renamed", by(parent=group, aliases=[before]), name="a", value=1)
        b = Object("b", by(), value=a.token)
    """
    assert shop.preview(moved) == {"create": 1}
    assert shop.up() == {"create": 1}
    assert shop.calls("create", "update", "delete") == []
    assert shop.resources()["renamed"]["parent"].endswith("kit:index:Group::group")
    assert shop.resources()["b"]["dependencies"] == [shop.resources()["renamed"]["urn"]]
    assert shop.up() == {}


def test_parents_hand_down_provider_protection_and_dependency(shop: Shop) -> None:
    shop.up("""
        other = Account("other", account="other")
        group = Group("group", Options(providers=[other], protect=True))
        inside = Object("inside", Options(parent=group))
    """)
    inside = shop.resources()["inside"]
    assert inside["outputs"]["account"] == "other"
    assert inside["protect"] is True


def test_a_provider_change_updates_it_or_replaces_what_it_manages(shop: Shop) -> None:
    text = """
        p = Account("p", account="{account}", region="{region}")
        a = Object("a", Options(provider=p))
    """
    shop.up(text.format(account="one", region="x"))
    assert shop.up(text.format(account="one", region="y")) == {"update": 1}
    assert shop.preview(text.format(account="two", region="y")) == {"replace": 2}
    assert shop.up() == {"replace": 2}
    assert shop.resources()["a"]["outputs"]["account"] == "two"
    assert shop.up() == {}


def test_default_providers_can_be_forbidden_and_others_are_made(shop: Shop) -> None:
    shop.program('a = Object("a", value=1)')
    assert shop.up() == {"create": 3}
    assert "default" in shop.resources()
    data = (shop.root / "stacks" / "Pulumi.local.yaml").read_text()
    (shop.root / "stacks" / "Pulumi.local.yaml").write_text(
        data.replace('"config": {', '"config": {"pulumi:disable-default-providers": ["aws", "probe"]')
    )
    with pytest.raises(EngineError, match=r"default provider for 'probe' is disabled .* probe:index:Object"):
        shop.engine().preview()


def test_additional_secret_outputs(shop: Shop) -> None:
    shop.up("""
        a = Object("a", by(additional_secret_outputs=["token"]))
        pulumi.export("token", a.token)
    """)
    assert "ciphertext" in shop.resources()["a"]["outputs"]["token"]
    assert shop.engine().outputs() == {"token": "[secret]"}
    assert shop.engine().outputs(show_secrets=True) == {"token": "token-of-a"}
