"""The plain dialects with a file in them: image tasks, speech to text, text to speech."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import aiohttp

from queue_door.errors import JobError
from queue_door.fields import Fields, decoded, described, wrong

if TYPE_CHECKING:
    from queue_door.engine import Engine

_IMAGE_KINDS = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif", b"RIFF": "webp", b"BM": "bmp"}
_BOXES = 'Answer with JSON only: {"%s": [[%s], …], "labels": ["…", …]}, in pixels.'
_CORNERS = _BOXES % ("bboxes", "x1, y1, x2, y2")
_QUADS = _BOXES % ("quad_boxes", "x1, y1, x2, y2, x3, y3, x4, y4")
# What each task asks, and the name of its boxes where its answer has some.
_IMAGE_TASKS: dict[str, tuple[str, str | None]] = {
    "OCR": ("Write down all text in this image, and nothing else.", None),
    "OCR_WITH_REGION": (f"Find all text in this image, with its corners. {_QUADS}", "quad_boxes"),
    "CAPTION": ("Describe this image in one short sentence.", None),
    "DETAILED_CAPTION": ("Describe this image in detail.", None),
    "MORE_DETAILED_CAPTION": ("Describe everything in this image, in a long paragraph.", None),
    "OD": (f"Find the objects in this image. {_CORNERS}", "bboxes"),
    "DENSE_REGION_CAPTION": (
        f"Find the regions of this image, and label each with a description. {_CORNERS}",
        "bboxes",
    ),
}
_IMAGE_TASK_TOKENS = 1024
_NUMBERS_OF_A_BOX = {"bboxes": 4, "quad_boxes": 8}


def image_url(fields: Fields) -> str:
    """Take `image`, an address or base64, as the address that vLLM reads it from."""
    given = fields.text("image")
    if given.startswith(("http://", "https://")):
        return given
    content = decoded("image", given)
    kind = next((kind for magic, kind in _IMAGE_KINDS.items() if content.startswith(magic)), None)
    if kind is None:
        raise wrong("image", f"is none of {', '.join(_IMAGE_KINDS.values())}, nor an address (https://…)")
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


async def image_task(engine: Engine, job_id: str, given: dict[str, Any]) -> dict[str, Any]:
    """Do one of the known tasks with an image: `image`, `task`.

    Boxes are asked for with a schema that vLLM holds the model to; they are null if the answer was cut off.
    """
    fields = Fields(given)
    task = fields.one_of("task", tuple(_IMAGE_TASKS))
    prompt, boxes = _IMAGE_TASKS[task]
    content = [
        {"type": "image_url", "image_url": {"url": image_url(fields)}},
        {"type": "text", "text": prompt},
    ]
    body = {
        "max_tokens": _IMAGE_TASK_TOKENS,
        "temperature": 0,
        **({"response_format": _boxes_format(boxes)} if boxes else {}),
        **fields.rest,
        "messages": [{"role": "user", "content": content}],
    }
    answer = json.loads(await engine.ask("/v1/chat/completions", body, job_id))
    text = answer["choices"][0]["message"]["content"] or ""
    return {"task": task, "raw_output": text, "parsed": {f"<{task}>": _parsed(text) if boxes else text}}


def _boxes_format(name: str) -> dict[str, Any]:
    count = _NUMBERS_OF_A_BOX[name]
    box = {"type": "array", "items": {"type": "number"}, "minItems": count, "maxItems": count}
    schema = {
        "type": "object",
        "properties": {
            name: {"type": "array", "items": box},
            "labels": {"type": "array", "items": {"type": "string"}},
        },
        "required": [name, "labels"],
        "additionalProperties": False,
    }
    return {"type": "json_schema", "json_schema": {"name": name, "schema": schema}}


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


async def transcribe(engine: Engine, job_id: str, given: dict[str, Any]) -> dict[str, Any]:
    """Turn speech into text: `audio`, `language`, `task`, `timestamps` (true, or "word")."""
    fields = Fields(given)
    audio = fields.file("audio")
    task = fields.one_of("task", ("transcribe", "translate"), "transcribe")
    timestamps = fields.rest.pop("timestamps", False)
    if timestamps not in (True, False, "word", "segment"):
        raise wrong("timestamps", f"must be true, false, segment or word, not {described(timestamps)}")
    unit = "word" if timestamps == "word" else "segment"
    form = aiohttp.FormData()
    form.add_field("file", audio, filename="audio", content_type="application/octet-stream")
    form.add_field("model", engine.model)
    form.add_field("response_format", "verbose_json" if timestamps else "json")
    if timestamps:
        form.add_field("timestamp_granularities[]", unit)
    if "language" in fields:
        form.add_field("language", fields.text("language"))
    for name, value in fields.rest.items():
        form.add_field(name, value if isinstance(value, str) else json.dumps(value))
    route = "/v1/audio/translations" if task == "translate" else "/v1/audio/transcriptions"
    answer = json.loads(await engine.ask(route, form, job_id))
    if timestamps and answer.get(f"{unit}s") is None:  # vLLM takes `word`, and has none
        raise wrong("timestamps", f"is {timestamps!r}, but vLLM gave no times of {unit}s")
    chunks = [
        {"timestamp": [item["start"], item["end"]], "text": item[unit if unit == "word" else "text"]}
        for item in answer.get(f"{unit}s") or ()
    ]
    return {"text": answer["text"], "chunks": chunks}


async def speak(engine: Engine, job_id: str, given: dict[str, Any]) -> dict[str, Any]:
    """Turn text into speech: `text`, `language`, `speaker_wav` (a voice to sound like, in base64)."""
    fields = Fields(given)
    body: dict[str, Any] = {"input": fields.text("text"), "language": fields.text("language", "en")}
    if "speaker_wav" in fields:
        voice = base64.b64encode(fields.file("speaker_wav")).decode()
        body["ref_audio"] = f"data:audio/wav;base64,{voice}"
    fields.rest.pop("task", None)
    audio = await engine.ask("/v1/audio/speech", {**fields.rest, **body, "response_format": "wav"}, job_id)
    return {
        "audio": base64.b64encode(audio).decode(),
        "format": "wav",
        "sample_rate": _sample_rate(audio),
    }


def _sample_rate(audio: bytes) -> int:
    """Return the sample rate that a WAV file's header names, in Hz."""
    header = audio.find(b"fmt ", 0, 4096)
    if not audio.startswith(b"RIFF") or header < 0 or len(audio) < header + 16:
        raise JobError("vLLM answered with something else than a WAV file", "InternalServerError", 502)
    return int.from_bytes(audio[header + 12 : header + 16], "little")
