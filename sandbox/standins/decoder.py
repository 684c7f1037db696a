"""Makes tiny decoders of the architectures Qwen2 and Llama with random weights.

They are loaded, served, batched and refused by vLLM as the real ones are; what they say is made up of words
at random. Everything is computed from constants, so that every machine gets the same files. Standard library
only.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sandbox.standins import gptq, tensors, words

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from sandbox.standins.tensors import Noise, Tensor

HIDDEN, INTERMEDIATE, LAYERS, HEADS, KEY_VALUE_HEADS, HEAD = 128, 256, 2, 2, 1, 64
LABELS = 3
# As the real Qwen2.5-0.5B-Instruct has it, so that a length that does not fit is refused alike.
MAX_POSITIONS = 32768
END, START_OF_TURN, END_OF_TURN = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
_SEED = 20250101
# The first coordinate of every hidden state is nearly this constant, which makes the first column of the
# output layer a bias: no bytes that are not text, and an end after a few dozen tokens.
_CONSTANT = 4.0
_BIAS_NOT_TEXT, _BIAS_END = -8.0, 0.6
_TEXT_CONTENT = "{{ message['content'] }}"
_TURNS = (
    "{%- if messages[0]['role'] != 'system' -%}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "{%- endif -%}"
    "{%- for message in messages -%}"
    "{{ '<|im_start|>' + message['role'] + '\n' }}CONTENT{{ '<|im_end|>\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"
)


def write_chat(directory: Path) -> None:
    """Write a Qwen2 that chats."""
    tokenizer, vocabulary = words.byte_pairs((END, START_OF_TURN, END_OF_TURN))
    write_files(directory, qwen2_config(vocabulary), tokenizer, vocabulary, chat_template(_TEXT_CONTENT))
    noise = tensors.Noise(_SEED)
    tensors.write(
        directory / "model.safetensors", [*body(noise, vocabulary), output_layer(noise, vocabulary)]
    )


def write_classifier(directory: Path) -> None:
    """Write a Qwen2 that tells three classes apart, by nothing."""
    tokenizer, vocabulary = words.byte_pairs((END, START_OF_TURN, END_OF_TURN))
    labels = {str(index): f"LABEL_{index}" for index in range(LABELS)}
    config = qwen2_config(vocabulary) | {
        "architectures": ["Qwen2ForSequenceClassification"],
        "id2label": labels,
        "label2id": {label: int(index) for index, label in labels.items()},
        "pad_token_id": vocabulary[END],
    }
    write_files(directory, config, tokenizer, vocabulary, chat_template(_TEXT_CONTENT))
    noise = tensors.Noise(_SEED)
    score = noise.tensor("score.weight", 0.12, LABELS, HIDDEN)
    tensors.write(directory / "model.safetensors", [*body(noise, vocabulary), score])


def write_llama(directory: Path) -> None:
    """Write a Llama that completes text."""
    _write_llama(directory, quantised=False)


def write_llama_gptq(directory: Path) -> None:
    """Write a Llama whose layers are quantised to 4 bits as GPTQ does it."""
    _write_llama(directory, quantised=True)


def chat_template(content: str) -> str:
    """Return the chat template of the Qwen models.

    Args:
        content: the part of the template that writes the content of `message`.
    """
    return _TURNS.replace("CONTENT", content)


def qwen2_config(vocabulary: Mapping[str, int]) -> dict[str, Any]:
    """Return the configuration of a Qwen2 that chats."""
    return {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        **_sizes(vocabulary),
        "rope_theta": 1000000.0,
        "use_sliding_window": False,
        "torch_dtype": "bfloat16",
        "bos_token_id": vocabulary[END],
        "eos_token_id": vocabulary[END_OF_TURN],
    }


def write_files(
    directory: Path,
    config: dict[str, Any],
    tokenizer: dict[str, Any],
    vocabulary: Mapping[str, int],
    template: str | None,
) -> None:
    """Write all but the weights."""
    end_of_turn = END_OF_TURN if template else END
    files: dict[str, dict[str, Any]] = {
        "config.json": config,
        "generation_config.json": {
            "bos_token_id": vocabulary[END],
            "eos_token_id": sorted({vocabulary[END], vocabulary[end_of_turn]}, reverse=True),
            "pad_token_id": vocabulary[END],
            "do_sample": True,
            "temperature": 0.7,
            "top_p": 0.8,
        },
        "tokenizer.json": tokenizer,
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            **({"chat_template": template} if template else {}),
            "eos_token": end_of_turn,
            "pad_token": END,
            "model_max_length": config["max_position_embeddings"],
            "clean_up_tokenization_spaces": False,
        },
    }
    for file, content in files.items():
        (directory / file).write_text(json.dumps(content, indent=1) + "\n")


def body(noise: Noise, vocabulary: Mapping[str, int], *, bias: bool = True) -> list[Tensor]:
    """Return the weights of a decoder but for what is made of its last hidden state.

    Args:
        noise: where the numbers come from.
        vocabulary: the tokens.
        bias: whether queries, keys and values have a bias, as Qwen2's have and Llama's have not.
    """
    size = len(vocabulary)
    embedding: list[float] = []
    for _ in range(size):
        embedding += [_CONSTANT, *noise.normal(1.0, HIDDEN - 1)]
    found = [
        noise.of("model.embed_tokens.weight", embedding, size, HIDDEN),
        noise.filled("model.norm.weight", 1.0, HIDDEN),
    ]
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}"
        found += [
            noise.filled(f"{prefix}.{norm}.weight", 1.0, HIDDEN)
            for norm in ("input_layernorm", "post_attention_layernorm")
        ]
        for part, heads in (("q", HEADS), ("k", KEY_VALUE_HEADS), ("v", KEY_VALUE_HEADS)):
            name = f"{prefix}.self_attn.{part}_proj"
            found.append(noise.tensor(f"{name}.weight", 0.08, heads * HEAD, HIDDEN))
            if bias:
                found.append(noise.filled(f"{name}.bias", 0.0, heads * HEAD))
        found += [
            noise.tensor(f"{prefix}.self_attn.o_proj.weight", 0.05, HIDDEN, HEADS * HEAD),
            noise.tensor(f"{prefix}.mlp.gate_proj.weight", 0.08, INTERMEDIATE, HIDDEN),
            noise.tensor(f"{prefix}.mlp.up_proj.weight", 0.08, INTERMEDIATE, HIDDEN),
            noise.tensor(f"{prefix}.mlp.down_proj.weight", 0.05, HIDDEN, INTERMEDIATE),
        ]
    return found


def output_layer(noise: Noise, vocabulary: Mapping[str, int]) -> Tensor:
    """Return the layer that scores the tokens, which prefers text and comes to an end."""
    values: list[float] = []
    for token in vocabulary:
        if token in (END_OF_TURN, END):
            first = (
                _BIAS_END if token == (END_OF_TURN if END_OF_TURN in vocabulary else END) else _BIAS_NOT_TEXT
            )
        elif token.startswith("<|") or (len(token) == 1 and not "!" <= token <= "z"):
            first = _BIAS_NOT_TEXT
        else:
            first = 0.0
        values += [first, *noise.normal(0.12, HIDDEN - 1)]
    return noise.of("lm_head.weight", values, len(vocabulary), HIDDEN)


def _write_llama(directory: Path, *, quantised: bool) -> None:
    # As of the models that are met in these forms: the plain one completes, the quantised one is instructed.
    special = (END, START_OF_TURN, END_OF_TURN) if quantised else (END,)
    tokenizer, vocabulary = words.byte_pairs(special)
    dtype = "float16" if quantised else "bfloat16"
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        **_sizes(vocabulary),
        "attention_bias": False,
        "rope_theta": 1000000.0,
        "torch_dtype": dtype,
        "bos_token_id": vocabulary[END],
        "eos_token_id": vocabulary[special[-1]],
        **({"quantization_config": gptq.CONFIG} if quantised else {}),
    }
    template = chat_template(_TEXT_CONTENT) if quantised else None
    write_files(directory, config, tokenizer, vocabulary, template)
    noise = tensors.Noise(_SEED, "F16" if quantised else "BF16")
    weights = [*body(noise, vocabulary, bias=False), output_layer(noise, vocabulary)]
    tensors.write(directory / "model.safetensors", gptq.quantised(weights) if quantised else weights)


def _sizes(vocabulary: Mapping[str, int]) -> dict[str, Any]:
    return {
        "vocab_size": len(vocabulary),
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KEY_VALUE_HEADS,
        "max_position_embeddings": MAX_POSITIONS,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-06,
        "tie_word_embeddings": False,
    }
