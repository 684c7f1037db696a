"""Reads a Dockerfile into instructions with their variables filled in, and a .dockerignore into a filter."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

KNOWN = frozenset(
    [
        "FROM",
        "ARG",
        "ENV",
        "LABEL",
        "COPY",
        "RUN",
        "USER",
        "WORKDIR",
        "EXPOSE",
        "ENTRYPOINT",
        "CMD",
        "HEALTHCHECK",
        "STOPSIGNAL",
        "SHELL",
    ]
)
# Instructions in whose text variables are replaced; in the others they are left to the shell at run time.
_EXPANDED = frozenset(["FROM", "ARG", "ENV", "LABEL", "COPY", "USER", "WORKDIR", "EXPOSE", "STOPSIGNAL"])
_FLAGS: Mapping[str, frozenset[str]] = {
    "FROM": frozenset({"platform"}),
    "COPY": frozenset({"chown", "chmod", "link"}),
    "HEALTHCHECK": frozenset({"interval", "timeout", "start-period", "start-interval", "retries"}),
}
_FLAG = re.compile(r"--(?P<name>[a-z-]+)(?:=(?P<value>\S*))?(?:\s+|$)")
_VARIABLE = re.compile(
    r"\\(?P<escaped>[\\$])|\$(?:(?P<plain>\w+)|\{(?P<name>\w+)(?:(?P<rule>:[-+])(?P<word>[^}]*))?\})"
)
_PAIR = re.compile(r"""(?P<key>[^\s=]+)=(?P<value>(?:"(?:\\.|[^"])*"|'[^']*'|\\.|[^\s"'\\])*)""", re.DOTALL)


class DockerfileError(ValueError):
    """A Dockerfile is wrong or uses what is not supported; the message names the line."""


@dataclass(frozen=True)
class Instruction:
    """One instruction, its variables filled in.

    Args:
        keyword: in upper case.
        flags: those before the value ("--chown=1:1" as {"chown": "1:1"}).
        value: the rest, continuation lines joined.
        line: where it begins, from 1.
    """

    keyword: str
    flags: Mapping[str, str]
    value: str
    line: int

    def words(self) -> list[str]:
        """Return the value as a list: its JSON array, or else its words."""
        return self.exec_form() or shlex.split(self.value)

    def exec_form(self) -> list[str] | None:
        """Return the JSON array that the value is, or None for the shell form."""
        if not self.value.startswith("["):
            return None
        try:
            array = json.loads(self.value)
        except ValueError:
            return None  # as Docker does: what is no JSON is a shell command
        return array if isinstance(array, list) and all(isinstance(part, str) for part in array) else None

    def pairs(self) -> dict[str, str]:
        """Return the KEY=VALUE pairs of the value.

        Raises:
            DockerfileError: there is something else in it.
        """
        found: dict[str, str] = {}
        rest = self.value
        while rest := rest.strip():
            match = _PAIR.match(rest)
            if match is None:
                raise DockerfileError(f"line {self.line}: {self.keyword} wants KEY=VALUE, not {rest!r}")
            found[_unquote(match["key"])] = _unquote(match["value"])
            rest = rest[match.end() :]
        return found


@dataclass
class Scope:
    """The variables that a Dockerfile's later lines see: ARG, and ENV, which goes before."""

    build_args: Mapping[str, str]
    args: dict[str, str] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)

    def expand(self, text: str, line: int) -> str:
        """Replace $NAME, ${NAME}, ${NAME:-word} and ${NAME:+word}."""

        def replace(match: re.Match[str]) -> str:
            if match["escaped"]:
                return match[0] if match["escaped"] == "\\" else "$"
            value = {**self.args, **self.env}.get(match["plain"] or match["name"], "")
            if match["rule"] == ":-":
                return value or self.expand(match["word"], line)
            if match["rule"] == ":+":
                return self.expand(match["word"], line) if value else ""
            return value

        if re.search(r"(?<!\\)\$\{\w+[^\w}:]", text) or re.search(r"(?<!\\)\$\{\w+:[^-+]", text):
            raise DockerfileError(
                f"line {line}: only ${{NAME}}, ${{NAME:-word}} and ${{NAME:+word}} are supported"
            )
        return _VARIABLE.sub(replace, text)


