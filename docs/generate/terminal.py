"""`python -m docs.generate.terminal`: docs/terminal/, pictures of real runs on a stack `local` of its own.

The runs are in a copy of the project, so that a stack `local` of this folder is not touched. Its clouds are
on the loopback block of the stack file, which must be free.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path

import httpx
import yaml
from rich.ansi import AnsiDecoder
from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI
from rich.text import Text

from ops.stacks import LOCAL, PROJECT_FOLDER
from sandbox.clouds import Endpoints

_FOLDER = PROJECT_FOLDER / "docs" / "terminal"
_COLUMNS = 118
_FIRST, _LAST = 12, 22  # lines of a run that are shown
_LAST_OF_LONG = 44  # where what matters is further up
_TIMEOUT_SECONDS = 600
# Without a font from the network: a picture in a page may load none.
_SVG = """\
<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font: {char_height}px/{line_height}px ui-monospace, Menlo, Consolas,
"DejaVu Sans Mono", monospace; }}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: system-ui, sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
_CONTROL = re.compile(r"\x1b\[\?25[hl]|\x1b\[(\d*)A|\x1b\[2K|\r|\n")


class Copy:
    """A copy of the project to run commands in.

    Args:
        root: where it is.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
            cwd=PROJECT_FOLDER,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        for name in filter(lambda name: (PROJECT_FOLDER / name).is_file(), listed):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT_FOLDER / name, root / name)
        self._stack_file = root / "stacks" / f"Pulumi.{LOCAL}.yaml"

    def berth(self, *arguments: str) -> str:
        """Run `berth` where there is no terminal; return what it writes."""
        command = ["./berth", *arguments]
        return subprocess.run(command, cwd=self.root, capture_output=True, text=True, check=True).stdout

    def screen(self, *arguments: str, exit_status: int = 0) -> list[Text]:
        """Run `berth` at a terminal of its own; return the lines that are on it in the end.

        Raises:
            RuntimeError: the exit status is another one.
        """
        main, side = pty.openpty()
        fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 200, _COLUMNS, 0, 0))
        process = subprocess.Popen(
            ["./berth", *arguments],
            cwd=self.root,
            env={
                **{key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "COLUMNS")},
                "TERM": "xterm-256color",
                "COLORTERM": "truecolor",
            },
            stdin=side,
            stdout=side,
            stderr=side,
        )
        os.close(side)
        written = bytearray()
        while chunk := _read(main):
            written += chunk
        os.close(main)
        if process.wait(_TIMEOUT_SECONDS) != exit_status:
            raise RuntimeError(f"berth {' '.join(arguments)}: {process.returncode}\n{written.decode()}")
        return screen_of(written.decode())

    def edit(self, section: str, key: str, value: object) -> None:
        """Change a setting in the stack file."""
        document = yaml.safe_load(self._stack_file.read_text())
        document["config"][f"berth:{section}"][key] = value
        self._stack_file.write_text(yaml.safe_dump(document, sort_keys=False))

    def lower_workers(self) -> None:
        """Do what RunPod does with an endpoint that nobody asks."""
        block = yaml.safe_load(self._stack_file.read_text())["config"]["berth:sandbox"]["loopback_block"]
        endpoint = json.loads(self.berth("output", "--stack", LOCAL, "--json"))["endpoints"]["runpod"]["id"]
        key = self.berth("env", "--stack", LOCAL, "RUNPOD_API_KEY").strip()
        httpx.patch(
            f"{Endpoints.of(block).runpod}/serverless/{endpoint}",
            json={"workers": {"max": 0}},
            headers={"Authorization": f"Bearer {key}"},
        ).raise_for_status()


def _read(main: int) -> bytes:
    try:
        return os.read(main, 65536)
    except OSError:  # the other side is closed
        return b""


def screen_of(written: str) -> list[Text]:
    """Return what is on a terminal after what rich writes to one: lines, and live ones that it takes back."""
    lines, row, begin = [""], 0, 0
    for control in (*_CONTROL.finditer(written), None):
        lines[row] += written[begin : control.start() if control else len(written)]
        if control is None:
            break
        begin, said = control.end(), control.group()
        if said == "\n":
            row += 1
            if row == len(lines):
                lines.append("")
        elif said.endswith("A"):
            row -= int(control.group(1) or 1)
        elif said == "\x1b[2K":
            lines[row] = ""
    decoder = AnsiDecoder()
    return [decoder.decode_line(line) for line in lines]


def svg(command: str, lines: list[Text], last: int = _LAST) -> str:
    """Return the picture of a terminal after a command; of many lines, the first and the last."""
    while lines and not lines[-1].plain.strip():
        lines.pop()
    left_out = len(lines) - _FIRST - last
    if left_out > 0:
        lines = [*lines[:_FIRST], Text(f"... {left_out} lines ...", "dim"), *lines[-last:]]
    with Path(os.devnull).open("w") as nowhere:
        console = Console(record=True, width=_COLUMNS, file=nowhere, force_terminal=True)
        console.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
        for line in lines:
            console.print(line, overflow="fold")
        console.print()  # the picture cuts what hangs below the last line
        return console.export_svg(
            title="", theme=DIMMED_MONOKAI, code_format=_SVG, unique_id="terminal", font_aspect_ratio=0.61
        )


def main() -> None:
    """Run the commands and write the pictures."""
    _FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        copy = Copy(Path(folder) / "berth")
        copy.berth("--help")  # makes its environment

        def run(name: str, *arguments: str, exit_status: int = 0, last: int = _LAST) -> None:
            screen = copy.screen(*arguments, exit_status=exit_status)
            text = svg(f"./berth {' '.join(arguments)}", screen, last)
            (_FOLDER / f"{name}.svg").write_text(text)
            sys.stdout.write(f"{name}: {len(text) / 1024:.0f} KiB\n")

        run("plan", "plan", "--stack", "dev", "--offline", last=_LAST_OF_LONG)
        try:
            run("up", "up", "--stack", LOCAL, "--yes")
            run("smoke", "smoke", "--stack", LOCAL)
            run("leftovers", "leftovers", "--stack", LOCAL, last=_LAST_OF_LONG)
            copy.lower_workers()
            run("drift", "drift", "--stack", LOCAL, exit_status=1)
            copy.edit("model", "max_model_len", 1024)
            copy.edit("eks", "replicas", 2)
            run("preview", "preview", "--stack", LOCAL)
        finally:
            run("destroy", "destroy", "--stack", LOCAL, "--yes")


if __name__ == "__main__":
    main()
