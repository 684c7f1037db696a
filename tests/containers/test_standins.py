"""The small models that stand in for what no hub gives: which for which, whole, and the same everywhere."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING

import pytest

from sandbox import model
from sandbox.standins import adapter, ctranslate, decoder, encoder, gptq, tensors, vision, words

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

COMMIT = "7ae557604adf67be50417f59c2c2f167def9a775"
WRITERS: dict[str, Callable[[Path], None]] = {
    "chat": decoder.write_chat,
    "classifier": decoder.write_classifier,
    "llama": decoder.write_llama,
    "gptq": decoder.write_llama_gptq,
    "bert": encoder.write_bert_embedder,
    "bert-reranker": encoder.write_bert_reranker,
    "xlm-reranker": encoder.write_xlm_reranker,
    "vision": vision.write,
    "adapter": lambda directory: adapter.write(directory, "a/b", "c/d"),
}


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty cache, and a hub that does not answer."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("BERTH_CACHE_DIR", str(tmp_path / "cache"))


def _header(path: Path) -> dict[str, dict[str, list[int]]]:
    content = path.read_bytes()
    (size,) = struct.unpack_from("<Q", content)
    header: dict[str, dict[str, list[int]]] = json.loads(content[8 : 8 + size])
    del header["__metadata__"]
    assert max(tensor["data_offsets"][1] for tensor in header.values()) == len(content) - 8 - size
    return header


@pytest.mark.parametrize("name", WRITERS)
def test_a_stand_in_is_whole_and_the_same_everywhere(tmp_path: Path, name: str) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        WRITERS[name](tmp_path / folder)
    files = [path for path in sorted((tmp_path / "one").rglob("*")) if path.is_file()]
    for path in files:
        other = tmp_path / "two" / path.relative_to(tmp_path / "one")
        assert path.read_bytes() == other.read_bytes()
    (weights,) = (path for path in files if path.suffix == ".safetensors")
    assert _header(weights)


@pytest.mark.parametrize(
    ("task", "name", "architecture"),
    [
        ("generate", "Qwen/Qwen2.5-7B-Instruct", "Qwen2ForCausalLM"),
        ("generate", "Qwen/Qwen2.5-VL-7B-Instruct", "Qwen2_5_VLForConditionalGeneration"),
        ("generate", "meta-llama/Llama-2-7b-hf", "LlamaForCausalLM"),
        ("classify", "Qwen/Qwen2.5-0.5B", "Qwen2ForSequenceClassification"),
        ("embed", "BAAI/bge-base-en-v1.5", "BertModel"),
        ("embed", "intfloat/multilingual-e5-large", "XLMRobertaModel"),
        ("score", "BAAI/bge-reranker-v2-m3", "XLMRobertaForSequenceClassification"),
        ("score", "cross-encoder/ms-marco-MiniLM-L6-v2", "BertForSequenceClassification"),
    ],
)
def test_the_task_and_the_name_decide_about_the_stand_in(task: str, name: str, architecture: str) -> None:
    folder = model.ensure(name, COMMIT, lambda _: None, task)
    assert json.loads((folder / "config.json").read_text())["architectures"] == [architecture]
    assert model.is_stand_in(folder)


def test_another_task_makes_another_stand_in_of_the_same_model() -> None:
    said: list[str] = []
    for task, architecture in (
        ("classify", "Qwen2ForSequenceClassification"),
        ("generate", "Qwen2ForCausalLM"),
    ):
        folder = model.ensure("Qwen/Qwen2.5-0.5B", COMMIT, said.append, task)
        assert json.loads((folder / "config.json").read_text())["architectures"] == [architecture]
    assert "a tiny Qwen2 classifier with random weights, whose answers mean nothing" in said[0]


def test_a_model_comes_with_its_adapters_and_each_is_another() -> None:
    adapters = {"somebody/one": COMMIT, "somebody/two": COMMIT}
    model.Model("meta-llama/Llama-2-7b-hf", COMMIT, "generate", adapters).ensure(lambda _: None)
    one, two = (model.ensure_adapter(name, COMMIT, "x/y", lambda _: None) for name in adapters)
    assert (one / "adapter_model.safetensors").read_bytes() != (
        two / "adapter_model.safetensors"
    ).read_bytes()
    config = json.loads((one / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "meta-llama/Llama-2-7b-hf"


def test_what_is_served_by_somebody_else_is_not_made() -> None:
    said: list[str] = []
    model.Model("somebody/model", "", "speak", {}).ensure(said.append)
    assert said == []


def test_four_bits_are_near_the_weights_that_they_stand_for() -> None:
    values = tensors.Noise(7).normal(0.1, 2 * 128)
    weight = tensors.Tensor("a_proj.weight", (2, 128), "F16", tensors.packed(values, "F16"))
    packed = {tensor.name: tensor for tensor in gptq.quantised([weight])}
    rows = struct.unpack("<32I", packed["a_proj.qweight"].data)
    scales = struct.unpack("<2e", packed["a_proj.scales"].data)
    for output in range(2):
        for index in range(128):
            level = rows[index // 8 * 2 + output] >> 4 * (index % 8) & 15
            near = (level - 8) * scales[output]
            assert near == pytest.approx(values[output * 128 + index], abs=scales[output] / 2 + 1e-3)


def _ctranslate(name: str, shape: tuple[int, ...], data: bytes, *, version: int = 6, kind: int = 4) -> bytes:
    def text(value: str) -> bytes:
        return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"

    head = struct.pack("<I", version) + text("WhisperSpec") + struct.pack("<II", 3, 1)
    sizes = struct.pack(f"<B{len(shape)}I", len(shape), *shape)
    return head + text(name) + sizes + struct.pack("<BI", kind, len(data)) + data + struct.pack("<I", 0)


def test_a_matrix_of_three_is_taken_apart() -> None:
    content = _ctranslate("encoder/layer_3/self_attention/linear_0/weight", (3, 1), b"q_k_v_")
    found = {tensor.name: tensor for tensor in ctranslate.whisper(content)}
    prefix = "model.encoder.layers.3.self_attn"
    assert {name: tensor.data for name, tensor in found.items()} == {
        f"{prefix}.q_proj.weight": b"q_",
        f"{prefix}.k_proj.weight": b"k_",
        f"{prefix}.v_proj.weight": b"v_",
    }
    assert {tensor.shape for tensor in found.values()} == {(1, 1)}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (_ctranslate("encoder/conv1/bias", (1,), b"ab", version=5), "of CTranslate2's format 5, not 6"),
        (_ctranslate("encoder/conv1/bias", (1,), b"abcd", kind=0), "is not in half precision"),
        (_ctranslate("vocabulary", (1,), b"ab"), "a Whisper has no vocabulary"),
    ],
)
def test_files_of_another_kind_are_refused(content: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        list(ctranslate.whisper(content))


def test_words_are_pieces_with_special_tokens_around_them() -> None:
    tokenizer, vocabulary = words.word_pieces(
        ("[PAD]", "[UNK]", "[CLS]", "[SEP]"), "[CLS] $A [SEP] $B [SEP]", second_type=1
    )
    assert vocabulary["[SEP]"] == 3
    assert "harbour" in vocabulary
    ends = [part.get("SpecialToken", {}).get("id") for part in tokenizer["post_processor"]["single"]]
    assert ends == ["[CLS]", None, "[SEP]"]
    types = [next(iter(part.values()))["type_id"] for part in tokenizer["post_processor"]["pair"]]
    assert types == [0, 0, 0, 1, 1]
