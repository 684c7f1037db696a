"""The plain dialects whose answer is numbers: probabilities of classes, and embeddings."""

from __future__ import annotations

import asyncio
import json
import math
import os
from typing import TYPE_CHECKING, Any

from queue_door.fields import Fields, described, wrong

if TYPE_CHECKING:
    from queue_door.engine import Engine

QUERY_INSTRUCTION = "BERTH_QUERY_INSTRUCTION"
_BATCH_SIZE = 32
# Requests of one job at the same time: enough to keep vLLM busy, and no more than it lets wait.
_BATCHES_AT_ONCE = 8
# A vector whose length is off by less is as normal as half precision can make it.
_TOLERANCE = 1e-3


async def classify(engine: Engine, job_id: str, given: dict[str, Any]) -> dict[str, Any]:
    """Classify `prompts` (or one `prompt`): a list of probabilities for each."""
    fields = Fields(given)
    prompts = fields.texts("prompt" if "prompt" in fields else "prompts")
    answer = await _ask(engine, "/classify", {**fields.rest, "input": prompts}, job_id)
    return {"probabilities": [item["probs"] for item in answer]}


async def embed(engine: Engine, job_id: str, given: dict[str, Any]) -> dict[str, Any]:
    """Embed `texts` (or one `text`), each after `instruction`, `batch_size` in a request.

    A stack whose model wants an instruction before a query has it as the default: documents are embedded with
    the empty one.
    """
    fields = Fields(given)
    texts = fields.texts("texts" if "texts" in fields else "text")
    normalize = fields.flag("normalize", default=True)
    size = fields.whole("batch_size", _BATCH_SIZE)
    instruction = fields.rest.pop("instruction", os.environ.get(QUERY_INSTRUCTION, ""))
    if not isinstance(instruction, str):
        raise wrong("instruction", f"must be a string, not {described(instruction)}")
    texts = [instruction + text for text in texts]
    fields.rest.pop("encoding_format", None)  # this output is numbers
    if not normalize:
        fields.rest["use_activation"] = False  # vLLM's own name for it
    free = asyncio.Semaphore(_BATCHES_AT_ONCE)

    async def ask(body: dict[str, Any]) -> list[dict[str, Any]]:
        async with free:
            return await _ask(engine, "/v1/embeddings", body, job_id)

    bodies = [{**fields.rest, "input": texts[start : start + size]} for start in range(0, len(texts), size)]
    try:
        async with asyncio.TaskGroup() as group:
            batches = [group.create_task(ask(body)) for body in bodies]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    vectors = [item["embedding"] for batch in batches for item in batch.result()]
    if normalize:
        vectors = [_normal(vector) for vector in vectors]
    return {
        "embeddings": vectors,
        "model": engine.model,
        "dimensions": len(vectors[0]),
        "count": len(vectors),
    }


async def _ask(engine: Engine, route: str, body: dict[str, Any], job_id: str) -> list[dict[str, Any]]:
    """Return the items of an answer in the order of the request."""
    answer = json.loads(await engine.ask(route, body, job_id))
    return sorted(answer["data"], key=lambda item: int(item["index"]))


def _normal(vector: list[float]) -> list[float]:
    """Return a vector of length 1; vLLM's own are already, for most models."""
    length = math.hypot(*vector)
    if length == 0 or abs(length - 1) < _TOLERANCE:
        return vector
    return [value / length for value in vector]
