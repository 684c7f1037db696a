"""Dockerfiles and images: what is read, what is refused, and that the same input gives the same image."""

from __future__ import annotations

import io
import json
import os
import tarfile
from typing import TYPE_CHECKING

import pytest

from sandbox.builder import BuildError, Built, build
from sandbox.dockerfile import DockerfileError, ignore_filter, parse

if TYPE_CHECKING:
    from pathlib import Path


def _build(
    folder: Path, dockerfile: str, files: dict[str, str] | None = None, **options: dict[str, str]
) -> Built:
    for name, content in (files or {}).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (folder / "Dockerfile").write_text(dockerfile)
    return build(folder, folder / "Dockerfile", report=lambda _: None, **options)


def _members(built: Built) -> dict[str, tarfile.TarInfo]:
    found: dict[str, tarfile.TarInfo] = {}
    for layer in json.loads(built.manifest)["layers"]:
        with tarfile.open(fileobj=io.BytesIO(built.blobs[layer["digest"]])) as tar:
            found.update({member.name: member for member in tar})
    return found


def test_the_projects_image(image_context: Path) -> None:
    built = build(image_context, image_context / "Dockerfile", report=lambda _: None)
    config = built.config["config"]
    assert config["Entrypoint"] == ["python3", "/opt/berth/entrypoint.py"]
    assert config["User"] == "2000:0"
    assert "Cmd" not in config
    assert "BERTH_DOOR=http" in config["Env"]
    assert _members(built)["opt/berth/entrypoint.py"].mode == 0o755


def test_same_input_same_digest_whenever_and_wherever(tmp_path: Path) -> None:
    text = "FROM scratch\nCOPY . /app/\nENV A=1\n"
    files = {"b.txt": "b", "a/c.txt": "c"}
    first, second = tmp_path / "one", tmp_path / "two"
    one = _build(first, text, files)
    two = _build(second, text, dict(reversed(files.items())))
    os.utime(second / "b.txt", (1, 1))
    (second / "b.txt").chmod(0o600)  # as another umask would have it
    assert one.digest == two.digest == build(second, second / "Dockerfile", report=lambda _: None).digest
    assert _build(first, text, {"b.txt": "changed"}).digest != one.digest


