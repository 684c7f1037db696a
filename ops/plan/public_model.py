"""A model's public configuration: from the hub where one answers, else from the table that ships.

The table, `models.json`, has what memory depends on of the `config.json` of the models in the stack files
that ship, by name and revision, and the number of parameters that each model's page states, to which a test
holds what is counted from it.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ops.errors import OpsError
from ops.plan.asking import within

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx

_TABLE = Path(__file__).with_name("models.json")
_HUB = "https://huggingface.co"
_CONNECT_SECONDS, _READ_SECONDS, _ALL_SECONDS = 2.0, 3.0, 10.0
_MOST_BYTES = 8 * 2**20


@dataclass(frozen=True)
class PublicModel:
    """What is known of a model without its weights.

    Attributes:
        config: its `config.json`.
        checkpoint_bytes: of the files with its weights; None where nobody has told.
        source: where both are from, for people.
    """

    config: Mapping[str, Any]
    checkpoint_bytes: int | None
    source: str


class _NoAnswerError(Exception):
    """The hub has not answered with what was asked; the message says how."""


def read(name: str, revision: str, *, offline: bool) -> PublicModel:
    """Return what is known of a model.

    `HF_ENDPOINT` names another hub; the token in `HF_TOKEN` goes there in a header and nowhere else.

    Args:
        name: the model's name on the hub.
        revision: its commit there.
        offline: ask no hub.

    Raises:
        OpsError: no hub has told, and the table does not know the model.
    """
    reason = "--offline asks none"
    if not offline:
        answer = within(_ALL_SECONDS, {"hub": lambda: _from_hub(name, revision)}).get("hub")
        if isinstance(answer, PublicModel):
            return answer
        reason = str(answer) if isinstance(answer, _NoAnswerError) else "the hub does not answer in time"
    known = json.loads(_TABLE.read_text()).get(name)
    if known is None:
        raise OpsError(
            f"the model {name} cannot be planned for: its config.json is not to be had ({reason}), and the "
            f"table that ships does not know it. HF_ENDPOINT names another hub, HF_TOKEN opens gated models"
        )
    of = "" if known["revision"] == revision else f" of revision {known['revision'][:8]}"
    return PublicModel(
        known["config"], known.get("checkpoint_bytes"), f"the table that ships{of} (no hub: {reason})"
    )


def _from_hub(name: str, revision: str) -> PublicModel:
    import httpx  # noqa: PLC0415  # a quarter of the start of every command

    endpoint = os.environ.get("HF_ENDPOINT", _HUB).rstrip("/")
    token = os.environ.get("HF_TOKEN", "").strip()
    base = f"{endpoint}/{name}/resolve/{revision}"
    try:
        with httpx.Client(
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=httpx.Timeout(_READ_SECONDS, connect=_CONNECT_SECONDS),
            follow_redirects=True,
        ) as client:
            deadline = time.monotonic() + _ALL_SECONDS
            config = _document(client, f"{base}/config.json", deadline)
            if config is None:
                raise _NoAnswerError(f"{endpoint} has no {name} with a config.json at {revision}")
            size = _checkpoint_bytes(client, base, deadline)
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        # Not the error's own words: of a header that cannot be sent they would show the token.
        raise _NoAnswerError(f"{endpoint} does not answer: {type(error).__name__}") from None
    return PublicModel(config, size, f"{endpoint} at {revision[:8]}")


def _checkpoint_bytes(client: httpx.Client, base: str, deadline: float) -> int | None:
    index = _document(client, f"{base}/model.safetensors.index.json", deadline)
    if index is not None:
        total = (index.get("metadata") or {}).get("total_size")
        return int(total) if total else None
    answer = client.head(f"{base}/model.safetensors")
    length = answer.headers.get("x-linked-size") or answer.headers.get("content-length")
    return int(length) if answer.is_success and length else None


def _document(client: httpx.Client, url: str, deadline: float) -> dict[str, Any] | None:
    """Return a JSON object; None if there is none of that name."""
    with client.stream("GET", url) as answer:
        if answer.status_code == 404:
            return None
        if answer.status_code in (401, 403):
            raise _NoAnswerError(f"the hub lets nobody read it without a token ({answer.status_code})")
        if not answer.is_success:
            raise _NoAnswerError(f"the hub answers {answer.status_code}")
        text = b""
        for part in answer.iter_bytes():
            text += part
            if len(text) > _MOST_BYTES or time.monotonic() > deadline:
                raise _NoAnswerError("the hub's answer is too long or too slow")
    try:
        document = json.loads(text)
    except ValueError:
        raise _NoAnswerError("the hub's answer is not JSON") from None
    if not isinstance(document, dict):
        raise _NoAnswerError("the hub's answer is not a JSON object")
    return document
