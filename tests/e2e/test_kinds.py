"""Every kind of model that a stack file serves, one after the other on one cluster, asked on both clouds."""

from __future__ import annotations

import base64
import io
import json
import wave
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.containers.conftest import wait_for
from tests.e2e.custom_image import SpeechImage
from tests.models import kinds, speech

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.e2e.conftest import Clone

pytestmark = pytest.mark.e2e

PROMPT = "The ship comes in from the sea and"
EXACT: dict[str, Any] = {"temperature": 0, "max_tokens": 8, "min_tokens": 8, "ignore_eos": True}
TEXTS = ["A ship comes in from the sea.", "The wind comes from the south."]
QUERY = "What looks for a berth?"
SAID = "The ship comes into the harbor in the morning."
# A PNG of one red dot.
DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
_TIMEOUT_SECONDS = 300.0  # a worker starts from zero, on a machine that may be busy


@dataclass(frozen=True)
class Endpoint:
    """One of a stack's endpoints, with what opens it."""

    url: str
    jobs: str | None
    headers: dict[str, str]

    def send(self, route: str, **request: Any) -> httpx.Response:
        """Return what a route answers."""
        url = self.url.removesuffix("/v1") + route
        answer = httpx.post(url, headers=self.headers, timeout=_TIMEOUT_SECONDS, **request)
        assert answer.status_code == 200, answer.text
        return answer

    def post(self, route: str, **request: Any) -> Any:
        """Return the JSON that a route answers."""
        return self.send(route, **request).json()

    def job(self, given: dict[str, Any]) -> Any:
        """Return the output of a job."""
        answer = httpx.post(
            f"{self.jobs}/runsync", headers=self.headers, json={"input": given}, timeout=_TIMEOUT_SECONDS
        ).json()
        assert answer["status"] == "COMPLETED", answer
        return answer["output"]


@dataclass(frozen=True)
class Kind:
    """A kind of model, and one question that is asked of it everywhere.

    Args:
        stack: the stack file that ships with it.
        route: where it is asked.
        body: what it is asked, without the model's name.
        answer: the part of the route's answer that must be the same everywhere.
        job: the same question as a job's input.
        output: the same part of the job's output.
    """

    stack: str
    route: str
    body: dict[str, Any]
    answer: Callable[[Any], Any]
    job: dict[str, Any]
    output: Callable[[Any], Any]


def _completed(answer: Any) -> Any:
    return answer["choices"][0]["text"]


KINDS = [
    Kind(
        "embeddings",
        "/v1/embeddings",
        {"input": TEXTS},
        lambda answer: [number for item in answer["data"] for number in item["embedding"]],
        {"texts": TEXTS, "instruction": ""},
        lambda output: [number for vector in output["embeddings"] for number in vector],
    ),
    Kind(
        "vision",
        "/v1/chat/completions",
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{DOT}"}},
                        {"type": "text", "text": PROMPT},
                    ],
                }
            ],
            **EXACT,
        },
        lambda answer: answer["choices"][0]["message"]["content"],
        {"image": DOT, "prompt": PROMPT, **EXACT},
        lambda output: output["response"],
    ),
    Kind(
        "reranker",
        "/v1/rerank",
        {"query": QUERY, "documents": TEXTS},
        lambda answer: [item["relevance_score"] for item in answer["results"]],
        {"route": "/v1/rerank", "body": {"query": QUERY, "documents": TEXTS}},
        lambda output: [item["relevance_score"] for item in output[0]["results"]],
    ),
    Kind(
        "intent-classifier",
        "/classify",
        {"input": TEXTS},
        lambda answer: [number for item in answer["data"] for number in item["probs"]],
        {"prompts": TEXTS},
        lambda output: [number for numbers in output["probabilities"] for number in numbers],
    ),
    Kind(
        "multi-lora",
        "/v1/completions",
        {"model": "sql", "prompt": PROMPT, **EXACT},
        _completed,
        {"model": "sql", "prompt": PROMPT, **EXACT},
        lambda output: output["response"],
    ),
    Kind(
        "codellama-34b",
        "/v1/completions",
        {"prompt": PROMPT, **EXACT},
        _completed,
        {"prompt": PROMPT, **EXACT},
        lambda output: output["response"],
    ),
]
_BY_QUEUE = len(KINDS) // 2


def _serve(clone: Clone, stack: str, *, queue: bool) -> dict[str, Endpoint]:
    """Have a stack file's model served by the stack, and return its endpoints."""

    return _up(clone, lambda config: config.update(kinds.sections(stack)), queue=queue)


def _up(clone: Clone, change: Callable[[dict[str, Any]], None], *, queue: bool) -> dict[str, Endpoint]:
    def edit(config: dict[str, Any]) -> None:
        change(config)
        runpod = config["berth:runpod"]
        runpod["endpoint_type"] = "QUEUE" if queue else "LOAD_BALANCER"
        runpod["queue_delay_seconds" if queue else "request_count"] = 1 if queue else 8
        runpod.pop("request_count" if queue else "queue_delay_seconds", None)

    clone.edit(edit)
    clone.run("up", "--stack", "local", "--yes", "--no-smoke")
    outputs = clone.json("output", "--stack", "local", "--show-secrets")
    keys = {"eks": outputs["api_key"], "runpod": clone.credentials()["runpod_api_key"]}
    return {
        platform: Endpoint(
            endpoint["url"], endpoint.get("jobs"), {"Authorization": f"Bearer {keys[platform]}"}
        )
        for platform, endpoint in outputs["endpoints"].items()
    }


