"""The section `model` of a stack file: which model is served, as what, and what belongs to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from infra.quantization import NEEDS, Quantization
from infra.settings.vocabulary import (
    Allowed,
    CommitId,
    Flag,
    HostNames,
    ModelName,
    Positive,
    Section,
    ServedName,
    Tokens,
)

Task = Literal["generate", "embed", "score", "classify", "transcribe", "speak"]
Dtype = Literal["auto", "bfloat16", "float16", "float32"]

_POOLING_TASKS = ("embed", "score", "classify")


class AdapterSettings(Section):
    """A LoRA adapter of the model: its repository on the hub, and the commit."""

    name: ModelName
    revision: CommitId


class PoolingSettings(Section):
    """How the vectors of a text's tokens become one, as the model's card says."""

    type: Literal["CLS", "LAST", "MEAN"] | None = Field(default=None, description="else what the model says")
    normalize: Flag | None = Field(
        default=None, description="vectors of length 1; else what the model says. Of embeddings only"
    )


class ModelSettings(Section):
    """Which model is served, and as what."""

    name: ModelName
    # Empty in a stack whose section `server` serves it: that one's arguments say what it loads.
    revision: CommitId = ""
    max_model_len: Tokens = 0
    served_name: ServedName | None = Field(
        default=None, description="the model's name in requests; else `name`"
    )
    task: Task = "generate"
    weights: Literal["hub", "image"] = Field(
        default="hub", description="where servers take them from: the hub at every start, or the image"
    )
    dtype: Dtype = "auto"
    quantization: Quantization | None = None
    trust_remote_code: Flag = False
    adapters: Annotated[
        Mapping[ServedName, AdapterSettings],
        Allowed("a mapping of names, as requests have them, to adapters with name and revision"),
    ] = Field(default_factory=dict)
    max_lora_rank: Literal[1, 8, 16, 32, 64, 128, 256, 320, 512] | None = Field(
        default=None, description="the highest rank of the adapters; else vLLM's 16"
    )
    pooling: PoolingSettings = PoolingSettings()
    query_instruction: (
        Annotated[str, Field(min_length=1), Allowed("the text that comes before a query")] | None
    ) = Field(
        default=None,
        description="what a retrieval model wants before a query; documents are embedded without it",
    )
    allowed_media_hosts: HostNames = Field(
        default=(), description="hosts whose images and sounds are fetched; empty: only base64 is taken"
    )
    max_images_per_prompt: Positive | None = None

    @property
    def request_names(self) -> tuple[str, ...]:
        """What requests may call: the model, then each of its adapters."""
        return (self.served_name or self.name, *self.adapters)

    def problems(self) -> list[tuple[str, str]]:
        """Return what vLLM has no kernels for, and what does not go with the task."""
        return [*self._format_problems(), *self._adapter_problems(), *self._task_problems()]

    def _format_problems(self) -> list[tuple[str, str]]:
        if self.quantization is None or self.dtype == "auto":
            return []
        dtypes = NEEDS[self.quantization].dtypes
        if self.dtype in dtypes:
            return []
        return [
            (
                "dtype",
                (
                    f'"{self.dtype}" does not go with quantization "{self.quantization}": '
                    f'use "auto" or {" or ".join(f"{name!r}" for name in dtypes)}'
                ).replace("'", '"'),
            )
        ]

    def _adapter_problems(self) -> list[tuple[str, str]]:
        found = [
            (f"adapters.{name}", "is the name of the model itself: requests could not tell them apart")
            for name in self.adapters
            if name in (self.served_name or self.name, self.name)
        ]
        if self.adapters and self.weights == "image":
            found.append(
                ("adapters", 'go with weights "hub" only: a server with weights in its image asks no hub')
            )
        if self.max_lora_rank is not None and not self.adapters:
            found.append(("max_lora_rank", "goes with adapters only"))
        return found

    def _task_problems(self) -> list[tuple[str, str]]:
        found = []
        if self.pooling.type is not None and self.task not in _POOLING_TASKS:
            found.append(
                (
                    "pooling.type",
                    f'does not go with task "{self.task}": must be one of {", ".join(_POOLING_TASKS)}',
                )
            )
        of_embeddings = {
            "pooling.normalize": self.pooling.normalize is not None,
            "query_instruction": self.query_instruction is not None,
        }
        found += [
            (key, f'goes with task "embed" only, not with "{self.task}"')
            for key, is_set in of_embeddings.items()
            if is_set and self.task != "embed"
        ]
        return found
