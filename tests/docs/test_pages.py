"""The stacks' pages propose changes that work, and what the documents point to is there."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest
from rich.text import Text

from docs.generate import terminal
from docs.generate.edits import edits
from infra.settings import from_config
from ops.stacks import names, settings_of
from tests.docs.commands import ROOT
from tests.infra.graph import configuration

if TYPE_CHECKING:
    from pathlib import Path

_DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("stack", names())
def test_each_change_that_a_page_proposes_is_one_that_the_settings_take(stack: str) -> None:
    config = configuration(stack)
    before = settings_of(stack)
    proposed = edits(before)
    assert proposed
    for edit in proposed:
        changed = edit.applied(config)
        given = {
            key: value if isinstance(value, str) else json.dumps(value) for key, value in changed.items()
        }
        assert from_config(given, before.file) != before, edit.aim


@pytest.mark.parametrize("document", _DOCUMENTS, ids=lambda path: path.name)
def test_what_a_document_points_to_is_there(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if not target.startswith("https://"):
            assert (document.parent / target.partition("#")[0]).exists(), target


def test_every_page_is_pointed_to() -> None:
    pointed = {
        (document.parent / target).resolve()
        for document in _DOCUMENTS
        for target in re.findall(r"\]\(([^)#\s]+)", document.read_text())
        if not target.startswith("https://")
    }
    assert set(_DOCUMENTS[1:]) <= pointed
    assert set((ROOT / "docs").rglob("*.svg")) <= pointed


@pytest.mark.parametrize("picture", sorted((ROOT / "docs").rglob("*.svg")), ids=lambda path: path.name)
def test_a_picture_is_small_loads_nothing_and_names_no_path_of_a_machine(picture: Path) -> None:
    text = picture.read_text()
    assert len(text) < 60_000
    ET.fromstring(text)
    assert not re.search(r"https?://(?!127\.|www\.w3\.org|[\w.-]*localhost)[^\s<]*\.(woff|css|js|png)", text)
    assert not re.search(r"/(home|root|tmp|work|Users)/", text)


def test_the_screen_is_what_live_lines_leave() -> None:
    lines = terminal.screen_of(
        "one\r\n\x1b[?25ltwo\r\nthree\r\x1b[2K\x1b[1A\x1b[2K\x1b[32mfour\x1b[0m\r\n\x1b[?25h"
    )
    assert [line.plain for line in lines] == ["one", "four", ""]
    assert lines[1].spans


def test_of_a_long_run_the_first_and_the_last_lines_are_shown() -> None:
    text = terminal.svg("./berth up", [Text(f"line-{number:03}") for number in range(200)])
    shown = re.findall(r"line-\d{3}", text)
    assert shown[0] == "line-000"
    assert shown[-1] == "line-199"
    assert len(shown) < 60
    assert f"{200 - len(shown)}&#160;lines" in text