def test_a_file_keeps_its_executable_bit(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("x")
    (tmp_path / "run").chmod(0o755)
    members = _members(_build(tmp_path, "FROM scratch\nCOPY run other /bin/\n", {"other": "y"}))
    assert (members["bin/run"].mode, members["bin/other"].mode) == (0o755, 0o644)


def test_variables_quotes_and_continuations(tmp_path: Path) -> None:
    text = """\
# escape=\\
ARG BASE=scratch
FROM ${BASE} AS only
ARG VERSION=1.0
ARG NAME
ENV PLAIN=$VERSION QUOTED="a b $NAME" SINGLE='c d' \\
    # a comment within
    LATER="${MISSING:-default}" SET=${NAME:+yes} ESCAPED=\\$HOME
ENV old form of it
LABEL "a.b"="c \\"d\\"" e=f
WORKDIR /srv
WORKDIR app
EXPOSE 80 53/udp
STOPSIGNAL SIGINT
"""
    config = _build(tmp_path, text, build_args={"NAME": "berth"}).config["config"]
    assert config["Env"] == [
        "PLAIN=1.0",
        "QUOTED=a b berth",
        "SINGLE=c d",
        "LATER=default",
        "SET=yes",
        "ESCAPED=$HOME",
        "old=form of it",
    ]
    assert config["Labels"] == {"a.b": 'c "d"', "e": "f"}
    assert config["WorkingDir"] == "/srv/app"
    assert config["ExposedPorts"] == {"80/tcp": {}, "53/udp": {}}
    assert config["StopSignal"] == "SIGINT"


def test_commands_in_both_forms(tmp_path: Path) -> None:
    assert _build(tmp_path, 'FROM scratch\nCMD ["a", "b c"]\n').config["config"]["Cmd"] == ["a", "b c"]
    shell = _build(tmp_path, "FROM scratch\nENTRYPOINT exec a $B\nCMD ignored\n").config["config"]
    assert shell["Entrypoint"] == ["/bin/sh", "-c", "exec a $B"]
    other = _build(tmp_path, 'FROM scratch\nSHELL ["/bin/bash", "-c"]\nCMD x\n').config["config"]
    assert other["Cmd"] == ["/bin/bash", "-c", "x"]


def test_an_entrypoint_drops_the_command_of_the_base(tmp_path: Path) -> None:
    config = _build(tmp_path, "FROM vllm/vllm-openai:v1\nCMD --help\n").config["config"]
    assert config["Entrypoint"] == ["vllm", "serve"]
    assert config["Cmd"] == ["/bin/sh", "-c", "--help"]


def test_health_check(tmp_path: Path) -> None:
    text = "FROM scratch\nHEALTHCHECK --interval=1m30s --retries=3 CMD curl -f localhost\n"
    assert _build(tmp_path, text).config["config"]["Healthcheck"] == {
        "Test": ["CMD-SHELL", "curl -f localhost"],
        "Interval": 90 * 10**9,
        "Retries": 3,
    }


@pytest.mark.parametrize(
    ("copy", "expected"),
    [
        ("COPY a.py /x", {"x"}),
        ("COPY a.py /x/", {"x/a.py"}),
        ("COPY *.py lib/", {"work/lib/a.py", "work/lib/b.py"}),
        ("COPY a.py b.py ./", {"work/a.py", "work/b.py"}),
        ("COPY sub /x", {"x/c.txt", "x/deep/d.txt"}),
        ("COPY sub/deep/ /x/", {"x/d.txt"}),
        ('COPY ["sub/with space.txt", "/x/"]', {"x/with space.txt"}),
    ],
)
def test_what_copy_copies_and_where(tmp_path: Path, copy: str, expected: set[str]) -> None:
    files = dict.fromkeys(("a.py", "b.py", "sub/c.txt", "sub/deep/d.txt"), "x")
    if "space" in copy:
        files["sub/with space.txt"] = "x"
    members = _members(_build(tmp_path, f"FROM scratch\nWORKDIR /work\n{copy}\n", files))
    assert {name for name, member in members.items() if member.isfile()} == expected


def test_copy_owner_and_mode(tmp_path: Path) -> None:
    member = _members(_build(tmp_path, "FROM scratch\nCOPY --chown=2000:5 --chmod=0640 a /a\n", {"a": ""}))[
        "a"
    ]
    assert (member.uid, member.gid, member.mode) == (2000, 5, 0o640)


def test_ignored_files_are_not_copied(tmp_path: Path) -> None:
    files = {
        "keep.py": "",
        "a.log": "",
        "sub/b.log": "",
        ".dockerignore": "**/*.log\nDockerfile\n.dockerignore\n",
    }
    members = _members(_build(tmp_path, "FROM scratch\nCOPY . /\n", files))
    assert {name for name, member in members.items() if member.isfile()} == {"keep.py"}
    with pytest.raises(BuildError, match=r"line 2: COPY a\.log: no such file .*\.dockerignore"):
        _build(tmp_path, "FROM scratch\nCOPY a.log /\n")


@pytest.mark.parametrize(
    ("patterns", "path", "ignored"),
    [
        ("*", "a", True),
        ("*\n!a", "a", False),
        ("dir", "dir/file", True),
        ("dir\n!dir/keep", "dir/keep", False),
        ("*.txt", "sub/a.txt", False),
        ("**/*.txt", "sub/a.txt", True),
        ("**/*.txt", "a.txt", True),
        ("a?c", "abc", True),
        ("[ab].py", "c.py", False),
        ("# a", "# a", False),
    ],
)
def test_dockerignore(patterns: str, path: str, ignored: bool) -> None:
    assert ignore_filter(patterns)(path) is ignored


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("RUN ls\n", "line 1: RUN before FROM"),
        ("FROM scratch\nADD a b\n", "line 2: ADD is not supported"),
        ("FROM scratch\n\nFROM scratch\n", "line 3: a second FROM"),
        ("FROM scratch\nCOPY --from=x a b\n", "line 2: COPY --from is not supported"),
        ("FROM scratch\nRUN <<EOF\n", "here-document is not supported"),
        ("FROM scratch\nENV A=1 B\n", "line 2: ENV wants KEY=VALUE"),
        ("FROM scratch\nUSER\n", "line 2: USER has no value"),
        ("FROM scratch\nENV A=${B%x}\n", "line 2: only"),
        ("# nothing\n", "it has no FROM"),
    ],
)
def test_what_is_refused_is_named_with_its_line(text: str, words: str) -> None:
    with pytest.raises(DockerfileError, match=words):
        parse(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("FROM ubuntu:24.04\n", "base image ubuntu:24.04 is not known"),
        ("FROM --platform=linux/arm64 scratch\n", "platform linux/arm64 is not supported"),
        ("FROM scratch\nCOPY missing /\n", "line 2: COPY missing: no such file"),
        ("FROM scratch\nCOPY --chown=app a /\n", "--chown=app: names need"),
        ("FROM scratch\nCOPY --chmod=u+x a /\n", "give an octal mode"),
    ],
)
def test_what_cannot_be_built_is_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(BuildError, match=words):
        _build(tmp_path, text, {"a": ""})


def test_a_build_argument_that_nothing_asks_for_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="no ARG asks for the build argument 'VERSOIN'"):
        _build(tmp_path, "FROM scratch\nARG VERSION\n", build_args={"VERSOIN": "1"})


def test_run_is_not_executed_and_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM scratch\nRUN touch {tmp_path}/ran\n")
    said: list[str] = []
    build(tmp_path, tmp_path / "Dockerfile", report=said.append)
    assert any("not executed" in line for line in said)
    assert not (tmp_path / "ran").exists()
