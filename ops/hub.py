"""The listing for RunPod's Hub, `.runpod/hub.json` and `.runpod/tests.json`, from a stack's settings.

The form is that of RunPod's publishing guide: https://docs.runpod.io/hub/publishing-guide. The names of the
inputs are those that the image's entrypoint takes in the place of arguments.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, get_args

from infra import serving
from infra.quantization import Quantization
from infra.settings.model import Dtype
from ops.errors import UsageError
from sandbox.runpod.catalogue import types_of

if TYPE_CHECKING:
    from pathlib import Path

    from infra.settings import RunpodSettings, Settings, Task

_CATEGORIES: dict[Task, str] = {
    "generate": "language",
    "embed": "embedding",
    "score": "embedding",
    "classify": "language",
    "transcribe": "audio",
    "speak": "audio",
}
# vLLM's own default; the entrypoint takes as many jobs at once where it is not told.
_MAX_NUM_SEQS = 256
# The Hub takes a list of versions, no lowest one; these are the ones that RunPod's machines have.
_CUDA_VERSIONS = (*(f"12.{minor}" for minor in range(10)), "13.0")
_GREETING = "Say hello to the harbour in one sentence."


def files(settings: Settings) -> dict[str, str]:
    """Return the texts of the Hub's two files by their names.

    Raises:
        UsageError: the stack has no section `runpod`, or runs what a listing cannot say.
    """
    if settings.runpod is None:
        raise UsageError(f"{settings.file} has no section berth:runpod: the Hub needs its GPUs and its disk")
    if settings.server is not None:
        raise UsageError(f"{settings.file} has a section berth:server: the Hub lists Berth's own image")
    if settings.model.adapters:
        raise UsageError(
            f"{settings.file} has berth:model.adapters: the Hub passes variables, and adapters are arguments"
        )
    documents = {
        "hub.json": _hub(settings, settings.runpod),
        "tests.json": _tests(settings, settings.runpod),
    }
    return {name: json.dumps(document, indent=2) + "\n" for name, document in documents.items()}


def write(settings: Settings, folder: Path) -> list[Path]:
    """Write the Hub's files into a folder, and return their paths.

    Raises:
        UsageError: the stack has no section `runpod`.
    """
    folder.mkdir(exist_ok=True)
    written = []
    for name, text in files(settings).items():
        path = folder / name
        path.write_text(text)
        written.append(path)
    return written


def _hub(settings: Settings, runpod: RunpodSettings) -> dict[str, Any]:
    pools = [*runpod.gpu_pools, *(f"-{name}" for name in runpod.excluded_gpu_types)]
    return {
        "title": "Berth",
        "description": "An open-weights model behind vLLM: OpenAI's API and plain jobs from one queue",
        "type": "serverless",
        "category": _CATEGORIES[settings.model.task],
        "config": {
            "runsOn": "GPU",
            "containerDiskInGb": runpod.disk_gib,
            "gpuCount": settings.gpu_count,
            "gpuIds": ",".join(pools),
            "allowedCudaVersions": _cuda_versions(runpod),
            "env": [
                *({"key": key, "value": value} for key, value in _fixed(settings).items()),
                *({"key": key, "input": value} for key, value in _inputs(settings).items()),
            ],
        },
    }


def _tests(settings: Settings, runpod: RunpodSettings) -> dict[str, Any]:
    gpus = [name for pool in runpod.gpu_pools for name in types_of(pool)]
    values = _fixed(settings) | {
        key: _text(value["default"])
        for key, value in _inputs(settings).items()
        if value.get("default", "") != ""
    }
    return {
        "tests": [
            {
                "name": name,
                "input": given,
                # The first one waits for the image, the weights and the server.
                "timeout": settings.serving.startup_timeout_seconds * 1000,
            }
            for name, given in _test_inputs(settings).items()
        ],
        "config": {
            "gpuTypeId": next(name for name in gpus if name not in runpod.excluded_gpu_types),
            "gpuCount": settings.gpu_count,
            "env": [{"key": key, "value": value} for key, value in values.items()],
            "allowedCudaVersions": _cuda_versions(runpod),
        },
    }


def _fixed(settings: Settings) -> dict[str, str]:
    """Return the variables that nobody is asked for."""
    startup_seconds = str(settings.serving.startup_timeout_seconds)
    return {
        **serving.spec(settings).queue_environment,
        "RUNPOD_INIT_TIMEOUT": startup_seconds,
        "VLLM_ENGINE_READY_TIMEOUT_S": startup_seconds,
        **dict(sorted(settings.serving.environment.items())),
    }


def _inputs(settings: Settings) -> dict[str, dict[str, Any]]:
    """Return what one who deploys from the Hub is asked for, with the stack's values as defaults."""
    model, said = settings.model, settings.serving
    parallel = said.max_num_seqs or _MAX_NUM_SEQS
    return {
        "MODEL_NAME": {
            "name": "Model",
            "type": "huggingface",
            "description": "The model to serve, as organization/name on Hugging Face",
            "default": model.name,
        },
        "OPENAI_SERVED_MODEL_NAME_OVERRIDE": {
            "name": "Served name",
            "type": "string",
            "description": "What requests call the model",
            "default": settings.served_name,
        },
        "HF_TOKEN": {
            "name": "Hugging Face token",
            "type": "string",
            "description": "Opens a model that is not public; leave it empty for one that is",
        },
        "MAX_MODEL_LEN": {
            "name": "Context length",
            "type": "number",
            "description": "Tokens of a prompt and its answer together",
            "min": 1,
            "default": model.max_model_len,
        },
        "GPU_MEMORY_UTILIZATION": {
            "name": "GPU memory",
            "type": "number",
            "description": "The part of each GPU's memory that the server takes, up to 1",
            "min": 0,
            "max": 1,
            "default": said.gpu_memory_utilization,
        },
        "DTYPE": _choice("Number format", "How weights and activations are stored", Dtype, model.dtype),
        "QUANTIZATION": _choice(
            "Quantization",
            "How the weights are quantized; empty takes what the model says of itself",
            Quantization,
            model.quantization or "",
        ),
        "TENSOR_PARALLEL_SIZE": {
            "name": "GPUs for one model",
            "type": "number",
            "description": "Over how many of the worker's GPUs the model is spread",
            "min": 1,
            "default": said.tensor_parallel_size,
            "advanced": True,
        },
        "MAX_NUM_SEQS": {
            "name": "Sequences at once",
            "type": "number",
            "description": "How many sequences the server computes together",
            "min": 1,
            "default": parallel,
            "advanced": True,
        },
        "MAX_CONCURRENCY": {
            "name": "Jobs at once",
            "type": "number",
            "description": "How many jobs one worker takes from the queue at the same time",
            "min": 1,
            "default": parallel,
            "advanced": True,
        },
        "ENFORCE_EAGER": {
            "name": "No CUDA graphs",
            "type": "boolean",
            "description": "Starts sooner and answers slower",
            "default": said.enforce_eager,
            "trueValue": "true",
            "falseValue": "false",
            "advanced": True,
        },
    }


