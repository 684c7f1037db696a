"""The ways to ask for probabilities: an adapter on its base, a merged model, and endpoints."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import httpx

from examples.intents.errors import IntentsError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

KEY_VARIABLE = "ENDPOINT_KEY"
"""The environment variable with the key of an endpoint that asks for one."""

_ANSWER_LIMIT_SECONDS = 120.0
# A worker may have to start first.
_JOB_LIMIT_SECONDS = 900.0
_POLL_SECONDS = 1.0
_UNFINISHED = ("IN_QUEUE", "IN_PROGRESS")


class Classifier(Protocol):
    """Gives each text a probability for every class."""

    def __call__(self, texts: Sequence[str]) -> list[list[float]]:
        """Return them in the order of the texts.

        Raises:
            IntentsError: it cannot.
        """


def open_source(source: str, labels: list[str], report: Callable[[str], None]) -> Classifier:
    """Return the classifier behind a URL, or in a folder with an adapter or a whole model.

    Args:
        source: a URL that ends in /classify (vLLM's own) or in /runsync (a queue of RunPod's), or a folder.
        labels: what its classes have to be.
        report: takes lines that say what is done.

    Raises:
        IntentsError: it is none of them, or has other classes.
    """
    if source.startswith(("http://", "https://")):
        return endpoint(source)
    return _folder(Path(source), labels, report)


def endpoint(url: str) -> Classifier:
    """Return the classifier behind a URL.

    Raises:
        IntentsError: it ends neither in /classify nor in /runsync.
    """
    if not url.endswith(("/classify", "/runsync")):
        raise IntentsError(f"{url}: must end in /classify, or for a queue of RunPod's in /runsync")
    key = os.environ.get(KEY_VARIABLE)
    http = httpx.Client(
        headers={"Authorization": f"Bearer {key}"} if key else {}, timeout=_ANSWER_LIMIT_SECONDS
    )
    ask = _ask_vllm if url.endswith("/classify") else _ask_queue

    def classify(texts: Sequence[str]) -> list[list[float]]:
        try:
            return ask(http, url, list(texts))
        except httpx.HTTPStatusError as error:
            hint = f" (set {KEY_VARIABLE})" if error.response.status_code == 401 and not key else ""
            said = error.response.text.strip()[:500]
            raise IntentsError(f"{url}: HTTP {error.response.status_code}{hint}: {said}") from error
        except (httpx.HTTPError, ValueError, KeyError) as error:
            raise IntentsError(f"{url}: {type(error).__name__}: {error}") from error

    return classify


def _ask_vllm(http: httpx.Client, url: str, texts: list[str]) -> list[list[float]]:
    answer = http.post(url, json={"input": texts}).raise_for_status().json()
    return [item["probs"] for item in sorted(answer["data"], key=lambda item: int(item["index"]))]


def _ask_queue(http: httpx.Client, url: str, texts: list[str]) -> list[list[float]]:
    deadline = time.monotonic() + _JOB_LIMIT_SECONDS
    job = http.post(url, json={"input": {"prompts": texts}}).raise_for_status().json()
    # It answers before the job has ended where that takes long.
    status_url = f"{url.removesuffix('/runsync')}/status/{job['id']}"
    while job["status"] in _UNFINISHED:
        if time.monotonic() > deadline:
            raise IntentsError(f"{url}: the job is {job['status']} after {_JOB_LIMIT_SECONDS:.0f} s")
        time.sleep(_POLL_SECONDS)
        job = http.get(status_url).raise_for_status().json()
    if job["status"] != "COMPLETED":
        raise IntentsError(f"{url}: the job is {job['status']}: {job.get('error', 'no reason given')}")
    probabilities: list[list[float]] = job["output"]["probabilities"]
    return probabilities


def _folder(folder: Path, labels: list[str], report: Callable[[str], None]) -> Classifier:
    # PyTorch takes seconds to import, and an endpoint is asked without it.
    import torch  # noqa: PLC0415
    from transformers import AutoModelForSequenceClassification, AutoTokenizer  # noqa: PLC0415

    from examples.intents import adapter, base  # noqa: PLC0415

    if (folder / "adapter_config.json").exists():
        below = base.fetch(*adapter.origin(folder), report)
        model, classes = adapter.load(folder, below)
        tokenizer = below.tokenizer()
    elif (folder / "config.json").exists():
        model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
        classes = [model.config.id2label[index] for index in range(model.config.num_labels)]
        tokenizer = AutoTokenizer.from_pretrained(folder)
    else:
        raise IntentsError(f"{folder}: is neither an adapter nor a model: it has no config.json")
    if classes != labels:
        raise IntentsError(
            f"{folder}: its classes are {', '.join(classes)}; the sentences' {', '.join(labels)}"
        )

    def classify(texts: Sequence[str]) -> list[list[float]]:
        with torch.inference_mode():
            logits = model(**tokenizer(list(texts), return_tensors="pt", padding=True)).logits
        probabilities: list[list[float]] = logits.softmax(-1).tolist()
        return probabilities

    return classify
