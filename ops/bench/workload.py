"""What an endpoint is asked to do while it is measured: how many requests at once, and what each is like."""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from ops.bench.words import in_words
from ops.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from infra.settings import Settings, Task

_Item = TypeVar("_Item")

_MOST = 1_000_000
_LEAST_REQUESTS, _REQUESTS_PER_CLIENT = 8, 4
_LONGEST_AUDIO_SECONDS = 600
_USUAL_PROMPT, _USUAL_OUTPUT = 512, 128


@dataclass(frozen=True)
class Workload:
    """One cell of the matrix.

    Args:
        concurrency: requests at once; the next is sent when one is answered.
        prompt_tokens: of each input; several lengths take turns. Empty for audio.
        output_tokens: of each answer; 0 where nothing is generated.
        batch_size: inputs of one request.
        audio_seconds: of each input, where it is sound.
        requests: how many are sent.
    """

    concurrency: int
    prompt_tokens: tuple[int, ...]
    output_tokens: int
    batch_size: int
    audio_seconds: int
    requests: int

    def __str__(self) -> str:
        return in_words(self.as_json())

    @property
    def all_requests(self) -> int:
        """How many are sent, those included that come first, one for each client, and are not measured."""
        return self.requests + self.concurrency

    @property
    def input_tokens(self) -> int:
        """How many are sent in all."""
        prompts = itertools.islice(itertools.cycle(self.prompt_tokens), self.requests)
        first = itertools.islice(itertools.cycle(self.prompt_tokens), self.concurrency)
        return (sum(prompts) + sum(first)) * self.batch_size

    @property
    def all_output_tokens(self) -> int:
        """How many are asked for in all."""
        return self.requests * self.output_tokens + (self.concurrency if self.output_tokens else 0)

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        return {**asdict(self), "prompt_tokens": list(self.prompt_tokens)}


@dataclass(frozen=True)
class Axes:
    """The lists that a matrix is the product of, as they are on the command line; None is the usual.

    Args:
        concurrency: numbers of requests at once, separated by commas.
        prompt_tokens: lengths of prompts, separated by commas; `64+1024` is a mix of both.
        output_tokens: lengths of answers.
        batch_size: numbers of inputs in a request.
        audio_seconds: lengths of sound.
        requests: of each cell.
    """

    concurrency: str | None
    prompt_tokens: str | None
    output_tokens: str | None
    batch_size: str | None
    audio_seconds: str | None
    requests: int | None

    def refuse_foreign(self, task: Task) -> None:
        """Refuse what does not go with the task.

        Raises:
            UsageError: an option is for another task.
        """
        sound = ("transcribe",)
        for option, value, tasks in (
            ("--prompt-tokens", self.prompt_tokens, ("generate", "embed", "score", "classify", "speak")),
            ("--output-tokens", self.output_tokens, ("generate",)),
            ("--batch-size", self.batch_size, ("embed", "score", "classify")),
            ("--audio-seconds", self.audio_seconds, sound),
        ):
            if value is not None and task not in tasks:
                raise UsageError(f"{option} goes with the task {', '.join(tasks)}, and the model's is {task}")

    def workloads(self, settings: Settings, *, mixed: bool = False) -> list[Workload]:
        """Return every cell for a stack's model, those of the fewest requests at once first.

        Args:
            settings: the stack's.
            mixed: whether short and long prompts together are usual, beside the usual ones.

        Raises:
            UsageError: a list is none, does not go with the task, or does not fit the model's context.
        """
        task, room = settings.model.task, settings.model.max_model_len
        self.refuse_foreign(task)
        generates, is_sound = task == "generate", task == "transcribe"
        outputs = [0]
        if generates:
            usual = str(min(_USUAL_OUTPUT, room // 4 or 1) if room else _USUAL_OUTPUT)
            outputs = _numbers("--output-tokens", self.output_tokens or usual)
        prompts: list[tuple[int, ...]] = [()]
        if not is_sound:
            text = self.prompt_tokens or _usual_prompts(room, max(outputs), mixed=mixed)
            prompts = _lengths("--prompt-tokens", text)
        seconds = [0]
        if is_sound:
            seconds = _numbers("--audio-seconds", self.audio_seconds or "10,30", most=_LONGEST_AUDIO_SECONDS)
        pools = task in {"embed", "score", "classify"}
        batches = _numbers("--batch-size", self.batch_size or "1,32") if pools else [1]
        _refuse_too_long(settings, prompts, outputs)
        levels = _numbers("--concurrency", self.concurrency or ("1,16,64" if generates else "1,8"))
        return [
            Workload(
                level,
                prompt,
                output,
                batch,
                audio,
                self.requests or max(_LEAST_REQUESTS, _REQUESTS_PER_CLIENT * level),
            )
            for prompt, audio, output, batch, level in itertools.product(
                prompts, seconds, outputs, batches, levels
            )
        ]


def _usual_prompts(room: int, output: int, *, mixed: bool) -> str:
    usual = _USUAL_PROMPT if not room else max(1, min(_USUAL_PROMPT, room - output))
    longest = 4 * _USUAL_PROMPT if not room else min(4 * _USUAL_PROMPT, room - output)
    return f"{usual},{max(1, usual // 8)}+{longest}" if mixed and longest > usual else str(usual)


def _refuse_too_long(settings: Settings, prompts: Sequence[tuple[int, ...]], outputs: Sequence[int]) -> None:
    room, longest = settings.model.max_model_len, max(max(prompt, default=0) for prompt in prompts)
    if not room or longest + max(outputs) <= room:  # another server's stack may not say it
        return
    asked = f"--prompt-tokens {longest}"
    if max(outputs):
        asked += f" and --output-tokens {max(outputs)} are {longest + max(outputs)} tokens together"
    raise UsageError(
        f"{asked}: {settings.file}: berth:model.max_model_len = {room} is the most that a request may have"
    )


def _numbers(option: str, text: str, *, most: int = _MOST) -> list[int]:
    return _listed(
        option, text, lambda item: _number(item, most), f"whole numbers, 1 to {most}, such as 1,16"
    )


def _lengths(option: str, text: str) -> list[tuple[int, ...]]:
    def parsed(item: str) -> tuple[int, ...]:
        return tuple(_number(part, _MOST) for part in item.split("+"))

    return _listed(
        option, text, parsed, f"whole numbers, 1 to {_MOST}, or mixes of them, such as 512,64+1024"
    )


def _number(text: str, most: int) -> int:
    number = int(text) if text.strip().isdecimal() else 0
    if not 1 <= number <= most:
        raise ValueError(text)
    return number


def _listed(option: str, text: str, parse: Callable[[str], _Item], allowed: str) -> list[_Item]:
    try:
        return list(dict.fromkeys(parse(item) for item in text.split(",")))
    except ValueError:
        raise UsageError(f"{option} {text}: must be a list of {allowed}") from None
