"""Makes a tiny language model of Qwen2's architecture with random weights: a stand-in where no model hub
answers.

It is loaded, served, batched and refused by vLLM as the real one is; what it says is made up of words at
random. Everything is computed from constants, so that every machine gets the same files. Standard library
only.
"""

from __future__ import annotations

import json
import random
import struct
from array import array
from typing import TYPE_CHECKING

from sandbox import bpe

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# What the vocabulary is learned from, and so the words the model speaks in.
_TEXT = """
A ship comes in from the sea and looks for a berth. The harbour is wide, the water is calm, and the wind comes
from the south. The pilot knows the way; the crew makes the lines ready. Slowly the ship turns, and the
engines run back until she lies still at the quay. Now the work begins: the hatches are opened, the cranes
swing over, and box after box goes ashore. Some go by road and some by rail, each to the place that is written
on it. When the holds are empty they are filled again, and the mate counts what comes aboard, because a ship
that is loaded badly will not ride well in heavy weather. At night the lamps burn along the quay, and the
watch walks up and down. In the morning the tide is high, the lines are let go, and the ship leaves the berth
to the next one. Nothing of hers is left behind but a little oil on the water, and that is gone by noon. The
harbour master writes it in his book: the name, the day, the hour, what she brought and what she took away.
There are two harbours on this coast, and the same ship may call at either of them with the same cargo and the
same papers. That is a good thing for the owner, who need not care which one has room today. You can ask me a
question and I will answer with a few words. Hello! Yes, I am here. No, I do not know that. One, two, three,
four, five, six, seven, eight, nine and ten. What is the name of the model? It is a small model, made on this
machine to stand in for a large one. It speaks of ships, of water and of wind, and it does not know what it
says. Thank you, and good day.
"""
_MERGES = 600
_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_CHAT_TEMPLATE = (
    "{%- if messages[0]['role'] != 'system' -%}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "{%- endif -%}"
    "{%- for message in messages -%}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"
)
_HIDDEN, _INTERMEDIATE, _LAYERS, _HEADS, _KEY_VALUE_HEADS, _HEAD = 128, 256, 2, 2, 1, 64
# As the real Qwen2.5-0.5B-Instruct has it, so that a length that does not fit is refused alike.
_MAX_POSITIONS = 32768
# The first coordinate of every hidden state is nearly this constant, which makes the first column of the
# output layer a bias: no bytes that are not text, and an end after a few dozen tokens.
_CONSTANT = 4.0
_BIAS_NOT_TEXT, _BIAS_END = -8.0, 0.6


def write(directory: Path, name: str) -> None:
    """Write configuration, weights and tokenizer of the stand-in for a model of that name."""
    merges = bpe.learn(_TEXT, _MERGES)
    tokens = [*bpe.byte_alphabet().values(), *(left + right for left, right in merges)]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    special = {token: len(vocabulary) + index for index, token in enumerate(_SPECIAL)}
    size = len(vocabulary) + len(special)
    files = {
        "config.json": _config(size, special),
        "generation_config.json": {
            "bos_token_id": special["<|endoftext|>"],
            "eos_token_id": [special["<|im_end|>"], special["<|endoftext|>"]],
            "pad_token_id": special["<|endoftext|>"],
            "do_sample": True,
            "temperature": 0.7,
            "top_p": 0.8,
        },
        "tokenizer.json": _tokenizer(vocabulary, special, merges),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "chat_template": _CHAT_TEMPLATE,
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
            "model_max_length": _MAX_POSITIONS,
            "clean_up_tokenization_spaces": False,
        },
    }
    for file, content in files.items():
        (directory / file).write_text(json.dumps(content, indent=1) + "\n")
    (directory / "README.md").write_text(
        f"A stand-in for {name}: same architecture, tiny, random weights. Made by Berth's sandbox.\n"
    )
    _write_weights(directory / "model.safetensors", vocabulary, special)


