"""Makes moto's ids a function of a seed, so that a journal played again gives the same ids."""

from __future__ import annotations

import contextlib
import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import moto.s3.models
import moto.sts.models
from moto.core.base_backend import AccountSpecificBackend
from moto.moto_api._internal import mock_random

from sandbox.aws.guards import replace

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def seeded(seed: str) -> Iterator[None]:
    """Draw all of moto's random numbers from `seed` for the length of a `with` block."""
    before = mock_random.getstate()
    mock_random.seed(seed)
    try:
        yield
    finally:
        mock_random.setstate(before)


def install(salt: str) -> None:
    """Seed what moto makes on first use, and replace the two places where it asks the operating system.

    Args:
        salt: what makes the ids of this sandbox different from those of others.
    """
    original = AccountSpecificBackend.__getitem__

    def get(self: Any, region_name: str) -> Any:
        if region_name in self.keys():  # `in self` also finds regions without a backend
            return original(self, region_name)
        with seeded(f"{salt}:{self.service_name}:{self.account_id}:{region_name}"):
            return original(self, region_name)

    replace(AccountSpecificBackend, "__getitem__", get)
    replace(moto.sts.models, "random_session_token", _session_token)
    replace(moto.s3.models, "os", SimpleNamespace(urandom=_random_bytes, environ=os.environ))


def _session_token() -> str:
    return "FQoGZXIvYXdzEBYaD" + mock_random.token_urlsafe(252)


def _random_bytes(size: int) -> bytes:
    return mock_random.getrandbits(size * 8).to_bytes(size, "big")
