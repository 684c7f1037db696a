"""The platform in a process of its own: a server's threads are no company for an engine that forks.

Started as a program it serves until its input ends, which it does with whoever started it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from tests.runpod.conftest import KEY
from tests.runpod.small_engine import platform_in

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class RemotePlatform:
    """Clients of a platform: of its API, and of the routes that only tests know."""

    endpoint: str
    api: httpx.Client
    admin: httpx.Client

    def fault(self, method: str, path: str, **options: Any) -> None:
        answer = self.admin.post("/faults", json={"method": method, "path": path, **options})
        assert answer.status_code == 200, answer.text

    def forget_faults(self) -> None:
        assert self.admin.delete("/faults").status_code == 200


def remote_platform(folder: Path) -> Iterator[RemotePlatform]:
    """Run a platform while its clients are used."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.runpod.platform_process", str(folder)],
        cwd=_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        with (
            httpx.Client(
                base_url=said["endpoint"],
                headers={"Authorization": f"Bearer {KEY}"},
                timeout=30,
                trust_env=False,
            ) as api,
            httpx.Client(
                base_url=f"{said['base_url']}/_sandbox",
                headers={"x-sandbox-secret": said["secret"]},
                timeout=30,
                trust_env=False,
            ) as admin,
        ):
            yield RemotePlatform(said["endpoint"], api, admin)
        process.communicate()


if __name__ == "__main__":
    for platform in platform_in(Path(sys.argv[1])):
        cloud = platform.cloud
        print(
            json.dumps(
                {"endpoint": cloud.endpoint, "base_url": cloud.base_url, "secret": cloud.admin_secret}
            ),
            flush=True,
        )
        sys.stdin.read()
