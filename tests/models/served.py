"""One server of a real model, as a container of a RunPod queue has it: asked by its routes, and by jobs."""

from __future__ import annotations

import base64
import contextlib
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import httpx
import psutil

from sandbox import model as models
from sandbox import vllm
from tests.containers.conftest import free_port, random_address, wait_for
from tests.image.job_platform import Platform
from tests.models.kinds import PROJECT

if TYPE_CHECKING:
    from pathlib import Path

    from infra.serving import ServingSpec

KEY = "sk-key-of-a-test"
# Alone on two cores it is 10 s; beside a whole test run, which starts several, a few times that.
_START_SECONDS = 240.0
_ANSWER_SECONDS = 120.0


class Served:
    """The image's entrypoint with its queue door, and real vLLM behind it."""

    def __init__(self, folder: Path, spec: ServingSpec) -> None:
        """Start it.

        Args:
            folder: where it may write.
            spec: what it gets, as on every platform.
        """
        self.platform = Platform()
        self.name = spec.served_name
        self.termination_log = folder / "termination-log"
        self._log_path = folder / "log"
        self.address = random_address()
        port = free_port(self.address)
        self.http = httpx.Client(
            base_url=f"http://{self.address}:{port}",
            headers={"Authorization": f"Bearer {KEY}"},
            timeout=_ANSWER_SECONDS,
            trust_env=False,
        )
        temporary = folder / "t"
        temporary.mkdir()
        environment = {
            **spec.environment,
            **spec.queue_environment,
            **vllm.environment(),
            **models.hub_environment(),
            **self.platform.environment,
            "PATH": f"{vllm.commands()}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(folder),
            "TMPDIR": str(temporary),
            "PORT": str(port),
            "BERTH_HOST": self.address,
            "BERTH_DOOR_PYTHON": sys.executable,
            "BERTH_TERMINATION_LOG": str(self.termination_log),
            "VLLM_API_KEY": KEY,
        }
        with self._log_path.open("wb") as log:
            self.process = subprocess.Popen(
                # By vLLM's own Python, as in the image.
                [vllm.python(), PROJECT / "image/entrypoint.py", *spec.args],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
            )

    def ready(self) -> Served:
        """Wait until it asks for jobs."""
        wait_for(lambda: self.platform.takes or self.process.poll() is not None, _START_SECONDS)
        assert self.process.poll() is None, self.log
        return self

    def reason(self) -> str:
        """Wait until it has ended, and return why, as the platforms show it."""
        wait_for(lambda: self.process.poll() is not None, _START_SECONDS)
        return self.termination_log.read_text()

    def ask(self, route: str, **body: Any) -> dict[str, Any]:
        """Return the answer of a route to a JSON body."""
        answer = self.http.post(route, json={"model": self.name, **body})
        assert answer.status_code == 200, answer.text
        parsed: dict[str, Any] = answer.json()
        return parsed

    def refusal(self, route: str, **body: Any) -> tuple[int, str]:
        """Return the status and the message of a route that refuses."""
        answer = self.http.post(route, json={"model": self.name, **body})
        return answer.status_code, _message(answer)

    def send(self, route: str, content: bytes, **fields: str) -> httpx.Response:
        """Return the answer of a route to a form with a file."""
        return self.http.post(
            route, data={"model": self.name, **fields}, files={"file": ("speech.wav", content)}
        )

    def job(self, **given: Any) -> Any:
        """Return the output of a job."""
        answer = self.platform.run(given).answer(_ANSWER_SECONDS)
        assert "error" not in answer, answer
        return answer["output"]

    def job_error(self, **given: Any) -> tuple[int, str]:
        """Return the status and the message of a job that is refused."""
        job = self.platform.run(given)
        job.answer(_ANSWER_SECONDS)
        error = job.error()
        return error["code"], error["message"]

    @property
    def log(self) -> str:
        return self._log_path.read_text(errors="replace")

    def close(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in [*psutil.Process(self.process.pid).children(recursive=True), self.process]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        self.process.wait()
        self.http.close()
        self.platform.close()


def _message(answer: httpx.Response) -> str:
    error = answer.json()
    return str(error.get("error", {}).get("message") or error.get("detail"))


def in_base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
