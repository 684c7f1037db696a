"""What a project and a stack say in files: `Pulumi.yaml` and the stack's settings."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from sandbox.engine.crypto import Crypter
from sandbox.engine.errors import EngineError, UnsupportedError

if TYPE_CHECKING:
    from pathlib import Path

_PROJECT_KEYS = {
    "name", "runtime", "description", "main", "stackConfigDir", "author", "website", "license", "backend",
    "requiredPulumiVersion",
}  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """One setting of a stack.

    Args:
        text: its value; lists and objects as JSON, secrets in clear.
        secret: whether it is one.
        stored: how the file has it, with secrets encrypted.
    """

    text: str
    secret: bool
    stored: Any

    def __repr__(self) -> str:
        return "[secret]" if self.secret else self.text


@dataclass(frozen=True)
class Project:
    """A project together with one of its stacks.

    Args:
        root: the folder of `Pulumi.yaml`.
        name: the project's name.
        main: the program's folder, also the working directory of program and plugins.
        stack: the stack's name.
        settings: its settings, by full key such as `berth:model`.
        crypter: for its secrets.
    """

    root: Path
    name: str
    main: Path
    stack: str
    settings: dict[str, Setting]
    crypter: Crypter

    @property
    def denied_default_providers(self) -> list[str]:
        """The packages of which every resource must name its provider."""
        setting = self.settings.get("pulumi:disable-default-providers")
        return [str(name).strip() for name in json.loads(setting.text)] if setting and setting.text else []


def load(root: Path, stack: str, passphrase: str) -> Project:
    """Read a project and one of its stacks.

    Args:
        root: the folder of `Pulumi.yaml`.
        stack: the stack's name.
        passphrase: what the secrets in the stack file are encrypted with.

    Raises:
        EngineError: a file is missing or malformed, or uses what the engine does not support.
    """
    data = _read_yaml(root / "Pulumi.yaml")
    unsupported = sorted(set(data) - _PROJECT_KEYS)
    if unsupported:
        raise UnsupportedError(f"{', '.join(unsupported)} in {root / 'Pulumi.yaml'}")
    runtime = data.get("runtime")
    language = runtime.get("name") if isinstance(runtime, dict) else runtime
    if language != "python":
        raise UnsupportedError(f"the runtime {language!r}")
    path = root / data.get("stackConfigDir", "") / f"Pulumi.{stack}.yaml"
    if not path.exists():
        known = sorted(file.name.split(".")[1] for file in path.parent.glob("Pulumi.*.yaml"))
        raise EngineError(
            f"the stack {stack} does not exist: {path} is missing (there are: {', '.join(known)})"
        )
    stack_data = _read_yaml(path)
    salt = stack_data.get("encryptionsalt")
    if not salt or "secretsprovider" in stack_data:
        raise EngineError(
            f"{path} needs an encryptionsalt: the embedded engine encrypts secrets by passphrase, and only so"
        )
    crypter = Crypter(passphrase, salt)
    name = str(data["name"])
    settings = {
        key if ":" in key else f"{name}:{key}": _setting(value, crypter)
        for key, value in (stack_data.get("config") or {}).items()
    }
    main = root / data.get("main", "")
    if not (main / "__main__.py").exists():
        raise EngineError(f"there is no program in {main}: __main__.py is missing")
    return Project(root, name, main, stack, settings, crypter)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text())
    except FileNotFoundError as error:
        raise EngineError(f"{path} does not exist") from error
    except yaml.YAMLError as error:
        raise EngineError(f"{path} is not YAML: {error}") from error
    if not isinstance(data, dict):
        raise EngineError(f"{path} must be a mapping of keys to values")
    return data


def _setting(value: Any, crypter: Crypter) -> Setting:
    secrets = 0

    def plain(item: Any) -> Any:
        nonlocal secrets
        if isinstance(item, dict) and set(item) == {"secure"}:
            secrets += 1
            return crypter.decrypt(item["secure"])
        if isinstance(item, dict):
            return {str(key): plain(inner) for key, inner in item.items()}
        return [plain(inner) for inner in item] if isinstance(item, list) else item

    clear = plain(value)
    if isinstance(clear, dict | list):
        return Setting(
            json.dumps(clear, separators=(",", ":"), sort_keys=True, default=str, ensure_ascii=False),
            secrets > 0,
            value,
        )
    text = "" if clear is None else json.dumps(clear) if isinstance(clear, bool) else str(clear)
    return Setting(text, secrets > 0, value if secrets else text)
