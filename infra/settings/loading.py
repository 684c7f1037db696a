"""Reads settings: from a stack file for the tools, from Pulumi's configuration for the program."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import yaml
from pydantic import ValidationError

from infra.settings import checks, problems
from infra.settings.eks import EksSettings
from infra.settings.model import ModelSettings
from infra.settings.problems import SettingsError
from infra.settings.runpod import RunpodSettings
from infra.settings.sections import (
    AwsSettings,
    ImageSettings,
    SandboxSettings,
    ServingSettings,
    Target,
)
from infra.settings.server import ServerSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.settings.vocabulary import Section

PROJECT = "berth"
"""The Pulumi project, which is the namespace of the settings too."""

LOCAL_STACK = "local"
_SECRETS = ("apiKey", "hubToken", "registryPassword", "runpodApiKey")
_LOCAL_REGION = "us-east-1"
_SECTIONS: dict[str, type[Section]] = {
    "model": ModelSettings,
    "server": ServerSettings,
    "serving": ServingSettings,
    "image": ImageSettings,
    "aws": AwsSettings,
    "eks": EksSettings,
    "runpod": RunpodSettings,
    "sandbox": SandboxSettings,
}
_DEFAULTED = ("serving", "image")


class _Loader(yaml.SafeLoader):
    """Refuses a key that is there twice, as Pulumi does, where YAML's own readers take the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value} is there twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


@dataclass(frozen=True)
class Settings:
    """What one stack deploys and where.

    A section of a platform that is not among the targets may still be there: it waits for its turn.
    Secrets (`berth:apiKey`, `berth:hubToken`, `berth:registryPassword`, `berth:runpodApiKey`) are no part of
    it: the program and its providers take them from Pulumi.
    """

    stack: str
    file: str
    targets: tuple[Target, ...]
    model: ModelSettings
    server: ServerSettings | None
    serving: ServingSettings
    image: ImageSettings
    aws: AwsSettings
    eks: EksSettings | None
    runpod: RunpodSettings | None
    sandbox: SandboxSettings | None

    @property
    def served_name(self) -> str:
        """The model's name in requests."""
        return self.model.request_names[0]

    @property
    def gpu_count(self) -> int:
        """The GPUs of one replica."""
        return self.server.gpu_count if self.server else self.serving.tensor_parallel_size

    def require_eks(self) -> EksSettings:
        """Return the section `eks`, which is there when `eks` is a target."""
        if self.eks is None:
            raise SettingsError([f"{self.file}: {PROJECT}:eks is missing"])
        return self.eks

    def require_runpod(self) -> RunpodSettings:
        """Return the section `runpod`, which is there when `runpod` is a target."""
        if self.runpod is None:
            raise SettingsError([f"{self.file}: {PROJECT}:runpod is missing"])
        return self.runpod


def load(path: Path, changes: Mapping[str, object] | None = None) -> Settings:
    """Return the settings in the stack file `path`, `.../Pulumi.<stack>.yaml`.

    Encrypted values stay as they are: this needs no passphrase.

    Args:
        path: the stack file.
        changes: values that take the place of the file's, by dotted key such as `serving.max_num_seqs`.

    Raises:
        SettingsError: there is no such file (the message lists those that there are), it is not a stack
            file, or settings in it are wrong.
    """
    shown = f"{path.parent.name}/{path.name}"
    try:
        document = yaml.load(path.read_text(), _Loader)  # noqa: S506  # it is a safe one
    except FileNotFoundError:
        there = ", ".join(sorted(_stack(file.name) for file in path.parent.glob("Pulumi.*.yaml")))
        raise SettingsError(
            [f"{shown}: there is no stack {_stack(path.name)}; there are: {there or 'none'}"]
        ) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise SettingsError([f"{shown}: is not YAML{where}: {getattr(error, 'problem', error)}"]) from None
    config = document.get("config") if isinstance(document, dict) else None
    if not isinstance(config, dict):
        raise SettingsError([f"{shown}: has no mapping `config`"])
    for key, value in (changes or {}).items():
        _change(config, f"{PROJECT}:{key}".split("."), value)
    plain = [
        f"{shown}: {PROJECT}:{key}: must be encrypted: pulumi config set --secret {key}"
        for key in _SECRETS
        if f"{PROJECT}:{key}" in config and not _is_encrypted(config[f"{PROJECT}:{key}"])
    ]
    return _settings({str(key): value for key, value in config.items()}, shown, plain)


def _change(values: dict[str, Any], place: list[str], value: object) -> None:
    *sections, name = place
    for section in sections:
        inner: object = values.setdefault(section, {})
        if not isinstance(inner, dict):  # a wrong file, of which its validation tells
            return
        values = inner
    values[name] = value


