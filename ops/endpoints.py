"""The endpoints of a stack as its outputs name them, with the key that opens each and how to ask it."""

from __future__ import annotations

import json
import os
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ops import questions
from ops.errors import OpsError, UsageError
from ops.stacks import LOCAL, PROJECT_FOLDER

if TYPE_CHECKING:
    from infra.settings import Task
    from ops.stacks import Stack

# A job's sound is in its JSON: too long for a command, and for a screen.
_JSON_WITH_A_FILE = (
    '-H \'Content-Type: application/json\' --data-binary @<(printf \'{"input": {"audio": "%s"}}\' '
    '"$(base64 -w0 speech.wav)")'
)


@dataclass(frozen=True)
class Endpoint:
    """One URL that answers OpenAI's API.

    Args:
        platform: `eks` or `runpod`.
        url: up to and with `/v1`.
        health: answers 200 when requests will be answered; of a queue, counts its jobs and workers.
        key: what opens it; never shown.
        key_in_shell: the shell expression that gives the key, for commands that can be pasted.
        id: the endpoint's id on RunPod.
        type: on RunPod, `LOAD_BALANCER` or `QUEUE`.
        jobs: the base URL of a queue's job API.
        console: its page in RunPod's console.
        asks_for_key: whether it refuses those without the key; somebody else's server may not.
    """

    platform: str
    url: str
    health: str
    key: str = field(repr=False)
    key_in_shell: str
    id: str | None = None
    type: str | None = None
    jobs: str | None = None
    console: str | None = None
    asks_for_key: bool = True

    def curl(self, model: str, task: Task) -> str:
        """Return a command that asks for one answer.

        The key is neither in it nor in the arguments of a process, which others on the machine can list:
        printf is the shell's own.

        Args:
            model: the served name of the model.
            task: what it is for.
        """
        question = questions.of_task(task, model)[0]
        url = self.url.removesuffix("/v1") + question.route
        body: dict[str, Any] = question.fields
        if task == "generate":
            url = f"{self.url}/chat/completions"
            body = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 32}
        if self.jobs is not None and question.job is not None:
            url, body = f"{self.jobs}/runsync", {"input": question.job}
        sent = f"-H 'Content-Type: application/json' -d {shlex.quote(json.dumps(body))}"
        if question.file is not None and self.jobs is None:
            sent = f"-F file=@speech.wav -F {shlex.quote(f'model={model}')}"
        elif question.file is not None:
            sent = _JSON_WITH_A_FILE
        return f'printf "Authorization: Bearer %s" "{self.key_in_shell}" | curl {url} -H @- {sent}'


def endpoints_of(stack: Stack, outputs: dict[str, Any], platform: str | None = None) -> list[Endpoint]:
    """Return the endpoints in the outputs of a stack.

    Args:
        stack: the stack.
        outputs: its outputs, with secrets.
        platform: the only one to return; None returns all.

    Raises:
        OpsError: there are none, so the stack is not up, or the key for RunPod is not in the environment.
        UsageError: the stack is not on this platform.
    """
    described = outputs.get("endpoints")
    if not described:
        raise OpsError(
            f"the stack {stack.name} has no endpoints: bring it up first: {berth()} up --stack {stack.name}"
        )
    if platform is not None and platform not in described:
        raise UsageError(f"the stack {stack.name} is not on {platform}: it is on {', '.join(described)}")
    return [
        _runpod(stack, where) if name == "runpod" else _other(name, stack, where, outputs["api_key"])
        for name, where in described.items()
        if platform in (None, name)
    ]


def runpod_endpoint(stack: Stack) -> Endpoint:
    """Return the stack's endpoint on RunPod.

    Raises:
        OpsError: the stack is not up, or the key is not in the environment.
        UsageError: it is not on RunPod.
    """
    return endpoints_of(stack, stack.outputs(show_secrets=True), "runpod")[0]


def _runpod(stack: Stack, where: dict[str, Any]) -> Endpoint:
    key = stack.environment().get("RUNPOD_API_KEY", "").strip()
    if not key:
        raise OpsError("RUNPOD_API_KEY is not set: RunPod's endpoint cannot be asked without it")
    return Endpoint(
        "runpod",
        where["url"],
        where["health"],
        key,
        f"$({berth()} env --stack {LOCAL} RUNPOD_API_KEY)" if stack.name == LOCAL else "$RUNPOD_API_KEY",
        where.get("id"),
        where.get("type"),
        where.get("jobs"),
        where.get("console"),
    )


def _other(platform: str, stack: Stack, where: dict[str, Any], key: str) -> Endpoint:
    in_shell = f"$({berth()} output --stack {stack.name} api_key --show-secrets)"
    guarded = where.get("asks_for_key", True)
    return Endpoint(platform, where["url"], where["health"], key, in_shell, asks_for_key=guarded)


def berth() -> str:
    """Return the launcher as it is typed in the present folder."""
    launcher = PROJECT_FOLDER / "berth"
    if Path.cwd() == PROJECT_FOLDER:
        return "./berth"
    relative = os.path.relpath(launcher)
    return shlex.quote(relative if len(relative) < len(str(launcher)) else str(launcher))
