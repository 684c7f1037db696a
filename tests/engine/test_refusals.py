"""What the engine does not support is refused by name; what is malformed is said as such."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from sandbox.engine import Display, Engine, EngineError, UnsupportedError

if TYPE_CHECKING:
    from tests.engine.conftest import Shop

CASES = {
    "assets and archives": 'Object("a", by(), file=pulumi.StringAsset("x"))',
    "stack references": 'pulumi.StackReference("organization/other/local")',
    "reading existing resources": 'pulumi.CustomResource("probe:index:Object", "a", {}, by(id="existing"))',
    "the option import_": 'Object("a", by(import_="existing"))',
    "transforms": 'Object("a", by(transforms=[lambda args: None]))',
    "stack transforms": "pulumi.runtime.register_resource_transform(lambda args: None)",
    "resource hooks": """
        hook = pulumi.ResourceHook("hook", lambda args: None)
        Object("a", by(hooks=pulumi.ResourceHookBinding(before_create=[hook])))
    """,
    "remote components": 'pulumi.ComponentResource("probe:index:Remote", "r", {}, None, True)',
    "the option replace_with": 'Object("b", by(replace_with=[acme]))',
    "the option replacement_trigger": 'Object("a", by(replacement_trigger="now"))',
}


@pytest.mark.parametrize("feature", CASES)
def test_unsupported_features_are_named(shop: Shop, feature: str) -> None:
    shop.program(CASES[feature])
    with pytest.raises(EngineError, match=f"does not support .*{feature}.*Pulumi CLI"):
        shop.engine().preview()


def test_other_stacks_are_refused(shop: Shop) -> None:
    with pytest.raises(EngineError, match="serves the stack local only: prod needs the Pulumi CLI"):
        Engine(shop.root, "prod", backend=shop.state, passphrase="", environment={}, display=Display())


def test_missing_and_malformed_files_are_said(shop: Shop) -> None:
    (shop.root / "stacks" / "Pulumi.local.yaml").write_text("config: [")
    with pytest.raises(EngineError, match=r"Pulumi.local.yaml is not YAML"):
        shop.engine()
    (shop.root / "stacks" / "Pulumi.local.yaml").unlink()
    with pytest.raises(EngineError, match=r"the stack local does not exist: .* is missing"):
        shop.engine()
    (shop.root / "Pulumi.yaml").write_text("name: shop\nruntime: nodejs\n")
    with pytest.raises(UnsupportedError, match="the runtime 'nodejs'"):
        shop.engine()
    (shop.root / "Pulumi.yaml").write_text("name: shop\nruntime: python\nplugins: {}\n")
    with pytest.raises(UnsupportedError, match=r"plugins in .*Pulumi.yaml"):
        shop.engine()


def test_state_made_with_unsupported_features_is_refused(shop: Shop) -> None:
    shop.up("")
    state = json.loads(shop.path.read_text())
    state["checkpoint"]["latest"]["resources"][0]["viewOf"] = "x"
    shop.path.write_text(json.dumps(state))
    with pytest.raises(UnsupportedError, match=r"viewOf of .* in this stack's state"):
        shop.engine().up()
    state["version"], state["features"] = 4, ["hooks"]
    shop.path.write_text(json.dumps(state))
    with pytest.raises(UnsupportedError, match="hooks in this stack's state"):
        shop.engine().up()


def test_a_missing_plugin_and_a_doubled_name_are_said(shop: Shop) -> None:
    shop.program('pulumi.CustomResource("absent:index:Thing", "t", {})')
    with pytest.raises(
        EngineError, match="the provider plugin pulumi-resource-absent is neither on PATH nor in"
    ):
        shop.engine().preview()
    shop.program('Object("a", by())\nObject("a", by())')
    with pytest.raises(EngineError, match="two resources of type probe:index:Object are named a"):
        shop.engine().preview()


def test_outputs_of_nothing(shop: Shop) -> None:
    shop.program("")
    with pytest.raises(EngineError, match="the stack local has no outputs: nothing is deployed"):
        shop.engine().outputs()
