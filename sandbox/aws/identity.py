"""The deployer: the one IAM user that every sandbox account starts with."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from moto.iam.models import iam_backends

from sandbox.aws.cloud import ACCOUNT_ID

if TYPE_CHECKING:
    from pathlib import Path

_USER = "deployer"
_POLICY = "arn:aws:iam::aws:policy/AdministratorAccess"
_BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


@dataclass(frozen=True)
class Credentials:
    """An access key."""

    access_key_id: str
    secret_access_key: str = field(repr=False)


def load_credentials(directory: Path) -> Credentials:
    """Return the deployer's key: the environment's, else the one kept in `directory`, made on first use."""
    key, secret = os.environ.get("AWS_ACCESS_KEY_ID"), os.environ.get("AWS_SECRET_ACCESS_KEY")
    if key and secret:
        return Credentials(key, secret)
    path = directory / "credentials.json"
    if not path.exists():
        made = Credentials(
            "AKIA" + "".join(secrets.choice(_BASE32) for _ in range(16)), secrets.token_urlsafe(30)
        )
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(asdict(made), file)
    return Credentials(**json.loads(path.read_text()))


def create_deployer(credentials: Credentials) -> None:
    """Make the IAM user `deployer`, an administrator, with exactly this key."""
    iam = iam_backends[ACCOUNT_ID]["aws"]
    iam.create_user("us-east-1", _USER)
    iam.attach_user_policy(_POLICY, _USER)
    key = iam.create_access_key(_USER, prefix="AKIA")
    del iam.access_keys[key.access_key_id]
    key.access_key_id = credentials.access_key_id
    key.secret_access_key = credentials.secret_access_key
    iam.access_keys[key.access_key_id] = key
