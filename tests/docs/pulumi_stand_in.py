"""Stands in for the Pulumi CLI: knows the commands and flags of its reference, refuses every other.

Source: https://www.pulumi.com/docs/iac/cli/commands/. It does nothing; `stack output` has what
the file in the variable OUTPUTS says.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    _Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pulumi", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, under: _Commands = commands) -> argparse.ArgumentParser:
        return under.add_parser(name, allow_abbrev=False)

    command("version")
    login = command("login")
    login.add_argument("url")
    for name in ("preview", "up", "refresh", "destroy"):
        made = command(name)
        made.add_argument("-s", "--stack", required=True)
        made.add_argument("--json", action="store_true")
        if name == "preview":
            made.add_argument("--policy-pack", type=_folder)
        else:
            made.add_argument("--yes", action="store_true")
        if name == "refresh":
            made.add_argument("--preview-only", action="store_true")
            made.add_argument("--non-interactive", action="store_true")
            made.add_argument("--event-log")
    config = command("config").add_subparsers(dest="action", required=True)
    for name in ("get", "set"):
        made = command(name, config)
        made.add_argument("key")
        made.add_argument("--stack", required=True)
        if name == "set":
            made.add_argument("--secret", action="store_true")
    stack = command("stack")
    stack.add_argument("-s", "--stack")
    stack.add_argument("--show-urns", action="store_true")
    actions = stack.add_subparsers(dest="action")
    init = command("init", actions)
    init.add_argument("name")
    init.add_argument("--secrets-provider")
    output = command("output", actions)
    output.add_argument("--stack", required=True)
    output.add_argument("--json", action="store_true")
    output.add_argument("--show-secrets", action="store_true")
    return parser


def _folder(name: str) -> Path:
    if not (Path(name) / "PulumiPolicy.yaml").is_file():
        raise argparse.ArgumentTypeError(f"no policy pack in {name}")
    return Path(name)


def main() -> None:
    """Do what the command line says, which is nothing."""
    given = _parser().parse_args()
    if given.command == "version":
        print("v3.272.0")
    elif given.command == "stack" and given.action == "output":
        print(Path(os.environ["OUTPUTS"]).read_text())
    elif given.command == "config" and given.action == "get":
        raise SystemExit(f"error: configuration key '{given.key}' not found for stack '{given.stack}'")


if __name__ == "__main__":
    main()