def _choice(name: str, description: str, allowed: Any, default: str) -> dict[str, Any]:
    values = [*([""] if default == "" else []), *get_args(allowed)]
    return {
        "name": name,
        "type": "string",
        "description": description,
        "options": [{"label": value or "none", "value": value} for value in values],
        "default": default,
        "advanced": True,
    }


def _test_inputs(settings: Settings) -> dict[str, dict[str, Any]]:
    """Return one job in the plain dialect of the model's task, and one through OpenAI's routes."""
    name = settings.served_name
    messages = [{"role": "user", "content": _GREETING}]
    pair = {"model": name, "query": "What is a berth?", "documents": ["A place for a ship", "A kind of cake"]}
    of_task: dict[Task, dict[str, dict[str, Any]]] = {
        "generate": {
            "prompt": {"prompt": _GREETING, "max_tokens": 16},
            "openai_route": _openai("/v1/chat/completions", model=name, messages=messages, max_tokens=16),
        },
        "embed": {
            "texts": {"texts": [_GREETING]},
            "openai_route": _openai("/v1/embeddings", model=name, input=[_GREETING]),
        },
        "score": {
            "route": {"route": "/v1/score", "body": {"model": name, "text_1": "ship", "text_2": "boat"}},
            "openai_route": _openai("/v1/rerank", **pair),
        },
        "classify": {
            "prompts": {"prompts": [_GREETING]},
            "openai_route": _openai("/v1/models"),
        },
        # Its input is sound, which does not go into a file of a listing.
        "transcribe": {"openai_route": _openai("/v1/models")},
        "speak": {"openai_route": _openai("/v1/models")},
    }
    return of_task[settings.model.task]


def _openai(route: str, **body: Any) -> dict[str, Any]:
    return {"openai_route": route, **({"openai_input": body} if body else {})}


def _cuda_versions(runpod: RunpodSettings) -> list[str]:
    """Return the versions that will do."""
    if runpod.allowed_cuda_versions:
        return list(runpod.allowed_cuda_versions)

    def number(version: str) -> tuple[int, ...]:
        return tuple(int(part) for part in version.split("."))

    lowest = number(runpod.min_cuda_version)
    return [version for version in _CUDA_VERSIONS if number(version) >= lowest] or [runpod.min_cuda_version]


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
