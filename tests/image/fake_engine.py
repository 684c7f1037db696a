"""Stands for `vllm serve` behind the queue door: answers its routes, and tells what it was asked.

`/_seen` gives every request with its body, and the ids of those whose client went away. What a prompt says
decides: `hold` is answered when `/_release` is asked for, `die` ends the server, `refuse` and `fail` fail,
`count N` counts to N, anything else is said back. A stream does what its `user` says after its third word.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import signal
import sys
import wave
from pathlib import Path
from typing import Any

from aiohttp import web

SEEN: list[dict[str, Any]] = []
ABORTED: list[str] = []
RUNNING: set[str] = set()
MOST = [0]
RELEASED = asyncio.Event()
KEY = os.environ.get("VLLM_API_KEY")
MODEL = "the-model"


def error(status: int, message: str, kind: str = "BadRequestError") -> web.Response:
    fields = {"message": message, "type": kind, "param": None, "code": status}
    return web.json_response({"error": fields}, status=status)


@web.middleware
async def noted(request: web.Request, handler: Any) -> web.StreamResponse:
    if request.path.startswith("/_") or request.path == "/health":
        return await handler(request)  # type: ignore[no-any-return]
    if KEY and request.path.startswith("/v1") and request.headers.get("Authorization") != f"Bearer {KEY}":
        return web.json_response({"error": "Unauthorized"}, status=401)
    name = request.headers.get("X-Request-Id", "")
    body: Any = None
    if request.content_type == "multipart/form-data":
        form = await request.post()
        body = {
            key: value.file.read().decode("latin-1") if isinstance(value, web.FileField) else value
            for key, value in form.items()
        }
    elif request.can_read_body:
        body = await request.json()
    SEEN.append({"method": request.method, "route": request.path_qs, "body": body, "id": name})
    request["body"] = body
    RUNNING.add(name)
    MOST[0] = max(MOST[0], len(RUNNING))
    try:
        return await handler(request)  # type: ignore[no-any-return]
    except web.HTTPNotFound:
        return web.json_response({"detail": "Not Found"}, status=404)  # as FastAPI has it
    except (asyncio.CancelledError, ConnectionError):
        ABORTED.append(name)
        raise
    finally:
        RUNNING.discard(name)


def said(body: dict[str, Any]) -> str:
    if "messages" in body:
        content = body["messages"][-1]["content"]
        return str(content if isinstance(content, str) else content[-1]["text"])
    prompt = body["prompt"]
    return str(prompt if isinstance(prompt, str) else prompt[0])


async def obey(text: str) -> web.Response | None:
    if text == "hold":
        await RELEASED.wait()
    elif text == "die":
        print("(EngineCore pid=7) torch.OutOfMemoryError: CUDA out of memory", flush=True)
        os._exit(3)
    elif text == "refuse":
        return error(400, "This model's maximum context length is 8 tokens.")
    elif text == "fail":
        return error(500, "EngineCore encountered an issue. See stack trace.", "InternalServerError")
    return None


def usage(count: int) -> dict[str, int]:
    return {"prompt_tokens": 3, "completion_tokens": count, "total_tokens": 3 + count}


async def generate(request: web.Request) -> web.StreamResponse:
    body = request["body"]
    text = said(body)
    is_chat = "messages" in body
    if refusal := await obey(text):
        return refusal
    words = [f"{n} " for n in range(int(text.split()[1]))] if text.startswith("count ") else [text]
    common = {"id": f"id-{request.headers['X-Request-Id']}", "created": 7, "model": body["model"]}
    if body.get("stream"):
        return await stream(request, common, words, is_chat=is_chat)
    prompts = body["prompt"] if isinstance(body.get("prompt"), list) else [None]
    if "response_format" in body:
        words = ['{"bboxes": [[1, 2, 3, 4]], "labels": ["a boat"]}']
    choices = [
        {
            "index": index,
            "finish_reason": "stop",
            "stop_reason": None,
            **(
                {"message": {"role": "assistant", "content": "".join(words)}}
                if is_chat
                else {"text": prompt or "".join(words)}
            ),
        }
        for index, prompt in enumerate(prompts)
    ]
    kind = "chat.completion" if is_chat else "text_completion"
    # In another order: clients are to go by the index.
    answer = {**common, "object": kind, "choices": choices[::-1], "usage": usage(len(words))}
    return web.json_response(answer)


async def stream(
    request: web.Request, common: dict[str, Any], words: list[str], *, is_chat: bool
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
    await response.prepare(request)
    await response.write(b": keep-alive\n\n")
    for index, word in enumerate(words):
        choice = {"index": 0, **({"delta": {"content": word}} if is_chat else {"text": word})}
        event = b"data: " + json.dumps({**common, "choices": [choice]}, ensure_ascii=False).encode() + b"\n\n"
        # In two parts, so that the reader gets half an event, and half a character, now and then.
        await response.write(event[: len(event) - 9])
        await asyncio.sleep(0.001)
        await response.write(event[len(event) - 9 :])
        if index == 2 and request["body"].get("user") == "die":
            await obey("die")
        if index == 2 and request["body"].get("user") == "hold":
            await obey("hold")
        if index == 2 and request["body"].get("user") == "error":
            broken = {"error": {"message": "out of blocks", "type": "InternalServerError", "code": 500}}
            await response.write(b"data: " + json.dumps(broken).encode() + b"\n\ndata: [DONE]\n\n")
            return response
    await response.write(b"data: [DONE]\n\n")
    return response


async def embeddings(request: web.Request) -> web.StreamResponse:
    texts = request["body"]["input"]
    if refusal := await obey(texts[0]):
        return refusal
    data = [{"index": index, "embedding": [3.0, 4.0, 0.0]} for index, _ in enumerate(texts)]
    return web.json_response({"data": data[::-1], "model": MODEL, "usage": usage(0)})


async def classify(request: web.Request) -> web.StreamResponse:
    data = [
        {"index": index, "label": "x", "probs": [0.25, 0.75], "num_classes": 2}
        for index, _ in enumerate(request["body"]["input"])
    ]
    return web.json_response({"data": data, "model": MODEL, "usage": usage(0)})


async def transcriptions(request: web.Request) -> web.StreamResponse:
    answer: dict[str, Any] = {"text": "ahoy there"}
    if request["body"]["response_format"] == "verbose_json":
        answer["segments"] = [{"id": 0, "start": 0.0, "end": 1.5, "text": "ahoy there"}]
        wants_none = request["body"].get("prompt") == "without times"
        answer["words"] = None if wants_none else [{"word": "ahoy", "start": 0.0, "end": 0.5}]
    return web.json_response(answer)


async def speech(_request: web.Request) -> web.StreamResponse:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(24000)
        file.writeframes(b"\0\0" * 8)
    return web.Response(body=buffer.getvalue(), content_type="audio/wav")


async def models(_request: web.Request) -> web.StreamResponse:
    return web.json_response({"object": "list", "data": [{"id": MODEL, "object": "model"}]})


async def metrics(_request: web.Request) -> web.StreamResponse:
    return web.Response(text="vllm:num_requests_running 0\n")


async def health(_request: web.Request) -> web.StreamResponse:
    return web.Response()


async def seen(_request: web.Request) -> web.StreamResponse:
    state = {"requests": SEEN, "aborted": ABORTED, "running": sorted(RUNNING), "most": MOST[0]}
    names = ("RUNPOD_AI_API_KEY", "RUNPOD_POD_ID", "HF_TOKEN", "VLLM_API_KEY")
    environment = {name: os.environ.get(name) for name in names}
    return web.json_response({**state, "args": sys.argv[1:], "env": environment})


async def release(_request: web.Request) -> web.StreamResponse:
    RELEASED.set()
    RELEASED.clear()
    return web.Response()


async def main() -> None:
    print("key is", KEY, "and", os.environ.get("HF_TOKEN"), flush=True)
    hold = os.environ.get("FAKE_VLLM_HOLD")
    while hold and Path(hold).exists():
        await asyncio.sleep(0.02)
    app = web.Application(middlewares=[noted], client_max_size=1 << 26)
    app.add_routes(
        [
            web.get("/health", health),
            web.get("/metrics", metrics),
            web.get("/_seen", seen),
            web.post("/_release", release),
            web.get("/v1/models", models),
            web.post("/v1/chat/completions", generate),
            web.post("/v1/completions", generate),
            web.post("/v1/embeddings", embeddings),
            web.post("/classify", classify),
            web.post("/v1/audio/transcriptions", transcriptions),
            web.post("/v1/audio/translations", transcriptions),
            web.post("/v1/audio/speech", speech),
        ]
    )
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    host, port = (sys.argv[sys.argv.index(name) + 1] for name in ("--host", "--port"))
    await web.TCPSite(runner, host, int(port), backlog=1024).start()
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    print(f"drained with {len(RUNNING)} running", flush=True)
    with contextlib.suppress(OSError):
        await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main())
