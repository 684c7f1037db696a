"""The real Pulumi CLI and the engine take each other's stacks over and see no change."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.engine.conftest import PASSPHRASE

if TYPE_CHECKING:
    from tests.engine.conftest import Shop

pytestmark = pytest.mark.skipif(shutil.which("pulumi") is None, reason="the Pulumi CLI is not on PATH")

PROGRAM = """
    config = pulumi.Config()
    a = Object("a", by(custom_timeouts=pulumi.CustomTimeouts(create="5m")), value=config.require_int("size"),
        list=[1, 2.5, None, {"x": None}], flag=True, big=12345678901, text="ü <&> \\u2028")
    group = Group("group", size=3)
    b = Object("b", by(parent=group, depends_on=[a], additional_secret_outputs=["token"],
        ignore_changes=["zzz"], replace_on_changes=["value"], protect=False), after=a.token,
        password=pulumi.Output.secret("hush"), nested={"deep": pulumi.Output.secret({"x": 1})})
    group.register_outputs({"token": b.token})
    note = Note("note", text=pulumi.Output.secret("hello"))
    other = Note("other", Options(deleted_with=a), text=a.token)
    pulumi.export("token", b.token)
    pulumi.export("deep", config.require_object("deep"))
    pulumi.export("length", note.length)
"""


def pulumi(shop: Shop, *arguments: str) -> str:
    environment = {
        **os.environ,
        **shop.environment,
        "PULUMI_HOME": str(shop.root.parent / "home"),
        "PULUMI_BACKEND_URL": f"file://{shop.state}",
        "PULUMI_CONFIG_PASSPHRASE": PASSPHRASE,
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PYTHONSAFEPATH": "1",
    }
    shop.state.mkdir(exist_ok=True)
    finished = subprocess.run(
        ["pulumi", *arguments, "--stack", "local", "--non-interactive"],
        cwd=shop.root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def test_the_cli_takes_over_what_the_engine_made(shop: Shop) -> None:
    shop.settings(size=3, deep={"a": [1, 2], "b": True})
    shop.up(PROGRAM)
    pulumi(shop, "preview", "--expect-no-changes")
    pulumi(shop, "refresh", "--yes", "--expect-no-changes")
    assert "hush" not in pulumi(shop, "stack", "export")
    assert shop.engine().up().changed is False
    shop.settings(size=4, deep={"a": [1, 2], "b": True})
    assert "1 updated" in pulumi(shop, "up", "--yes", "--skip-preview")
    assert shop.up() == {}
    assert "succeeded" in pulumi(shop, "stack", "history")
    pulumi(shop, "destroy", "--yes", "--skip-preview")
    assert shop.up() == {"create": 7}


def test_the_engine_takes_over_what_the_cli_made(shop: Shop) -> None:
    shop.settings(size=3, deep={"a": [1, 2], "b": True})
    shop.program(PROGRAM)
    pulumi(shop, "stack", "init")
    pulumi(shop, "up", "--yes", "--skip-preview")
    assert shop.preview() == {}
    assert shop.up() == {}
    assert shop.engine().refresh().changed is False
    assert shop.engine().outputs(show_secrets=True)["token"] == "token-of-b"
    shop.settings(size=4, deep={"a": [1, 2], "b": True})
    assert shop.up() == {"update": 1}
    pulumi(shop, "preview", "--expect-no-changes")
    assert shop.engine().destroy().changes == {"delete": 7}
