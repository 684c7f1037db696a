"""A fresh copy of the project, as a stranger would clone it, with a sandbox of its own."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import pytest
import yaml

from sandbox.kubernetes import binaries
from tests.blocks import free_block

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Clone:
    """One copy of the project and what a user does in it."""

    root: Path
    block: int

    @property
    def stack_file(self) -> Path:
        return self.root / "stacks" / "Pulumi.local.yaml"

    @property
    def config(self) -> dict[str, Any]:
        """What the stack file says."""
        config: dict[str, Any] = yaml.safe_load(self.stack_file.read_text())["config"]
        return config

    def edit(self, change: Callable[[dict[str, Any]], None]) -> None:
        document = yaml.safe_load(self.stack_file.read_text())
        change(document["config"])
        self.stack_file.write_text(yaml.safe_dump(document, sort_keys=False))

    def popen(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["./berth", *arguments],
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, exit_status: int = 0) -> str:
        process = self.popen(*arguments)
        lines = []
        assert process.stdout is not None
        for line in process.stdout:
            print(f"[{self.root.name}] {line}", end="", flush=True)
            lines.append(line)
        output = "".join(lines)
        assert process.wait() == exit_status, f"berth {' '.join(arguments)}: {process.returncode}\n{output}"
        return output

    def json(self, *arguments: str, exit_status: int = 0) -> Any:
        process = self.popen(*arguments, "--json")
        output, _ = process.communicate()
        assert process.returncode == exit_status, output
        return json.loads(output)

    def wait_for_line(self, process: subprocess.Popen[str], text: str) -> None:
        assert process.stdout is not None
        seen = []
        for line in process.stdout:
            seen.append(line)
            if text in line:
                return
        pytest.fail(f"no line with {text!r} in:\n{''.join(seen)}")

    def aws(self, *arguments: str) -> Any:
        """Ask the sandbox's AWS with the real `aws` command."""
        return json.loads(self._in_environment("aws", *arguments, "--output", "json").stdout or "null")

    def kubectl(self, *arguments: str, **environment: str) -> str:
        """Ask the cluster with the real kubectl, as whom the stack's kubeconfig says."""
        done = self.try_kubectl(*arguments, **environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def try_kubectl(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Ask the cluster, with these variables over those of `berth env`, and return how it went."""
        kubeconfig = self.root / ".sandbox" / "kubeconfig-of-a-test"
        if not kubeconfig.exists():
            text = self.run("output", "--stack", "local", "kubeconfig", "--show-secrets")
            kubeconfig.write_text(text[text.index("{") :])
        command = [str(binaries.ensure(lambda _: None) / "kubectl"), f"--kubeconfig={kubeconfig}", *arguments]
        return self._in_environment(*command, check=False, **environment)

    @cached_property
    def _environment(self) -> dict[str, str]:
        """What `berth env` sets: the same as long as the stack is there."""
        shown = subprocess.run(
            ["sh", "-c", 'eval "$(./berth env --stack local)" && env -0'],
            cwd=self.root,
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout
        return dict(line.split("=", 1) for line in shown.rstrip("\0").split("\0"))

    def _in_environment(
        self, *command: str, check: bool = True, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.root,
            env={**self._environment, **environment},
            capture_output=True,
            text=True,
            check=check,
            timeout=120,
        )

    def credentials(self) -> dict[str, str]:
        """Return the keys of this copy's clouds."""
        keys: dict[str, str] = json.loads((self.root / ".sandbox" / "credentials.json").read_text())
        return keys

    def admin(self, method: str, path: str, body: Any = None) -> Any:
        """Ask the sandbox's AWS for trouble: see sandbox/aws/faults.py."""
        keys = self.credentials()
        reply = httpx.request(
            method,
            f"http://127.{self.block}.0.1:4566/_sandbox/{path}",
            json=body,
            headers={"x-sandbox-secret": keys["aws_secret_access_key"]},
            timeout=30,
        )
        assert reply.is_success, reply.text
        return reply.json()

    def state(self) -> dict[str, Any]:
        path = self.root / ".sandbox/state/.pulumi/stacks/berth/local.json"
        loaded: dict[str, Any] = json.loads(path.read_text())
        return loaded

    def processes(self) -> list[psutil.Process]:
        """Return every process that works in this copy."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if str(self.root) in process.cwd() or str(self.root) in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def listening(self) -> list[str]:
        """Return the addresses of this copy's sandbox on which anything listens."""
        # Other tests may use other addresses of the block.
        ours = re.compile(rf"127\.{self.block}\.[0-4]\.")
        return [
            f"{connection.laddr.ip}:{connection.laddr.port}"
            for connection in psutil.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN and ours.match(connection.laddr.ip)
        ]

    def kill(self) -> None:
        """Kill all that a test which failed left running, and what the clouds start again meanwhile."""
        while running := self.processes():
            for process in running:
                with contextlib.suppress(psutil.Error):
                    process.kill()

    def destroy(self) -> None:
        """Destroy the stack, and see nothing left: on its clouds when they stop, in state, of them."""
        before = self.stack_file.read_bytes()
        assert "left on the clouds: nothing" in self.run("destroy", "--stack", "local", "--yes")
        assert self.stack_file.read_bytes() == before
        assert self.state()["checkpoint"]["latest"].get("resources", []) == []
        assert self.processes() == []
        assert self.listening() == []
        assert not (self.root / ".sandbox" / "clouds").exists()


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of all copies, one after the other; the environment that the first makes cannot be moved."""
    root = tmp_path_factory.mktemp("clone") / "berth"
    root.mkdir()
    yield root
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="module")
def clone(folder: Path) -> Iterator[Clone]:
    for old in set(folder.iterdir()) - {folder / ".venv"}:
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    files = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    for name in files:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    made = Clone(folder, free_block())
    made.edit(lambda config: config["berth:sandbox"].update(loopback_block=int(made.block)))
    yield made
    made.kill()
