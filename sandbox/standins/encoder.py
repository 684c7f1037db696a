"""Makes tiny encoders of the architectures BERT and XLM-RoBERTa with random weights.

They embed texts, or score pairs of them. Texts that share words are nearer to each other than others are;
that is all that they know. Everything is computed from constants, so that every machine gets the same files.
Standard library only.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sandbox.standins import tensors, words

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox.standins.tensors import Noise, Tensor

_HIDDEN, _INTERMEDIATE, _LAYERS, _HEADS = 64, 128, 2, 2  # heads of 32, the fewest that a CPU has
_SEED = 20250102


@dataclass(frozen=True)
class _Architecture:
    """What the two have of their own.

    Args:
        kind: as `model_type` in config.json calls it.
        models: the beginning of its classes' names.
        prefix: of its weights, where something is built on it.
        special: the special tokens: in the order of their numbers, by what each is for.
        pair: how two texts are put together.
        types: how many types of tokens it knows.
        tokens: the longest text, in tokens.
        first_position: the position of a text's first token.
        epsilon: of its normalizations.
    """

    kind: str
    models: str
    prefix: str
    special: dict[str, str]
    pair: str
    types: int
    tokens: int
    first_position: int
    epsilon: float


_BERT = _Architecture(
    kind="bert",
    models="Bert",
    prefix="bert.",
    special={"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"},
    pair="[CLS] $A [SEP] $B [SEP]",
    types=2,
    tokens=512,
    first_position=0,
    epsilon=1e-12,
)
_XLM = _Architecture(
    kind="xlm-roberta",
    models="XLMRoberta",
    prefix="roberta.",
    special={"cls": "<s>", "pad": "<pad>", "sep": "</s>", "unk": "<unk>", "mask": "<mask>"},
    pair="<s> $A </s> </s> $B </s>",
    types=1,
    tokens=8192,
    first_position=2,  # positions are counted from behind the number of the padding token
    epsilon=1e-05,
)


def write_bert_embedder(directory: Path) -> None:
    """Write a BERT whose first token, made to length 1, is a text's vector, as BGE has it."""
    _write_embedder(directory, _BERT)


def write_xlm_embedder(directory: Path) -> None:
    """Write an XLM-RoBERTa that embeds, as BGE-M3 does."""
    _write_embedder(directory, _XLM)


def write_bert_reranker(directory: Path) -> None:
    """Write a BERT that scores a pair of texts."""
    noise = tensors.Noise(_SEED, "F32")
    weights = [
        *_write_files(directory, _BERT, noise, "ForSequenceClassification", _BERT.prefix),
        *_linear(noise, "bert.pooler.dense", _HIDDEN, _HIDDEN),
        *_linear(noise, "classifier", 1, _HIDDEN),
    ]
    tensors.write(directory / "model.safetensors", weights)


def write_xlm_reranker(directory: Path) -> None:
    """Write an XLM-RoBERTa that scores a pair of texts, as BGE's rerankers do."""
    noise = tensors.Noise(_SEED, "F32")
    weights = [
        *_write_files(directory, _XLM, noise, "ForSequenceClassification", _XLM.prefix),
        *_linear(noise, "classifier.dense", _HIDDEN, _HIDDEN),
        *_linear(noise, "classifier.out_proj", 1, _HIDDEN),
    ]
    tensors.write(directory / "model.safetensors", weights)


def _write_embedder(directory: Path, architecture: _Architecture) -> None:
    noise = tensors.Noise(_SEED, "F32")
    weights = [
        *_write_files(directory, architecture, noise, "Model", ""),
        *_linear(noise, "pooler.dense", _HIDDEN, _HIDDEN),
    ]
    tensors.write(directory / "model.safetensors", weights)
    # What says, in the form of sentence-transformers, how hidden states become a text's vector.
    steps = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{step}"}
        for index, (step, path) in enumerate(steps.items())
    ]
    _write_json(directory / "modules.json", modules)
    pooling = {
        "word_embedding_dimension": _HIDDEN,
        "pooling_mode_cls_token": True,
        "pooling_mode_mean_tokens": False,
    }
    _write_json(directory / "1_Pooling" / "config.json", pooling)
    limit = {"max_seq_length": architecture.tokens, "do_lower_case": True}
    _write_json(directory / "sentence_bert_config.json", limit)


