"""A model's `config.json` -> its architecture.

Counts are those of vLLM 0.32.0's own modules, which a test has it build: a vocabulary is padded to a multiple
of 64, a vision tower or an encoder is there in full, a pooler is not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ops.plan.decoders import Style, decoder, latent_decoder
from ops.plan.encoders import encoder, qwen_vision, whisper

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ops.plan.architecture import Architecture


class UnknownArchitectureError(Exception):
    """The model's parameters cannot be counted; the message says why."""


_LLAMA, _QWEN2 = Style(), Style(qkv_bias=True, output_bias=False)
_QWEN3, _GEMMA = Style(head_norms=True), Style(head_norms=True, norms=4, tied=True)
_FAMILIES: dict[str, Callable[[str, Mapping[str, Any]], Architecture]] = {
    **dict.fromkeys(
        (
            "LlamaForCausalLM",
            "LlamaForSequenceClassification",
            "MistralForCausalLM",
            "Phi3ForCausalLM",
            "MixtralForCausalLM",
        ),
        decoder(_LLAMA),
    ),
    **dict.fromkeys(
        ("Qwen2ForCausalLM", "Qwen2ForSequenceClassification", "Qwen2MoeForCausalLM"), decoder(_QWEN2)
    ),
    **dict.fromkeys(
        ("Qwen3ForCausalLM", "Qwen3ForSequenceClassification", "Qwen3MoeForCausalLM"), decoder(_QWEN3)
    ),
    "Gemma3ForCausalLM": decoder(_GEMMA),
    "Gemma2ForCausalLM": decoder(Style(norms=4, tied=True)),
    "GptOssForCausalLM": decoder(Style(qkv_bias=True, output_bias=True, sinks=True)),
    **dict.fromkeys(("DeepseekV2ForCausalLM", "DeepseekV3ForCausalLM"), latent_decoder),
    **dict.fromkeys(
        (
            "BertModel",
            "BertForSequenceClassification",
            "RobertaModel",
            "RobertaForSequenceClassification",
            "XLMRobertaModel",
            "XLMRobertaForSequenceClassification",
        ),
        encoder,
    ),
    "WhisperForConditionalGeneration": whisper,
    "Qwen2_5_VLForConditionalGeneration": qwen_vision,
}


def of(config: Mapping[str, Any], *, labels: bool = False) -> Architecture:
    """Return the architecture that a `config.json` describes.

    Args:
        config: the parsed file.
        labels: whether the model is served as a classifier whatever its class is.

    Raises:
        UnknownArchitectureError: it names no class that is known here, or a size is missing.
    """
    names = config.get("architectures") or ["none"]
    name = str(names[0])
    count = _FAMILIES.get(name)
    if count is None:
        raise UnknownArchitectureError(
            f"the architecture {name} is not among those that can be counted: {', '.join(sorted(_FAMILIES))}"
        )
    try:
        return count(name, {**config, "classified": labels or name.endswith("SequenceClassification")})
    except KeyError as error:
        raise UnknownArchitectureError(f"the model's config.json has no {error.args[0]}") from None