def _config(vocabulary_size: int, special: dict[str, int]) -> dict[str, object]:
    return {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "vocab_size": vocabulary_size,
        "hidden_size": _HIDDEN,
        "intermediate_size": _INTERMEDIATE,
        "num_hidden_layers": _LAYERS,
        "num_attention_heads": _HEADS,
        "num_key_value_heads": _KEY_VALUE_HEADS,
        "max_position_embeddings": _MAX_POSITIONS,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-06,
        "rope_theta": 1000000.0,
        "tie_word_embeddings": False,
        "use_sliding_window": False,
        "torch_dtype": "bfloat16",
        "bos_token_id": special["<|endoftext|>"],
        "eos_token_id": special["<|im_end|>"],
    }


def _tokenizer(
    vocabulary: dict[str, int], special: dict[str, int], merges: list[tuple[str, str]]
) -> dict[str, object]:
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": index,
                "content": token,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for token, index in special.items()
        ],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {
            "type": "ByteLevel",
            "add_prefix_space": False,
            "trim_offsets": False,
            "use_regex": True,
        },
        "post_processor": {
            "type": "ByteLevel",
            "add_prefix_space": False,
            "trim_offsets": False,
            "use_regex": True,
        },
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": vocabulary,
            "merges": [list(pair) for pair in merges],
        },
    }


def _write_weights(path: Path, vocabulary: dict[str, int], special: dict[str, int]) -> None:
    generator = random.Random(20250101)  # noqa: S311  # repeatable noise, nothing secret

    def noise(scale: float) -> Callable[[int, int], float]:
        return lambda _row, _column: generator.gauss(0.0, scale)

    def embedding(_row: int, column: int) -> float:
        return _CONSTANT if column == 0 else generator.gauss(0.0, 1.0)

    not_text = {index for token, index in vocabulary.items() if len(token) == 1 and not "!" <= token <= "z"}
    not_text |= {special["<|endoftext|>"], special["<|im_start|>"]}

    def output(row: int, column: int) -> float:
        if column:
            return generator.gauss(0.0, 0.12)
        if row == special["<|im_end|>"]:
            return _BIAS_END
        return _BIAS_NOT_TEXT if row in not_text else 0.0

    size = len(vocabulary) + len(special)
    key_value = _KEY_VALUE_HEADS * _HEAD
    tensors: list[tuple[str, tuple[int, ...], Callable[[int, int], float]]] = [
        ("model.embed_tokens.weight", (size, _HIDDEN), embedding),
        ("model.norm.weight", (_HIDDEN,), lambda _row, _column: 1.0),
        ("lm_head.weight", (size, _HIDDEN), output),
    ]
    for layer in range(_LAYERS):
        prefix = f"model.layers.{layer}"
        tensors += [
            (f"{prefix}.{norm}.weight", (_HIDDEN,), lambda _row, _column: 1.0)
            for norm in ("input_layernorm", "post_attention_layernorm")
        ]
        for part, rows in (("q", _HEADS * _HEAD), ("k", key_value), ("v", key_value)):
            tensors.append((f"{prefix}.self_attn.{part}_proj.weight", (rows, _HIDDEN), noise(0.08)))
            tensors.append((f"{prefix}.self_attn.{part}_proj.bias", (rows,), lambda _row, _column: 0.0))
        tensors += [
            (f"{prefix}.self_attn.o_proj.weight", (_HIDDEN, _HEADS * _HEAD), noise(0.05)),
            (f"{prefix}.mlp.gate_proj.weight", (_INTERMEDIATE, _HIDDEN), noise(0.08)),
            (f"{prefix}.mlp.up_proj.weight", (_INTERMEDIATE, _HIDDEN), noise(0.08)),
            (f"{prefix}.mlp.down_proj.weight", (_HIDDEN, _INTERMEDIATE), noise(0.05)),
        ]
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    body = bytearray()
    for tensor, shape, value in tensors:
        start = len(body)
        rows, columns = shape[0], shape[1] if len(shape) == 2 else 1
        body += _bfloat16([value(row, column) for row in range(rows) for column in range(columns)])
        header[tensor] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [start, len(body)]}
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + body)


def _bfloat16(values: list[float]) -> bytes:
    """Return the upper halves of the values as 32-bit numbers, which is what bfloat16 is."""
    halves = array("H")
    halves.frombytes(array("f", values).tobytes())
    return halves[1::2].tobytes()