def parse(
    text: str, build_args: Mapping[str, str] | None = None, env: Mapping[str, str] | None = None
) -> list[Instruction]:
    """Read a Dockerfile of one stage.

    Args:
        text: its contents.
        build_args: values for its ARGs.
        env: variables that the base image sets.

    Raises:
        DockerfileError: an instruction or flag that is not known or not supported, more than one stage, a
            line that is not well formed, or a build argument that no ARG asks for.
    """
    build_args = dict(build_args or {})
    scope = Scope(build_args)
    instructions: list[Instruction] = []
    used: set[str] = set()
    for line, source in _logical_lines(text):
        keyword, _, rest = source.partition(" ")
        keyword, rest = keyword.upper(), rest.strip()
        _check(keyword, rest, line, instructions)
        flags: dict[str, str] = {}
        while keyword in _FLAGS and (match := _FLAG.match(rest)):
            if match["name"] not in _FLAGS[keyword]:
                raise DockerfileError(f"line {line}: {keyword} --{match['name']} is not supported")
            flags[match["name"]] = scope.expand(match["value"] or "true", line)
            rest = rest[match.end() :]
        # Single quotes keep their text as it is; Docker knows that only in ENV, LABEL and ARG, where they
        # matter.
        value = scope.expand(rest, line) if keyword in _EXPANDED else rest
        instruction = Instruction(keyword, flags, value, line)
        if keyword == "FROM":
            # ARGs before FROM are seen by FROM alone, until one without a value asks for them again.
            outer, scope = scope.args, Scope(build_args, env=dict(env or {}))
            scope.build_args = {**outer, **build_args}
        elif keyword == "ARG":
            used |= _declare(instruction, scope)
        elif keyword == "ENV":
            if "=" not in value.split(maxsplit=1)[0]:
                name, _, word = value.partition(" ")
                instruction = Instruction(keyword, flags, f'{name}="{word.strip()}"', line)
            scope.env.update(instruction.pairs())
        instructions.append(instruction)
    if not any(instruction.keyword == "FROM" for instruction in instructions):
        raise DockerfileError("it has no FROM")
    if unused := sorted(set(build_args) - used):
        raise DockerfileError(f"no ARG asks for the build argument {unused[0]!r}")
    return instructions


def _check(keyword: str, rest: str, line: int, before: list[Instruction]) -> None:
    if keyword not in KNOWN:
        raise DockerfileError(
            f"line {line}: {keyword} is not supported (supported: {', '.join(sorted(KNOWN))})"
        )
    if not rest:
        raise DockerfileError(f"line {line}: {keyword} has no value")
    stages = sum(instruction.keyword == "FROM" for instruction in before)
    if keyword == "FROM" and stages:
        raise DockerfileError(f"line {line}: a second FROM: more than one stage is not supported")
    if keyword not in ("FROM", "ARG") and not stages:
        raise DockerfileError(f"line {line}: {keyword} before FROM")
    if keyword in ("COPY", "RUN") and "<<" in rest:
        raise DockerfileError(f"line {line}: {keyword} with a here-document is not supported")


def _declare(instruction: Instruction, scope: Scope) -> set[str]:
    names = set()
    for part in shlex.split(instruction.value):
        name, given, default = part.partition("=")
        names.add(name)
        if name in scope.build_args:
            scope.args[name] = scope.build_args[name]
        elif given:
            scope.args[name] = default
    return names


def _logical_lines(text: str) -> list[tuple[int, str]]:
    """Join continuation lines; leave out comments and empty lines, within a continuation too."""
    lines: list[tuple[int, str]] = []
    parts: list[str] = []
    start = 0
    for number, raw in enumerate(text.splitlines(), 1):
        stripped = raw.strip()
        if not stripped or stripped.startswith("#"):
            directive = re.match(r"#\s*escape\s*=\s*(\S+)", stripped)
            if directive and directive[1] != "\\":
                raise DockerfileError(f"line {number}: the directive escape={directive[1]} is not supported")
            continue
        start = start if parts else number
        continued = re.search(r"\\\s*$", raw)
        parts.append((raw[: continued.start()] if continued else raw).strip())
        if not continued:
            lines.append((start, " ".join(parts)))
            parts = []
    if parts:
        lines.append((start, " ".join(parts)))
    return lines


def _unquote(text: str) -> str:
    """Take off quotes and backslashes as ENV and LABEL do."""

    def plain(match: re.Match[str]) -> str:
        if match["single"] is not None:
            return match["single"]
        if match["double"] is not None:
            return re.sub(r'\\(["\\$])', r"\1", match["double"])
        return match["escaped"]

    quoted = r"""'(?P<single>[^']*)'|"(?P<double>(?:\\.|[^"])*)"|\\(?P<escaped>.)"""
    return re.sub(quoted, plain, text, flags=re.DOTALL)


def ignore_filter(text: str) -> Callable[[str], bool]:
    """Return what says whether a path of the build's context is left out by a .dockerignore.

    Patterns are those of Docker: `*`, `?`, `[...]` within a name, `**` over folders, `!` for exceptions; the
    last that matches counts, and a folder's match goes for all in it.
    """
    rules: list[tuple[re.Pattern[str], bool]] = []
    for line in text.splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        keep = pattern.startswith("!")
        cleaned = str(PurePosixPath(pattern.lstrip("!").strip().lstrip("/")))
        rules.append((re.compile(f"{glob_expression(cleaned)}(?:/.*)?$"), keep))

    def ignored(path: str) -> bool:
        left_out = False
        for expression, keep in rules:
            if expression.match(path):
                left_out = not keep
        return left_out

    return ignored


def glob_expression(pattern: str) -> str:
    """Translate a pattern of Docker's into a regular expression."""
    expression = ""
    index = 0
    while index < len(pattern):
        if pattern.startswith("**/", index):
            expression += "(?:.*/)?"
            index += 3
        elif pattern.startswith("**", index):
            expression += ".*"
            index += 2
        elif pattern[index] == "[" and (end := pattern.find("]", index + 2)) > 0:
            expression += pattern[index : end + 1]
            index = end + 1
        else:
            expression += {"*": "[^/]*", "?": "[^/]"}.get(pattern[index], re.escape(pattern[index]))
            index += 1
    return expression
