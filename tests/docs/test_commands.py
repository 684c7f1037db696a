"""Every command in the documents is run: with a stand-in of the CLI, on the stack `local`, or elsewhere."""

from __future__ import annotations

import ast
import json
import os
import pty
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer.main
from typer.testing import CliRunner

import ops.commands.test
from ops.cli import app
from tests.docs import commands
from tests.docs.commands import ROOT, Command
from tests.ops.conftest import copy_project, server
from tests.ops.test_leftovers import Accounts, accounts

if TYPE_CHECKING:
    from tests.ops.conftest import Server

__all__ = ["accounts", "server"]


def _functions(file: str) -> set[str]:
    return {
        node.name for node in ast.parse((ROOT / file).read_text()).body if isinstance(node, ast.FunctionDef)
    }


def test_what_another_test_runs_is_in_a_document_and_that_test_is_there() -> None:
    assert commands.ELSEWHERE.keys() <= {command.text for command in commands.commands()}
    for node in commands.ELSEWHERE.values():
        file, _, name = node.partition("::")
        assert name in _functions(file), node


def test_there_is_something_of_each_kind() -> None:
    assert len(commands.run_with_stand_ins()) > 10
    assert len(commands.run_by_the_stack_local(queue=False)) > 10
    assert len(commands.run_by_the_stack_local(queue=True)) > 2


@pytest.mark.parametrize("options", [[], ["tests/ops", "-k", "launcher"]])
def test_the_checks_and_pytest_are_what_berth_test_runs(
    options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[list[str]] = []

    def run(command: list[str], **_: Any) -> int:
        ran.append([Path(command[0]).name, *command[1:]])
        return 0

    monkeypatch.setattr(ops.commands.test, "run_in_foreground", run)
    monkeypatch.setattr("ops.local.prepare", lambda *_, **__: None)
    monkeypatch.setattr("sandbox.buildah.ready", lambda *_, **__: None)
    assert CliRunner().invoke(app, ["test", *options]).exit_code == 0
    tools = [command[2] if command[1] == "-m" else command[0] for command in ran]
    assert tools == ["ruff", "ruff", "hadolint", "mypy", "pytest"]
    assert ran[-1][-len(options) :] == options or not options


_INLINE = [
    (file.name, text)
    for file in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    for text in commands.inline(file.read_text())
]


@pytest.mark.parametrize(("file", "text"), _INLINE)
def test_a_command_in_a_sentence_is_one_that_there_is(file: str, text: str) -> None:  # noqa: ARG001
    command: Any = typer.main.get_command(app)
    words = shlex.split(text)[1:]
    context = command.make_context("berth", words[:1], resilient_parsing=True)
    name, found, _ = command.resolve_command(context, words[:1])
    assert found is not None, name
    options = {
        option for parameter in found.params for option in (*parameter.opts, *parameter.secondary_opts)
    }
    assert {word for word in words if word.startswith("--")} <= options | {"--help"}


@pytest.fixture
def variables(
    tmp_path: Path, accounts: Accounts, server: Server, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """A copy of the project with a stand-in of the CLI, under which the stack `dev` is up."""
    root = copy_project(tmp_path / "berth")
    server.key = "..."  # as the documents write it
    outputs = {
        "targets": ["eks", "runpod"],
        "model": "served",
        "models": ["served"],
        "task": "generate",
        "image": f"123456789012.dkr.ecr.us-east-1.amazonaws.com/berth-dev@sha256:{'0' * 64}",
        "endpoints": {"eks": {"url": f"{server.url}/v1", "health": f"{server.url}/health"}},
        "api_key": server.key,
    }
    (root / "outputs.json").write_text(json.dumps(outputs))
    python = Path(sys.executable)
    programs = {
        "berth": f'exec {python} -P -m ops "$@"',
        ".venv/bin/python": f'exec {python} "$@"',
        ".venv/bin/uv": f'exec {python.parent / "uv"} "$@"',
        "programs/pulumi": f'exec {python} {ROOT / "tests/docs/pulumi_stand_in.py"} "$@"',
    }
    for name, text in programs.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"#!/bin/sh\n{text}\n")
        (root / name).chmod(0o755)
    monkeypatch.chdir(root)
    return {
        **os.environ,
        **accounts.variables,
        "PYTHONPATH": str(root),
        "PATH": f"{root / 'programs'}:{os.environ['PATH']}",
        "OUTPUTS": str(root / "outputs.json"),
        "HF_ENDPOINT": "http://127.0.0.1:9",  # no test asks the real hub
    }


def _at_a_terminal(command: Command, variables: dict[str, str]) -> tuple[int, str]:
    """Run a command where it can ask; return its exit status and what is on the terminal."""
    main, side = pty.openpty()
    process = subprocess.Popen(
        ["sh", "-c", command.script],
        env=variables,
        stdin=side,
        stdout=side,
        stderr=side,
        start_new_session=True,
    )
    os.close(side)
    said = bytearray()
    try:
        while chunk := os.read(main, 65536):
            said += chunk
    except OSError:  # the other side is closed
        pass
    finally:
        os.close(main)
    return process.wait(timeout=60), said.decode()


def test_commands_for_the_clouds_are_run_with_a_strict_stand_in_of_the_cli(variables: dict[str, str]) -> None:
    lock = Path("requirements.lock").read_text()
    for command in commands.run_with_stand_ins():
        status, said = _at_a_terminal(command, variables)
        assert status == 0, f"{command.file}: {command.text}\n{said}"
        assert "Traceback" not in said
    assert Path("requirements.lock").read_text() == lock
    # One of the commands has made them anew.
    for path in [Path("docs/architecture.svg"), *Path("docs/stacks").iterdir()]:
        assert path.read_text() == (ROOT / path).read_text(), "run: python -m docs.generate"
    assert {path.name for path in Path("docs/stacks").iterdir()} == {
        path.name for path in (ROOT / "docs/stacks").iterdir()
    }


def test_the_stand_in_refuses_what_the_cli_does_not_know(variables: dict[str, str]) -> None:
    for text in ("pulumi up --stack dev --remove-all", "pulumi deploy", "pulumi stack init"):
        status, said = _at_a_terminal(Command("", text), variables)
        assert status != 0, said
