"""The arguments of `vllm serve`: those of the container, and those that consoles give as variables."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Arguments that the entrypoint sets itself, or that would show a secret, and what to use instead.
RESERVED = {
    "--host": "BERTH_HOST",
    "--port": "PORT",
    "--api-key": "VLLM_API_KEY",
    "--hf-token": "HF_TOKEN",
}
# The names that consoles, and endpoints made for other images, set; each with the spellings of its argument.
_VARIABLES = {
    "MAX_MODEL_LEN": ("--max-model-len",),
    "DTYPE": ("--dtype",),
    "GPU_MEMORY_UTILIZATION": ("--gpu-memory-utilization",),
    "MAX_NUM_SEQS": ("--max-num-seqs",),
    "OPENAI_SERVED_MODEL_NAME_OVERRIDE": ("--served-model-name",),
    "QUANTIZATION": ("--quantization", "-q"),
    "TENSOR_PARALLEL_SIZE": ("--tensor-parallel-size", "-tp"),
}
_YES = ("true", "1", "yes", "on")
_NO = ("false", "0", "no", "off")
_DEFAULT_DRAIN_SECONDS = 30.0
_DEFAULT_CONCURRENCY = 256  # vLLM's own number of sequences on the GPUs that these clouds rent


class ArgumentError(ValueError):
    """A wrong argument or variable; the message names it."""


def complete(arguments: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """Return the arguments with those that only the environment gives; what the arguments say holds.

    Raises:
        ArgumentError: an argument is one of those that the entrypoint keeps for itself, or ENFORCE_EAGER is
        neither yes nor no.
    """
    for name in map(_name, arguments):
        if name in RESERVED:
            raise ArgumentError(
                f"the argument {name} is not taken: set the environment variable {RESERVED[name]}"
            )
    said = {_name(argument) for argument in arguments}
    has_model = "--model" in said or bool(arguments and not arguments[0].startswith("-"))
    model = [] if has_model or not environment.get("MODEL_NAME") else [environment["MODEL_NAME"]]
    found = [
        f"{spellings[0]}={value}"
        for variable, spellings in _VARIABLES.items()
        if (value := environment.get(variable)) and not said.intersection(spellings)
    ]
    if (eager := environment.get("ENFORCE_EAGER", "").lower()) and not said & {
        "--enforce-eager",
        "--no-enforce-eager",
    }:
        if eager not in (*_YES, *_NO):
            raise ArgumentError(f"ENFORCE_EAGER is {eager!r}: it must be one of {', '.join((*_YES, *_NO))}")
        found.append("--enforce-eager" if eager in _YES else "--no-enforce-eager")
    return [*model, *arguments, *found]


def value(arguments: Sequence[str], name: str) -> str | None:
    """Return an argument's value, the last one given, or None."""
    for index in range(len(arguments) - 1, -1, -1):
        if _name(arguments[index]) == name:
            _, equals, given = arguments[index].partition("=")
            if equals:
                return given
            return arguments[index + 1] if index + 1 < len(arguments) else None
    return None


def concurrency(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Return how many jobs a worker may have at once: as many as vLLM runs, unless MAX_CONCURRENCY says.

    Raises:
        ArgumentError: MAX_CONCURRENCY or --max-num-seqs is not a number of 1 or more.
    """
    name, given = "MAX_CONCURRENCY", environment.get("MAX_CONCURRENCY")
    if not given:
        name, given = "--max-num-seqs", value(arguments, "--max-num-seqs") or str(_DEFAULT_CONCURRENCY)
    if not (given.isdecimal() and int(given) >= 1):
        raise ArgumentError(f"{name} is {given!r}: it must be a whole number of 1 or more")
    return int(given)


def drain_seconds(arguments: Sequence[str]) -> float:
    """Return how long the queue door may take to finish its jobs: as long as vLLM may, where that is said.

    Raises:
        ArgumentError: --shutdown-timeout is not a number.
    """
    try:
        return float(value(arguments, "--shutdown-timeout") or _DEFAULT_DRAIN_SECONDS)
    except ValueError as error:
        raise ArgumentError(f"--shutdown-timeout: {error}") from error


def _name(argument: str) -> str:
    """Return an argument's name as vLLM's parser reads it: underscores are hyphens."""
    name = argument.partition("=")[0]
    return name.replace("_", "-") if name.startswith("-") else name