def _answers(clone: Clone, eks: Callable[[], Any], runpod: Callable[[], Any]) -> list[Any]:
    """Ask both platforms at once, each when what served before, which answers on, is gone from it."""

    def ask(wait: Callable[[Clone], None], question: Callable[[], Any]) -> Any:
        wait(clone)
        return question()

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(ask, (_wait_for_pods, _wait_for_workers), (eks, runpod)))


def _wait_for_pods(clone: Clone) -> None:
    """Wait until no pod drains."""
    pods = json.loads(clone.kubectl("get", "pods", "--namespace=berth", "--output=json"))["items"]
    going = [pod["metadata"]["name"] for pod in pods if "deletionTimestamp" in pod["metadata"]]
    if going:
        clone.kubectl("wait", "pod", "--namespace=berth", "--for=delete", "--timeout=100s", *going)


def _wait_for_workers(clone: Clone) -> None:
    """Wait until every worker is of the newest release; there may be none, until somebody asks."""

    def is_rolled_out() -> bool:
        rollout = clone.json("workers", "--stack", "local")["rollout"]
        return bool(rollout["workersOnLatest"] == rollout["workersTotal"])

    wait_for(is_rolled_out, _TIMEOUT_SECONDS)


@pytest.fixture(scope="module")
def stack(clone: Clone) -> Iterator[Clone]:
    """The stack, which changes from kind to kind, and in the end is destroyed."""
    yield clone
    clone.destroy()


@pytest.mark.parametrize("number", range(len(KINDS)), ids=[kind.stack for kind in KINDS])
def test_a_kind_of_model_answers_the_same_on_both_platforms(stack: Clone, number: int) -> None:
    kind, queue = KINDS[number], number >= _BY_QUEUE
    endpoints = _serve(stack, kind.stack, queue=queue)
    served_name = stack.config["berth:model"]["served_name"]
    body = {"model": served_name, **kind.body}

    def by_route(platform: str) -> Any:
        return kind.answer(endpoints[platform].post(kind.route, json=body))

    def by_job() -> Any:
        return kind.output(endpoints["runpod"].job(kind.job))

    expected, found = _answers(
        stack, partial(by_route, "eks"), by_job if queue else partial(by_route, "runpod")
    )
    assert expected
    assert found == (pytest.approx(expected, abs=1e-4) if isinstance(expected, list) else expected)


def _speaking(stack: Clone, image: str) -> dict[str, Endpoint]:
    """Have somebody else's server in the place of vLLM, as the stack file for speech has it."""

    def change(config: dict[str, Any]) -> None:
        config["berth:model"] = kinds.config("text-to-speech")["berth:model"]
        config["berth:image"] = {"builder": "prebuilt", "reference": image}
        config["berth:server"] = {"args": ["--port", "8000"], "api_key_variable": "SPEECH_API_KEY"}
        config["berth:serving"] = {
            key: value
            for key, value in config["berth:serving"].items()
            if key in ("startup_timeout_seconds", "drain_seconds")
        }

    return _up(stack, change, queue=False)


def _vllm_again(config: dict[str, Any]) -> None:
    del config["berth:server"]
    config["berth:image"] = kinds.config("local")["berth:image"]


def test_what_a_server_of_somebody_elses_says_is_understood_by_whisper_on_every_endpoint(
    stack: Clone, tmp_path: Path
) -> None:
    route = "/v1/audio/speech"
    image = SpeechImage(stack, tmp_path)
    speakers = _speaking(stack, image.reference)

    def say(platform: str) -> bytes:
        return speakers[platform].send(route, json={"model": "qwen3-tts", "input": SAID}).content

    spoken = _answers(stack, partial(say, "eks"), partial(say, "runpod"))
    assert spoken[0] == spoken[1]
    seconds = [_seconds(spoken[0])]
    seconds.append(
        _seconds(speakers["eks"].send(route, json={"model": "m", "input": f"{SAID} {SAID}"}).content)
    )
    assert 1.8 < seconds[1] / seconds[0] < 2.5
    refused = httpx.post(speakers["eks"].url + "/audio/speech", json={"input": SAID}, timeout=60)
    assert refused.status_code == 401
    stack.edit(_vllm_again)
    heard = []
    for queue in (True, False):
        endpoints = _serve(stack, "speech-to-text", queue=queue)
        hear = partial(_heard, spoken[0], stack.config["berth:model"]["served_name"])
        by_route = partial(hear, endpoints["runpod"])
        by_job = partial(_heard_by_job, spoken[0], endpoints["runpod"])
        heard += _answers(stack, partial(hear, endpoints["eks"]), by_job if queue else by_route)
    assert len(set(heard)) == 1, heard
    assert {"ship", "harbor", "morning"} <= set(speech.words(heard[0]))
    image.remove()


def _heard(audio: bytes, model: str, endpoint: Endpoint) -> str:
    form = {"model": model, "language": "en", "temperature": "0"}
    files = {"file": ("speech.wav", audio)}
    return str(endpoint.post("/v1/audio/transcriptions", data=form, files=files)["text"])


def _heard_by_job(audio: bytes, endpoint: Endpoint) -> str:
    job = {"audio": base64.b64encode(audio).decode(), "language": "en", "temperature": 0}
    return str(endpoint.job(job)["text"])


def _seconds(audio: bytes) -> float:
    """Return how long a WAV file lasts."""
    with wave.open(io.BytesIO(audio)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 22050)
        return float(file.getnframes() / file.getframerate())