def _write_files(
    directory: Path, architecture: _Architecture, noise: Noise, suffix: str, prefix: str
) -> list[Tensor]:
    """Write configuration and tokenizer, and return the weights of the encoder itself.

    Args:
        directory: where to.
        architecture: which of the two.
        noise: where the numbers come from.
        suffix: the end of its class's name.
        prefix: the beginning of the weights' names.
    """
    special = architecture.special
    tokenizer, vocabulary = words.word_pieces(
        tuple(special.values()), architecture.pair, second_type=architecture.types - 1
    )
    positions = architecture.tokens + architecture.first_position
    config = {
        "architectures": [f"{architecture.models}{suffix}"],
        "model_type": architecture.kind,
        "vocab_size": len(vocabulary),
        "hidden_size": _HIDDEN,
        "intermediate_size": _INTERMEDIATE,
        "num_hidden_layers": _LAYERS,
        "num_attention_heads": _HEADS,
        "max_position_embeddings": positions,
        "type_vocab_size": architecture.types,
        "hidden_act": "gelu",
        "layer_norm_eps": architecture.epsilon,
        "pad_token_id": vocabulary[special["pad"]],
        "bos_token_id": vocabulary[special["cls"]],
        "eos_token_id": vocabulary[special["sep"]],
        "position_embedding_type": "absolute",
        "torch_dtype": "float32",
        "id2label": {"0": "LABEL_0"},
        "label2id": {"LABEL_0": 0},
    }
    _write_json(directory / "config.json", config)
    _write_json(directory / "tokenizer.json", tokenizer)
    names = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": special["cls"],
        "eos_token": special["sep"],
        **{f"{name}_token": token for name, token in special.items()},
        "model_max_length": architecture.tokens,
    }
    _write_json(directory / "tokenizer_config.json", names)
    found = [
        noise.tensor(f"{prefix}embeddings.word_embeddings.weight", 1.0, len(vocabulary), _HIDDEN),
        noise.tensor(f"{prefix}embeddings.position_embeddings.weight", 0.1, positions, _HIDDEN),
        noise.tensor(f"{prefix}embeddings.token_type_embeddings.weight", 0.1, architecture.types, _HIDDEN),
        *_norm(noise, f"{prefix}embeddings.LayerNorm"),
    ]
    for index in range(_LAYERS):
        layer = f"{prefix}encoder.layer.{index}"
        for part in ("query", "key", "value"):
            found += _linear(noise, f"{layer}.attention.self.{part}", _HIDDEN, _HIDDEN)
        found += _linear(noise, f"{layer}.attention.output.dense", _HIDDEN, _HIDDEN)
        found += _norm(noise, f"{layer}.attention.output.LayerNorm")
        found += _linear(noise, f"{layer}.intermediate.dense", _INTERMEDIATE, _HIDDEN)
        found += _linear(noise, f"{layer}.output.dense", _HIDDEN, _INTERMEDIATE)
        found += _norm(noise, f"{layer}.output.LayerNorm")
    return found


def _write_json(path: Path, content: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")


def _linear(noise: Noise, name: str, outputs: int, inputs: int) -> list[Tensor]:
    return [
        noise.tensor(f"{name}.weight", inputs**-0.5, outputs, inputs),
        noise.filled(f"{name}.bias", 0.0, outputs),
    ]


def _norm(noise: Noise, name: str) -> list[Tensor]:
    return [noise.filled(f"{name}.weight", 1.0, _HIDDEN), noise.filled(f"{name}.bias", 0.0, _HIDDEN)]
