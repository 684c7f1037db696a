"""Both accounts of a stack on this machine, and what a preflight says of them."""

from __future__ import annotations

import contextlib
import json
import threading
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from ops.preflight.aws import Account
from tests.infra.stack_files import edited, loaded
from tests.ops.runpod_platform import typed
from tests.runpod.conftest import KEY, start_platform
from tests.sandbox_aws.support import Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from infra.settings import Settings
    from ops.preflight.findings import Check, Finding
    from tests.ops.conftest import Project
    from tests.ops.runpod_platform import Said
    from tests.runpod.conftest import Platform

MODEL = "Qwen/Qwen2.5-7B-Instruct"
EXPIRED = (403, "ExpiredToken", "The security token included in the request is expired")
DENIED = (403, "AccessDenied", "User: ci is not authorized to perform: iam:SimulatePrincipalPolicy")


@contextlib.contextmanager
def refusing_service(status: int, code: str, message: str) -> Iterator[str]:
    """A service of AWS's query protocol that refuses everybody."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            error = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
            answer = f"<ErrorResponse>{error}<RequestId>1</RequestId></ErrorResponse>".encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@dataclass(frozen=True)
class Accounts:
    """Both accounts of a stack, on this machine."""

    aws: Sandbox
    runpod: Platform

    @property
    def variables(self) -> dict[str, str]:
        """The environment of somebody who works with them."""
        return {
            "AWS_ACCESS_KEY_ID": self.aws.environment["AWS_ACCESS_KEY_ID"],
            "AWS_SECRET_ACCESS_KEY": self.aws.environment["AWS_SECRET_ACCESS_KEY"],
            "AWS_ENDPOINT_URL": self.aws.endpoint,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "RUNPOD_API_KEY": KEY,
            "RUNPOD_REST_V2_API_URL": self.runpod.cloud.endpoint,
        }


@pytest.fixture(scope="module")
def accounts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Accounts]:
    folder = tmp_path_factory.mktemp("accounts")
    (folder / "aws").mkdir()
    aws = Sandbox(folder / "aws").start()
    platform = start_platform(folder / "runpod", block=aws.block)
    yield Accounts(aws, platform)
    platform.cloud.stop()
    aws.stop()


@pytest.fixture
def somebody(accounts: Accounts, monkeypatch: pytest.MonkeyPatch) -> Accounts:
    """Both accounts, with the environment of somebody who works with them."""
    for name, value in accounts.variables.items():
        monkeypatch.setenv(name, value)
    return accounts


@pytest.fixture
def pulumi(programs: Project) -> dict[str, str]:
    """A Pulumi CLI that is logged in and has the stack."""
    return programs.pulumi({})


def preflight(accounts: Accounts, *options: str, exit_status: int = 0, **more: str) -> Said:
    """Type the command; whatever it says, it never says a key."""
    variables = accounts.variables | more
    said = typed("preflight", "--stack", "dev", *options, variables=variables, exit_status=exit_status)
    for secret in ("AWS_SECRET_ACCESS_KEY", "RUNPOD_API_KEY"):
        assert not variables[secret] or variables[secret] not in said.stdout + said.stderr
    return said


def report(accounts: Accounts, *, ready: bool, **more: str) -> dict[str, dict[str, Any]]:
    """Return the answers by subject and question."""
    said = json.loads(preflight(accounts, "--json", exit_status=0 if ready else 1, **more).stdout)
    assert said["ready"] == ready
    return {f"{row['subject']}: {row['check']}": row for row in said["checks"]}


def asked(checks: Sequence[Check]) -> dict[str, Finding]:
    return {check.name: check.ask() for check in checks}


def settings_with(path: str, value: Any, **model: Any) -> Settings:
    """Return the settings of `dev` with one value changed."""
    settings = loaded(edited(path, value))
    return replace(settings, model=settings.model.model_copy(update=model)) if model else settings


def region(region: str = "us-east-1") -> Account:
    return Account(None, region)
