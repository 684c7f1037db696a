"""A project to run the engine on: the tests write its program, and its provider keeps objects as files."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from rich.console import Console

from sandbox.engine import Display, Engine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).parent
PASSPHRASE = "an open secret"
PRELUDE = """
import pulumi
from pulumi import ResourceOptions as Options
from kit import Account, Group, Note, Object
acme = Account("acme", account="acme")
by = lambda **more: Options(provider=acme, **more)
"""
DRIVER = """
import sys
from pathlib import Path
from sandbox.engine import Display, Engine, EngineError
project, state, passphrase, operation = sys.argv[1:]
engine = Engine(
    Path(project), "local", backend=Path(state), passphrase=passphrase, environment={}, display=Display()
)
try:
    getattr(engine, operation)()
except EngineError as error:
    sys.exit(f"error: {error}")
"""


class Shop:
    """A project with one stack, in a folder of its own."""

    def __init__(self, folder: Path, salt: str) -> None:
        self.root, self.state, self.objects = folder / "project", folder / "state", folder / "objects"
        for path in (self.root / "program", self.root / "stacks", self.objects, folder / "bin"):
            path.mkdir(parents=True)
        (self.root / "Pulumi.yaml").write_text(
            "name: shop\nruntime: python\nmain: program\nstackConfigDir: stacks\n"
        )
        self.salt = salt
        self.settings()
        plugin = folder / "bin" / "pulumi-resource-probe"
        plugin.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -u "{HERE / "probe.py"}" "$@"\n')
        plugin.chmod(0o755)
        self.environment = {
            "PROBE_HOME": str(self.objects),
            # A program changed twice in a second to another of the same size would not be compiled anew.
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent.parent)]),
            "PATH": os.pathsep.join(
                [str(plugin.parent), str(Path(sys.executable).parent), os.environ["PATH"]]
            ),
        }
        self.shown = io.StringIO()
        self.started: list[subprocess.Popen[str]] = []

    def settings(self, **settings: Any) -> None:
        config = {"shop:" + key: value for key, value in settings.items()}
        content = {"encryptionsalt": self.salt, "config": config}
        (self.root / "stacks" / "Pulumi.local.yaml").write_text(json.dumps(content))

    def program(self, text: str) -> None:
        (self.root / "program" / "__main__.py").write_text(PRELUDE + textwrap.dedent(text))

    def engine(self) -> Engine:
        self.shown = io.StringIO()
        console = Console(file=self.shown, width=200)
        return Engine(
            self.root,
            "local",
            backend=self.state,
            passphrase=PASSPHRASE,
            environment=self.environment,
            display=Display(console),
        )

    def up(self, text: str | None = None) -> dict[str, int]:
        """Run `up`, of a new program where one is given; return what changed."""
        if text is not None:
            self.program(text)
        return {op: number for op, number in self.engine().up().changes.items() if op != "same"}

    def preview(self, text: str | None = None) -> dict[str, int]:
        if text is not None:
            self.program(text)
        return {op: number for op, number in self.engine().preview().changes.items() if op != "same"}

    def start(self, operation: str) -> subprocess.Popen[str]:
        """Start an operation in a process of its own."""
        process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, str(self.root), str(self.state), PASSPHRASE, operation],
            env={**os.environ, **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.started.append(process)
        return process

    def kill_when(self, operation: str, ready: Callable[[], bool]) -> None:
        """Start an operation and kill it as soon as something is so."""
        process = self.start(operation)
        wait_until(ready, process)
        process.send_signal(signal.SIGKILL)
        process.communicate()

    @property
    def path(self) -> Path:
        return self.state / ".pulumi" / "stacks" / "shop" / "local.json"

    def deployment(self) -> dict[str, Any]:
        latest: dict[str, Any] = json.loads(self.path.read_text())["checkpoint"]["latest"]
        return latest

    def resources(self) -> dict[str, dict[str, Any]]:
        return {item["urn"].split("::")[-1]: item for item in self.deployment().get("resources", [])}

    def calls(self, *kinds: str) -> list[str]:
        """The provider's log as `call name`, without the names of calls that no test is about."""
        return [f"{item['call']} {item['name']}" for item in self.log() if item["call"] in kinds]

    def log(self) -> list[dict[str, Any]]:
        path = self.objects / "calls.log"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def forget_calls(self) -> None:
        (self.objects / "calls.log").unlink(missing_ok=True)

    def object(self, name: str) -> dict[str, Any] | None:
        path = self.objects / f"{name}.json"
        return json.loads(path.read_text()) if path.exists() else None


def wait_until(ready: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
    deadline = time.monotonic() + 60
    while not ready():
        assert process is None or process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "it did not happen within 60 s"
        time.sleep(0.01)


@pytest.fixture(scope="session")
def salt() -> str:
    """The `encryptionsalt` of a stack, as the CLI makes it: a salt, and a word encrypted with it."""
    salt, nonce = os.urandom(8), os.urandom(12)
    key = hashlib.pbkdf2_hmac("sha256", PASSPHRASE.encode(), salt, 1_000_000, 32)
    check = AESGCM(key).encrypt(nonce, b"pulumi", None)
    encoded = (b64encode(part).decode() for part in (salt, nonce, check))
    return "v1:{}:v1:{}:{}".format(*encoded)


@pytest.fixture
def shop(tmp_path: Path, salt: str) -> Iterator[Shop]:
    shop = Shop(tmp_path, salt)
    yield shop
    for process in shop.started:
        process.kill()
        process.wait()
