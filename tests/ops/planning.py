"""Runs `berth plan` in this process and reads its JSON."""

from __future__ import annotations

import json
from typing import Any

from typer.testing import CliRunner

from ops.cli import app


def planned(*arguments: str, exit_status: int = 0) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["plan", "--json", *arguments])
    assert done.exit_code == exit_status, done.output
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def chosen(plan: dict[str, Any], target: str | None = None) -> list[dict[str, Any]]:
    return [item for item in plan["candidates"] if item["chosen"] and target in (None, item["target"])]
