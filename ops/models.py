"""Asks the model hub, before anything is created, whether the servers will get what a stack file names."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from ops.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from infra.settings import ModelSettings, Settings

_HUB = "https://huggingface.co"
_LIMIT_SECONDS = 10.0
_REFUSED = (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN)
_ON_THE_HUB = re.compile(r"[\w.-]+/(?P<name>[\w.-]+)")
_DEFAULT_RANK = 16  # vLLM's own


@dataclass(frozen=True)
class _Wanted:
    """One repository that a server will fetch: where the stack file has it, and a small file of it."""

    key: str
    name: str
    revision: str
    file: str

    @property
    def path(self) -> str:
        return f"{self.name}/resolve/{self.revision}/{self.file}"


def require(settings: Settings, *, token: Callable[[], str | None], note: Callable[[str], None]) -> None:
    """See that the hub gives out the model and its adapters, and that the adapters are of this model.

    Where no hub answers, that is noted and nothing is refused: servers may reach one that this machine does
    not. HF_ENDPOINT names another hub than huggingface.co.

    Args:
        settings: the stack's settings.
        token: returns the stack's hubToken, if it has one; asked for where the hub wants one.
        note: takes a line for the user.

    Raises:
        RefusedError: a repository or commit is not there, is gated and there is no token or one that may not
            read it, or an adapter is of another base or rank.
    """
    model = settings.model
    if not model.revision:  # another's server says itself what it loads
        return
    hub = os.environ.get("HF_ENDPOINT") or _HUB
    wanted = [_Wanted("model", model.name, model.revision, "config.json")] + [
        _Wanted(f"model.adapters.{name}", adapter.name, adapter.revision, "adapter_config.json")
        for name, adapter in model.adapters.items()
    ]
    problems: list[str] = []
    for item in wanted:
        try:
            config, problem = _ask(hub, item, token)
        except httpx.HTTPError as error:
            why = str(error) or type(error).__name__
            note(f"no model hub answers at {hub} ({why}): whether servers can get {item.name} is not checked")
            break
        if problem is None and item.key != "model" and isinstance(config, dict):
            problem = _adapter_problem(model, config)
        if problem is not None:
            problems.append(f"{settings.file}: berth:{item.key}: {item.name} {problem}")
    if problems:
        raise RefusedError("\n".join(problems))


def _ask(hub: str, item: _Wanted, token: Callable[[], str | None]) -> tuple[Any, str | None]:
    """Return the content of a repository's small file, or why it cannot be had.

    Raises:
        httpx.HTTPError: no hub answers, or one that has a problem of its own.
    """
    reply = _get(hub, item, None)
    given = token() if reply.status_code in _REFUSED else None
    if given is not None:
        reply = _get(hub, item, given)
    if not reply.is_success:
        return None, _refusal(hub, item, reply, has_token=given is not None)
    try:
        return reply.json(), None
    except ValueError:
        return None, f"at {item.revision} has a {item.file} that is not JSON"


def _refusal(hub: str, item: _Wanted, reply: httpx.Response, *, has_token: bool) -> str | None:
    """Return why a file is not given out; None where it may well not be there.

    Source: huggingface_hub, `hf_raise_for_status`: the header X-Error-Code says which of its errors it is.
    """
    code = reply.headers.get("X-Error-Code", "")
    terms = f"accept its terms on {hub}/{item.name}"
    if code == "EntryNotFound":
        # A model may go without, in some formats: what the server makes of it, it says itself.
        problem = (
            None if item.key == "model" else f"at {item.revision} has no {item.file}: it is no LoRA adapter"
        )
    elif code == "RevisionNotFound":
        problem = f"has no commit {item.revision}"
    elif reply.status_code == httpx.codes.NOT_FOUND or (code == "RepoNotFound" and has_token):
        problem = f"is not on the hub {hub}, or the hubToken may not see it"
    elif reply.status_code not in _REFUSED:
        raise httpx.HTTPStatusError(f"HTTP {reply.status_code}", request=reply.request, response=reply)
    elif has_token:
        problem = (
            f"is gated, and the stack's hubToken may not read it: {terms} with its account, and give a "
            "fine-grained token access to gated repositories"
        )
    else:
        kind = "is gated" if code == "GatedRepo" else "is gated, private or not there"
        problem = (
            f"{kind}, and the stack has no token: {terms}, then pulumi config set --secret berth:hubToken"
        )
    return problem


def _get(hub: str, item: _Wanted, token: str | None) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.get(
        f"{hub.rstrip('/')}/{item.path}", headers=headers, timeout=_LIMIT_SECONDS, follow_redirects=True
    )


def _adapter_problem(model: ModelSettings, config: dict[str, Any]) -> str | None:
    """Return why an adapter does not go with the model: a mirror of its base under another owner does."""
    base = _ON_THE_HUB.fullmatch(str(config.get("base_model_name_or_path", "")))
    if base and base["name"].lower() != model.name.partition("/")[2].lower():
        return f"is an adapter of {base[0]}, and model.name is {model.name}"
    rank, most = config.get("r"), model.max_lora_rank or _DEFAULT_RANK
    if isinstance(rank, int) and rank > most:
        return f"has the rank {rank}: model.max_lora_rank must be as much, and is {most}"
    return None
