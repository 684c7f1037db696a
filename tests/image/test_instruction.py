"""What the queue door puts before a text that is embedded, where its job says nothing of it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, cast

import pytest
from queue_door import pooling

if TYPE_CHECKING:
    from queue_door.engine import Engine


class _Engine:
    """Takes down what is embedded."""

    model = "served"

    def __init__(self) -> None:
        self.texts: list[str] = []

    async def ask(self, _route: str, body: dict[str, Any], _job_id: str) -> bytes:
        self.texts += body["input"]
        vectors = [{"index": index, "embedding": [1.0, 0.0]} for index, _ in enumerate(body["input"])]
        return json.dumps({"data": vectors}).encode()


@pytest.mark.parametrize(
    ("default", "given", "embedded"),
    [
        (None, {}, "a ship"),
        ("query: ", {}, "query: a ship"),
        ("query: ", {"instruction": "passage: "}, "passage: a ship"),
        ("query: ", {"instruction": ""}, "a ship"),
    ],
)
def test_a_job_s_own_instruction_holds_before_the_stack_s(
    monkeypatch: pytest.MonkeyPatch, default: str | None, given: dict[str, str], embedded: str
) -> None:
    monkeypatch.delenv(pooling.QUERY_INSTRUCTION, raising=False)
    if default is not None:
        monkeypatch.setenv(pooling.QUERY_INSTRUCTION, default)
    engine = _Engine()
    asyncio.run(pooling.embed(cast("Engine", engine), "job", {"texts": ["a ship"], **given}))
    assert engine.texts == [embedded]
