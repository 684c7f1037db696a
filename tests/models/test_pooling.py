"""Embeddings, scores and classes of real servers: the same numbers by the routes and by jobs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from sandbox.standins import packaged
from tests.models.measured import REQUESTS, job_of, measured

if TYPE_CHECKING:
    from infra.settings import Task
    from tests.models.conftest import Start
    from tests.models.served import Served

pytestmark = pytest.mark.e2e

COMMIT = "1110a243fdf4706b3f48f1d95db1a4f5529b4d41"
SENTENCES = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
# Of all-MiniLM-L6-v2, as the documentation of sentence-transformers prints them ("Quickstart").
SIMILARITIES = {(0, 1): 0.6660, (0, 2): 0.1046, (1, 2): 0.1411}
QUERY = "What looks for a berth?"
DOCUMENTS = ["A ship comes in from the sea.", "The wind comes from the south.", "Two harbours are here."]


@pytest.fixture(scope="module")
def embedder(start: Start) -> Served:
    """A real small embedding model, under the settings of the stack file but for its own pooling."""
    pooling = {"type": "MEAN", "normalize": True}
    return start(
        "embeddings", name=packaged.MINILM, revision=COMMIT, max_model_len=256, pooling=pooling
    ).ready()


def _product(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def _vectors(embedder: Served, texts: list[str]) -> list[list[float]]:
    data = embedder.ask("/v1/embeddings", input=texts)["data"]
    return [item["embedding"] for item in data]


def test_a_known_pair_has_its_known_similarity(embedder: Served) -> None:
    vectors = _vectors(embedder, SENTENCES)
    for (one, other), similarity in SIMILARITIES.items():
        assert _product(vectors[one], vectors[other]) == pytest.approx(similarity, abs=1e-3)


def test_embeddings_are_the_same_by_route_and_by_job(embedder: Served) -> None:
    output = embedder.job(texts=SENTENCES, instruction="")
    assert output["embeddings"] == [
        pytest.approx(vector, abs=1e-5) for vector in _vectors(embedder, SENTENCES)
    ]
    assert (output["model"], output["dimensions"], output["count"]) == (embedder.name, 384, 3)
    one_by_one = embedder.job(texts=SENTENCES, instruction="", batch_size=1)
    assert one_by_one["embeddings"] == [pytest.approx(vector, abs=1e-5) for vector in output["embeddings"]]


def test_a_query_gets_the_instruction_of_the_stack_unless_it_says_one(embedder: Served) -> None:
    instruction = "Represent this sentence for searching relevant passages: "
    (told,) = _vectors(embedder, [instruction + QUERY])
    (plain,) = _vectors(embedder, [QUERY])
    assert embedder.job(text=QUERY)["embeddings"][0] == pytest.approx(told, abs=1e-5)
    assert embedder.job(text=QUERY, instruction="")["embeddings"][0] == pytest.approx(plain, abs=1e-5)
    assert _product(told, plain) < 0.99


def test_vectors_are_as_long_as_is_asked(embedder: Served) -> None:
    (normal,) = embedder.job(text=QUERY)["embeddings"]
    (raw,) = embedder.job(text=QUERY, normalize=False)["embeddings"]
    assert math.hypot(*normal) == pytest.approx(1, abs=1e-3)
    assert math.hypot(*raw) > 2
    assert [value / math.hypot(*raw) for value in raw] == pytest.approx(normal, abs=1e-4)


def test_what_an_embedder_cannot_do_is_refused_by_vllm(embedder: Served) -> None:
    status, message = embedder.job_error(messages=[{"role": "user", "content": "hello"}])
    assert status == 404
    assert "vLLM serves no /v1/chat/completions for this endpoint's model" in message
    assert embedder.refusal("/v1/chat/completions", messages=[]) == (404, "Not Found")


def test_a_text_longer_than_the_model_is_refused_by_vllm(embedder: Served) -> None:
    text = "harbour " * 400
    status, message = embedder.refusal("/v1/embeddings", input=text)
    assert status == 400
    assert "maximum context length" in message
    assert embedder.job_error(text=text, instruction="") == (status, message)


@pytest.fixture(scope="module")
def classifier(start: Start) -> Served:
    return start("intent-classifier").ready()


def test_probabilities_are_the_same_by_route_and_by_job(classifier: Served) -> None:
    data = classifier.ask("/classify", input=DOCUMENTS)["data"]
    expected = [item["probs"] for item in data]
    assert all(sum(probabilities) == pytest.approx(1, abs=1e-3) for probabilities in expected)
    assert expected[0] != pytest.approx(expected[1], abs=1e-3)
    output = classifier.job(prompts=DOCUMENTS)
    assert output["probabilities"] == [pytest.approx(probabilities, abs=1e-5) for probabilities in expected]
    assert classifier.job(prompts=DOCUMENTS[0])["probabilities"][0] == pytest.approx(expected[0], abs=1e-5)
    assert classifier.job(prompt=DOCUMENTS[0])["probabilities"][0] == pytest.approx(expected[0], abs=1e-5)


def test_inputs_that_are_no_prompts_are_told_apart(classifier: Served) -> None:
    assert "input is empty" in classifier.job_error()[1]
    assert "input.prompts is empty" in classifier.job_error(prompts=[])[1]
    assert "input.prompts[1] must be a string, not" in classifier.job_error(prompts=["a", 7])[1]


@pytest.fixture(scope="module")
def reranker(start: Start) -> Served:
    return start("reranker").ready()


def test_scores_are_the_same_by_route_and_by_job(reranker: Served) -> None:
    body = {"model": reranker.name, "text_1": QUERY, "text_2": DOCUMENTS}
    scores = [item["score"] for item in reranker.ask("/v1/score", **body)["data"]]
    assert len({round(score, 4) for score in scores}) == len(DOCUMENTS)
    (output,) = reranker.job(route="/v1/score", body=body)
    assert [item["score"] for item in output["data"]] == pytest.approx(scores, abs=1e-5)


def test_the_order_is_that_of_the_scores(reranker: Served) -> None:
    scored = reranker.ask("/v1/score", text_1=QUERY, text_2=DOCUMENTS)["data"]
    best = sorted(scored, key=lambda item: -item["score"])
    body = {"model": reranker.name, "query": QUERY, "documents": DOCUMENTS, "top_n": 2}
    results = reranker.ask("/v1/rerank", **body)["results"]
    assert [item["index"] for item in results] == [item["index"] for item in best[:2]]
    assert [item["relevance_score"] for item in results] == pytest.approx(
        [item["score"] for item in best[:2]], abs=1e-5
    )
    (output,) = reranker.job(route="/v1/rerank", body=body)
    assert [item["index"] for item in output["results"]] == [item["index"] for item in results]


def test_bench_gets_batches_of_exactly_so_many_tokens(
    embedder: Served, classifier: Served, reranker: Served
) -> None:
    asked: list[tuple[Served, Task]] = [(embedder, "embed"), (classifier, "classify"), (reranker, "score")]
    for served, task in asked:
        row = measured(served, task, prompt_tokens=(48,), batch_size=5)
        assert row["input_tokens"] == REQUESTS * 5 * 48, task
    [output] = classifier.job(**job_of(classifier, "classify", prompt_tokens=(48,), batch_size=5))
    assert (len(output["data"]), output["usage"]["prompt_tokens"]) == (5, 5 * 48)
