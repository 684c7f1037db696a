"""Reads a buildspec and turns it into one bash script that reports which command failed, and how.

The format: https://docs.aws.amazon.com/codebuild/latest/userguide/build-spec-ref.html
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

import yaml

PHASES = ("install", "pre_build", "build", "post_build")
_TOP_KEYS = {"version", "env", "phases"}
_ENV_KEYS = {"variables", "exported-variables", "shell"}
_PHASE_KEYS = {"commands", "finally", "on-failure", "runtime-versions"}


class BuildspecError(ValueError):
    """A buildspec that cannot be run; the message says why."""


@dataclass(frozen=True)
class Buildspec:
    """A buildspec.

    Args:
        variables: environment variables.
        exported: names of the variables that the build gives out.
        phases: commands and final commands of each phase.
        abort: phases after whose failure nothing more is run.
    """

    variables: dict[str, str]
    exported: tuple[str, ...]
    phases: dict[str, tuple[tuple[str, ...], tuple[str, ...]]]
    abort: frozenset[str]


def parse(text: str) -> Buildspec:
    """Read a buildspec.

    Raises:
        BuildspecError: it is not YAML, or has something that is unknown.
    """
    try:
        spec = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BuildspecError(f"YAML_FILE_ERROR: {error}") from error
    if not isinstance(spec, dict):
        raise BuildspecError("YAML_FILE_ERROR: the buildspec is not a mapping")
    _only(spec, _TOP_KEYS, "the buildspec")
    if str(spec.get("version")) not in {"0.1", "0.2"}:
        raise BuildspecError(f"YAML_FILE_ERROR: unsupported version {spec.get('version')}; it must be 0.2")
    env = spec.get("env") or {}
    _only(env, _ENV_KEYS, "env")
    phases: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {}
    abort = {"install", "pre_build"}
    sections = spec.get("phases") or {}
    _only(sections, set(PHASES), "phases")
    for name in PHASES:
        section = sections.get(name)
        if section is None:
            continue
        _only(section, _PHASE_KEYS, name)
        phases[name] = (_commands(section.get("commands"), name), _commands(section.get("finally"), name))
        if section.get("on-failure") == "ABORT":
            abort.add(name)
        elif section.get("on-failure") == "CONTINUE":
            abort.discard(name)
    if not phases:
        raise BuildspecError("YAML_FILE_ERROR: the buildspec has no phases")
    variables = {str(key): str(value) for key, value in (env.get("variables") or {}).items()}
    return Buildspec(variables, tuple(env.get("exported-variables") or ()), phases, frozenset(abort))


def _only(section: Any, allowed: set[str], where: str) -> None:
    if not isinstance(section, dict):
        raise BuildspecError(f"YAML_FILE_ERROR: {where} is not a mapping")
    unknown = sorted(str(key) for key in section.keys() - allowed)
    if unknown:
        raise BuildspecError(
            f"YAML_FILE_ERROR: {where} has {', '.join(unknown)}; "
            f"the sandbox knows {', '.join(sorted(allowed))}"
        )


def _commands(commands: Any, phase: str) -> tuple[str, ...]:
    if commands is None:
        return ()
    if isinstance(commands, str):
        commands = [commands]
    if not isinstance(commands, list) or not all(isinstance(each, str) for each in commands):
        raise BuildspecError(f"YAML_FILE_ERROR: the commands of {phase} are not a list of strings")
    return tuple(commands)


def script(spec: Buildspec, status_path: str, exported_path: str) -> str:
    """Return the bash script of a build.

    All commands run in one shell, so that what one sets the next one sees. To `status_path` the script
    appends a line for each step: `phase NAME`, `start NUMBER`, `end NUMBER STATUS` and `done NAME STATUS`.

    Args:
        spec: what to run.
        status_path: where the steps are reported.
        exported_path: where the exported variables are written, each as `NAME=value` ended by a NUL.
    """
    exports = " ".join(
        f"printf '%s=%s\\0' {shlex.quote(name)} \"${{{name}-}}\" >> {shlex.quote(exported_path)};"
        for name in spec.exported
    )
    report = shlex.quote(status_path)
    lines = [
        "export CODEBUILD_BUILD_SUCCEEDING=1",
        f"__berth_export() {{ : ; {exports} }}",
        "trap __berth_export EXIT",
        f"__berth_say() {{ printf '%s\\n' \"$*\" >> {report}; }}",
        "__berth_abort=0",
    ]
    number = 0
    for name, (commands, finally_) in spec.phases.items():
        lines += [
            'if [ "$__berth_abort" = 0 ]; then',
            f"__berth_say phase {name}",
            "__berth_status=0",
        ]
        for command in commands:
            lines += [
                f'if [ "$__berth_status" = 0 ]; then {_step(command, number)}',
                "__berth_status=$__berth_last; fi",
            ]
            number += 1
        for command in finally_:
            lines += [_step(command, number), '[ "$__berth_status" != 0 ] || __berth_status=$__berth_last']
            number += 1
        failed = "export CODEBUILD_BUILD_SUCCEEDING=0"
        if name in spec.abort:
            failed += "; __berth_abort=1"
        lines += [
            f'if [ "$__berth_status" != 0 ]; then {failed}; fi',
            f'__berth_say done {name} "$__berth_status"',
            "fi",
        ]
    return "\n".join(lines) + "\n"


def _step(command: str, number: int) -> str:
    return (
        f"__berth_say start {number}; eval {shlex.quote(command)}; __berth_last=$?; "
        f'__berth_say end {number} "$__berth_last"'
    )


def commands(spec: Buildspec) -> list[str]:
    """Return all commands in the order in which the script numbers them."""
    return [command for pair in spec.phases.values() for part in pair for command in part]
