"""Secrets are nowhere in clear: not in state, nor in what is shown, but reach those who need them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from sandbox.engine import Display, Engine, EngineError, crypto

if TYPE_CHECKING:
    from tests.engine.conftest import Shop

PASSWORD = "correct horse battery staple"


def test_secrets_are_encrypted_in_state_and_hidden_in_output(shop: Shop) -> None:
    text = f"""
        password = pulumi.Output.secret("{PASSWORD}")
        a = Object("a", by(), password=password, nested={{"deep": pulumi.Output.secret(["{PASSWORD}"])}})
        note = Note("note", text=pulumi.Output.secret("{PASSWORD}"))
        b = Object("b", by(), derived=pulumi.Output.concat("<", a.token, pulumi.Output.secret("{PASSWORD}")))
        pulumi.export("password", pulumi.Output.secret("{PASSWORD}"))
    """
    shop.preview(text)
    assert PASSWORD not in shop.shown.getvalue()
    assert "[secret]" in shop.shown.getvalue()
    result = shop.engine().up()
    assert PASSWORD not in shop.shown.getvalue() + repr(result.outputs) + json.dumps(result.json())
    everything = "".join(path.read_text() for path in shop.state.rglob("*") if path.is_file())
    assert PASSWORD not in everything
    made = shop.object("a")
    assert made is not None
    assert PASSWORD in json.dumps(made)
    assert (shop.objects / "note.note").read_text() == PASSWORD
    assert shop.engine().outputs(show_secrets=True) == {"password": PASSWORD}
    assert shop.preview() == {}
    shop.preview(text.replace("horse", "mule"))
    assert "~ password: [secret] => [secret]" in shop.shown.getvalue()


def test_secret_settings(shop: Shop) -> None:
    crypter = crypto.Crypter("an open secret", shop.salt)
    shop.settings(
        key={"secure": crypter.encrypt(PASSWORD)}, deep={"key": {"secure": crypter.encrypt(PASSWORD)}}
    )
    shop.up("""
        config = pulumi.Config()
        a = Object("a", by(), key=config.require_secret("key"))
        note = Note("note", text="x")
        pulumi.export("deep", config.require_secret_object("deep"))
    """)
    everything = "".join(path.read_text() for path in shop.state.rglob("*") if path.is_file())
    assert PASSWORD not in everything
    assert shop.engine().outputs(show_secrets=True) == {"deep": {"key": PASSWORD}}
    assert PASSWORD not in json.dumps(shop.engine().preview().json())


def test_a_wrong_passphrase_is_said(shop: Shop) -> None:
    with pytest.raises(EngineError, match="the passphrase is not the one"):
        Engine(shop.root, "local", backend=shop.state, passphrase="guess", environment={}, display=Display())
