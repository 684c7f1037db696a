"""Text of real servers: a base model with two adapters, and a quantised one, by the routes and by jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sandbox import model as models
from sandbox.standins import tensors
from tests.models.measured import REQUESTS, measured

if TYPE_CHECKING:
    from tests.models.conftest import Start
    from tests.models.served import Served

pytestmark = pytest.mark.e2e

MESSAGES = [{"role": "user", "content": "Which ship looks for a berth?"}]
PROMPT = "The ship comes in from the sea and"
# Tokens without chance, and as many of them every time.
EXACT: dict[str, Any] = {"temperature": 0, "max_tokens": 16, "min_tokens": 16, "ignore_eos": True}


@pytest.fixture(scope="module")
def base(start: Start) -> Served:
    """A base model and its adapters."""
    return start("multi-lora").ready()


@pytest.fixture(scope="module")
def quantised(start: Start) -> Served:
    """A model that chats, in 4 bits."""
    return start("codellama-34b").ready()


def _completed(served: Served, **more: Any) -> str:
    text: str = served.ask("/v1/completions", prompt=PROMPT, **EXACT, **more)["choices"][0]["text"]
    return text


def _answered(served: Served) -> str:
    answer = served.ask("/v1/chat/completions", messages=MESSAGES, **EXACT)
    text: str = answer["choices"][0]["message"]["content"]
    return text


def test_each_adapter_answers_by_its_name_and_unlike_the_others(base: Served) -> None:
    names = [entry["id"] for entry in base.http.get("/v1/models").json()["data"]]
    assert names == [base.name, "sql", "tweet-summary"]
    texts = {name: _completed(base, model=name) for name in names}
    assert len(set(texts.values())) == 3, texts
    for name in names:
        assert base.job(prompt=PROMPT, model=name, **EXACT)["response"] == texts[name]


def test_a_name_that_nobody_has_is_refused_by_vllm(base: Served) -> None:
    status, message = base.refusal("/v1/completions", prompt=PROMPT, model="somebody-elses")
    assert status == 404
    assert "`somebody-elses` does not exist" in message
    assert base.job_error(prompt=PROMPT, model="somebody-elses") == (status, message)


def test_an_adapter_of_another_base_ends_the_start_with_vllms_reason(start: Start) -> None:
    name, revision = "somebody/of-another-base", "0123456789abcdef0123456789abcdef01234567"
    folder = models.ensure_adapter(name, revision, "somebody/another-base", print)
    # For a base whose hidden states are twice as wide.
    noise, part = tensors.Noise(1, "F32"), "base_model.model.model.layers.0.self_attn.q_proj"
    weights = [
        noise.tensor(f"{part}.lora_A.weight", 1, 8, 256),
        noise.tensor(f"{part}.lora_B.weight", 1, 256, 8),
    ]
    tensors.write(folder / "adapter_model.safetensors", weights)
    reason = start("multi-lora", adapters={"stray": {"name": name, "revision": revision}}).reason()
    assert "add_lora" in reason
    assert "(128) must match the size of tensor b (256)" in reason


def test_weights_of_four_bits_are_computed_with(quantised: Served) -> None:
    assert "CPUWNA16LinearKernel" in quantised.log  # of vLLM, for weights of 4 bits on a CPU


def test_messages_and_prompts_get_the_same_text_by_route_and_by_job(quantised: Served) -> None:
    output = quantised.job(messages=MESSAGES, **EXACT)
    assert output["response"] == _answered(quantised) != ""
    assert output["usage"]["completion_tokens"] == 16
    completed = _completed(quantised)
    output = quantised.job(prompt=PROMPT, **EXACT)
    assert output["response"] == output["choices"][0]["message"]["content"] == completed
    # What TGI's clients read.
    assert output["details"] == {"finish_reason": "length", "generated_tokens": 16}
    assert quantised.job(prompts=[PROMPT, PROMPT], **EXACT)["responses"] == [completed, completed]


def test_tokens_that_are_streamed_are_those_of_the_whole(quantised: Served) -> None:
    pieces = quantised.job(messages=MESSAGES, stream=True, **EXACT)
    assert "".join(piece["token"] for piece in pieces) == _answered(quantised)
    assert [piece["finished"] for piece in pieces] == [False] * (len(pieces) - 1) + [True]


def test_a_prompt_longer_than_the_model_is_refused_by_vllm(quantised: Served) -> None:
    text = "ship " * 5000
    status, message = quantised.refusal("/v1/completions", prompt=text, max_tokens=1)
    assert status == 400
    assert "2048 tokens" in message
    assert quantised.job_error(prompt=text, max_tokens=1) == (status, message)


def test_what_a_decoder_cannot_do_is_refused_by_vllm(quantised: Served) -> None:
    assert quantised.job_error(texts=["a"]) == (
        404,
        "vLLM serves no /v1/embeddings for this endpoint's model",
    )
    status, message = quantised.job_error(image="https://example.com/a.png", prompt="What is it?")
    assert status == 400
    assert "is not a multimodal model" in message


def test_bench_gets_as_many_tokens_as_it_asks_for(base: Served) -> None:
    row = measured(base, "generate", prompt_tokens=(16, 200), output_tokens=12)
    assert (row["input_tokens"], row["output_tokens"]) == (REQUESTS // 2 * (16 + 200), REQUESTS * 12)
    assert 0 < row["ttft_ms"]["p50"] < row["e2e_ms"]["p50"]
