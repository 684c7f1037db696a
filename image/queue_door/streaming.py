"""Takes an answer of vLLM apart into pieces that are worth a request to the platform each.

Every piece is one POST by RunPod's SDK, and the next is not read before that has been answered. A POST for
each token would be thousands a second for a busy worker; a long wait would be seen by those who read along.
So the first piece goes at once, and the next when that has arrived: not sooner, though, than PAUSE_SECONDS
for each answer that is being streamed (at most LONGEST_PAUSE_SECONDS), unless there are BATCH_BYTES already.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from queue_door.errors import of_event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp

    from queue_door.engine import Engine

# At most 2,500 POSTs a second, which is about what one process of the SDK can do.
PAUSE_SECONDS = 0.0004
# Ten a second look like a steady flow to a reader.
LONGEST_PAUSE_SECONDS = 0.1
# The platform takes 1 MB; a piece of this size is not worth a wait.
BATCH_BYTES = 16 * 1024
_EVENT_END = b"\n\n"


async def pieces(engine: Engine, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Yield a stream of server-sent events unchanged, in pieces of whole events."""
    loop = asyncio.get_running_loop()
    # A job that is stopped while its piece is on the way leaves this generator to the garbage collector.
    task = asyncio.current_task()
    assert task is not None  # noqa: S101  # a coroutine runs in one
    task.add_done_callback(lambda _: response.close())
    engine.streams += 1
    try:
        due, pending = 0.0, b""
        while data := await response.content.readany():
            pending += data
            wait = due - loop.time()
            if wait > 0 and len(pending) < BATCH_BYTES and not response.content.is_eof():
                await asyncio.sleep(wait)
                pending += response.content.read_nowait()
            end = pending.rfind(_EVENT_END) + len(_EVENT_END)
            if end < len(_EVENT_END):
                continue
            due = loop.time() + min(LONGEST_PAUSE_SECONDS, PAUSE_SECONDS * engine.streams)
            yield pending[:end]
            pending = pending[end:]
        if pending:
            yield pending
    finally:
        engine.streams -= 1


async def tokens(engine: Engine, response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    """Yield a streamed completion as `{"token", "finished"}`; the last is finished.

    Raises:
        JobError: vLLM failed in the middle of its answer.
    """
    async for piece in pieces(engine, response):
        text, finished = "", False
        for event in piece.split(_EVENT_END):
            if not event.startswith(b"data: "):
                continue  # a comment, which keeps the connection open
            if event == b"data: [DONE]":
                finished = True
                continue
            parsed = json.loads(event[len(b"data: ") :])
            if error := parsed.get("error"):
                raise of_event(error)
            text += "".join(_delta(choice) for choice in parsed.get("choices", ()) if choice["index"] == 0)
        if text or finished:
            yield {"token": text, "finished": finished}
        if finished:
            return
    raise await engine.gone("the stream has no end")


def _delta(choice: dict[str, Any]) -> str:
    """Return a chunk's text: of a chat, or of a completion."""
    return str(choice["delta"].get("content") or "") if "delta" in choice else str(choice.get("text") or "")
