"""Rules of the house: who may import whom, and that Pulumi's working directory does not get in the way."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from tests.infra.graph import ROOT

_MODULES = sorted((ROOT / "infra").rglob("*.py"))


@pytest.mark.parametrize("path", _MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_program_knows_neither_the_tools_nor_the_sandbox(path: object) -> None:
    assert hasattr(path, "read_text")
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {item.name.partition(".")[0] for item in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported.add(node.module.partition(".")[0])
    allowed = {"sandbox"} if path == ROOT / "infra" / "sandbox.py" else set()
    assert not (imported & {"ops", "sandbox", "image", "tests"}) - allowed


def test_packages_are_found_from_the_folder_where_pulumi_starts_the_program() -> None:
    """In `infra`, Python would take infra/sandbox.py for the package `sandbox`."""
    program = "import infra, sandbox, sandbox.processes; print(sandbox.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT / "infra", capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == str(ROOT / "sandbox" / "__init__.py")