def from_config(config: Mapping[str, str], file: str) -> Settings:
    """Return the settings in Pulumi's configuration of the running program.

    Args:
        config: all of it: fully qualified keys, objects and lists as JSON.
        file: the stack file as users know it, `stacks/Pulumi.<stack>.yaml`, for errors.

    Raises:
        SettingsError: settings are wrong.
    """
    return _settings({key: _decoded(value) for key, value in config.items()}, file, [])


def _decoded(value: str) -> object:
    try:
        return json.loads(value)
    except ValueError:
        return value


def _is_encrypted(value: object) -> bool:
    return isinstance(value, dict) and list(value) == ["secure"]


def _stack(file_name: str) -> str:
    match = re.fullmatch(r"Pulumi\.(.+)\.yaml", Path(file_name).name)
    return match[1] if match else file_name


def _settings(config: Mapping[str, object], file: str, found: list[str]) -> Settings:
    """Validate section by section, so that one wrong section does not hide the problems of the others."""
    stack = _stack(file)
    values = {
        key.removeprefix(f"{PROJECT}:"): value
        for key, value in config.items()
        if key.startswith(f"{PROJECT}:")
    }
    known = ("targets", *_SECTIONS, *_SECRETS)
    found = found + [
        f"{file}: {PROJECT}:{key}: {problems.unknown_key(key, known)}" for key in values if key not in known
    ]
    targets = _targets(values.get("targets"), file, found)
    sections: dict[str, Any] = {}
    for key, section in _SECTIONS.items():
        if key not in values and key not in _DEFAULTED:
            if key in ("model", "aws", *targets) or (key == "sandbox" and stack == LOCAL_STACK):
                found.append(f"{file}: {PROJECT}:{key} is missing: must be a mapping of settings")
            continue
        sections[key] = _section(key, section, values.get(key, {}), file, found)
    if "sandbox" in values and stack != LOCAL_STACK:
        found.append(f"{file}: {PROJECT}:sandbox: only the stack {LOCAL_STACK} has a sandbox")
    if stack == LOCAL_STACK:
        # Its passphrase is public, and its file is in version control.
        found += [
            f"{file}: {PROJECT}:{key}: the stack {LOCAL_STACK} keeps no secret: anyone can decrypt its file"
            for key in _SECRETS
            if key in values
        ]
    aws = sections.get("aws")
    if stack == LOCAL_STACK and aws is not None and aws.region != _LOCAL_REGION:
        found.append(
            f"{file}: {PROJECT}:aws.region = {problems.show(aws.region)}: must be {_LOCAL_REGION} in the "
            f"stack {LOCAL_STACK}: the sandbox's clouds and their credentials are of that region alone"
        )
    if all(sections.get(key) is not None for key in ("model", "serving", "image", "aws")):
        found += [
            f"{file}: {PROJECT}:{key}{reason}"
            for key, reason in checks.across(
                targets=targets,
                model=sections["model"],
                server=sections.get("server"),
                serving=sections["serving"],
                image=sections["image"],
                eks=sections.get("eks"),
                runpod=sections.get("runpod"),
                on_sandbox="sandbox" in values,
                has_registry_password="registryPassword" in values,
            )
        ]
    if found:
        raise SettingsError(found)
    optional = ("server", "eks", "runpod", "sandbox")
    return Settings(stack=stack, file=file, targets=targets, **{**dict.fromkeys(optional), **sections})


def _targets(value: object, file: str, found: list[str]) -> tuple[Target, ...]:
    allowed = get_args(Target)
    if not (isinstance(value, list) and value and all(item in allowed for item in value)) or (
        len(set(value)) < len(value)
    ):
        said = " is missing" if value is None else f" = {problems.show(value)}"
        found.append(f"{file}: {PROJECT}:targets{said}: must be a list of eks, runpod or both")
        return ()
    return tuple(target for target in allowed if target in value)


def _section(key: str, section: type[Section], value: object, file: str, found: list[str]) -> Section | None:
    if not isinstance(value, dict):
        found.append(f"{file}: {PROJECT}:{key} = {problems.show(value)}: must be a mapping of settings")
        return None
    try:
        # By way of JSON, whose lists are as good as tuples where types are strict.
        valid = section.model_validate_json(json.dumps(value, default=str))
    except ValidationError as error:
        found += [
            f"{file}: {PROJECT}:{key}.{name}{reason}" for name, reason in problems.of_section(section, error)
        ]
        return None
    inner = [(name, reason) for name, reason in checks.within(valid)]
    found += [f"{file}: {PROJECT}:{key}.{name} {reason}" for name, reason in inner]
    return None if inner else valid
