"""Both accounts of a stack on this machine, and what a preflight says of them."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from ops.preflight.aws import Account
from tests.infra.stack_files import edited, loaded
from tests.ops.accounts import Clouds, answering, clouds

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from infra.settings import Settings
    from ops.preflight.findings import Check, Finding
    from tests.ops.conftest import Project
    from tests.ops.runpod_platform import Said

MODEL = "Qwen/Qwen2.5-7B-Instruct"
EXPIRED = (403, "ExpiredToken", "The security token included in the request is expired")
DENIED = (403, "AccessDenied", "User: ci is not authorized to perform: iam:SimulatePrincipalPolicy")


@contextlib.contextmanager
def refusing_service(status: int, code: str, message: str) -> Iterator[str]:
    """A service of AWS's query protocol that refuses everybody."""
    error = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
    answer = f"<ErrorResponse>{error}<RequestId>1</RequestId></ErrorResponse>"
    with answering(status, answer.encode()) as url:
        yield url


@pytest.fixture(scope="module")
def accounts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clouds]:
    with clouds(tmp_path_factory.mktemp("accounts")) as (aws, runpod):
        yield Clouds(aws, runpod)


@pytest.fixture
def somebody(accounts: Clouds, monkeypatch: pytest.MonkeyPatch) -> Clouds:
    """Both accounts, with the environment of somebody who works with them."""
    for name, value in accounts.variables.items():
        monkeypatch.setenv(name, value)
    return accounts


@pytest.fixture
def pulumi(programs: Project) -> dict[str, str]:
    """A Pulumi CLI that is logged in and has the stack."""
    return programs.pulumi({})


def preflight(accounts: Clouds, *options: str, exit_status: int = 0, **more: str) -> Said:
    """Type the command; whatever it says, it never says a key."""
    return accounts.typed("preflight", "dev", *options, exit_status=exit_status, **more)


def report(accounts: Clouds, *, ready: bool, **more: str) -> dict[str, dict[str, Any]]:
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
