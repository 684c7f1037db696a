"""Speech and images of real servers, by the routes and by jobs, and what they refuse."""

from __future__ import annotations

import io
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image, ImageDraw

from tests.containers.conftest import random_address
from tests.models import speech
from tests.models.measured import job_of, measured
from tests.models.served import in_base64

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.models.conftest import Start
    from tests.models.served import Served

pytestmark = pytest.mark.e2e

SAID = "The ship comes into the harbor in the morning, and leaves again in the evening."
EXACT: dict[str, Any] = {"temperature": 0, "max_tokens": 12, "min_tokens": 12}
QUESTION = "What is in this image?"


@pytest.fixture(scope="module")
def spoken() -> bytes:
    return speech.Speaker(speech.installed()).wav(SAID)


@pytest.fixture(scope="module")
def listener(start: Start) -> Served:
    return start("speech-to-text").ready()


def test_spoken_words_are_understood_the_same_by_route_and_by_job(listener: Served, spoken: bytes) -> None:
    answer = listener.send("/v1/audio/transcriptions", spoken, language="en", temperature="0")
    assert answer.status_code == 200, answer.text
    heard = speech.words(answer.json()["text"])
    said = speech.words(SAID)
    assert len(set(said) & set(heard)) >= 0.8 * len(set(said)), heard
    output = listener.job(audio=in_base64(spoken), language="en", temperature=0)
    assert output == {"text": answer.json()["text"], "chunks": []}


def test_the_language_is_found_out_and_speech_can_be_translated(listener: Served, spoken: bytes) -> None:
    output = listener.job(audio=in_base64(spoken), temperature=0)
    assert set(speech.words(SAID)) & set(speech.words(output["text"]))
    translated = listener.job(audio=in_base64(spoken), task="translate", temperature=0)
    assert "ship" in speech.words(translated["text"])


def test_chunks_say_when_something_was_said(listener: Served, spoken: bytes) -> None:
    output = listener.job(audio=in_base64(spoken), language="en", timestamps=True, temperature=0)
    assert "".join(chunk["text"] for chunk in output["chunks"]) == output["text"]
    start, end = output["chunks"][0]["timestamp"][0], output["chunks"][-1]["timestamp"][1]
    assert 0 <= start < end <= 7
    status, message = listener.job_error(audio=in_base64(spoken), language="en", timestamps="word")
    assert status == 400
    assert "gave no times of words" in message


def test_files_that_are_no_speech_or_too_large_are_refused_by_vllm(listener: Served) -> None:
    answer = listener.send("/v1/audio/transcriptions", bytes(100 * 1000 * 1000))
    assert answer.status_code == 400
    assert "Maximum file size exceeded" in answer.json()["error"]["message"]
    status, message = listener.job_error(audio=in_base64(b"these are words and no sound"))
    assert status == 400
    assert "Invalid or corrupted audio data" in message
    assert listener.job_error(messages=[{"role": "user", "content": "hello"}])[0] == 404


class Pictures(ThreadingHTTPServer):
    """A host of images, on a loopback address of its own; `/away` sends on to another host."""

    daemon_threads = True

    def __init__(self, images: dict[str, bytes]) -> None:
        super().__init__((random_address(), 0), PicturesHandler)
        self.images = images
        self.asked: list[str] = []
        self.host = str(self.server_address[0])
        self.url = f"http://{self.host}:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class PicturesHandler(BaseHTTPRequestHandler):
    server: Pictures

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        content = self.server.images.get(self.path, b"")
        self.send_response(302 if self.path == "/away" else 200)
        if self.path == "/away":
            self.send_header("Location", f"http://127.0.0.1:{self.server.server_address[1]}/blue.png")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


def picture(color: str) -> bytes:
    image = Image.new("RGB", (200, 120), color)
    ImageDraw.Draw(image).text((20, 40), "Berth 7", fill="white", font_size=40)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_bench_is_answered_by_route_and_by_job(listener: Served) -> None:
    row = measured(listener, "transcribe", audio_seconds=1, concurrency=1, requests=1)
    assert row["inputs_per_second"] > 0
    assert isinstance(listener.job(**job_of(listener, "transcribe", audio_seconds=1))["text"], str)


@pytest.fixture(scope="module")
def pictures() -> Iterator[Pictures]:
    server = Pictures({"/red.png": picture("red"), "/blue.png": picture("blue"), "/text.png": b"no image"})
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def viewer(start: Start, pictures: Pictures) -> Served:
    return start("vision", allowed_media_hosts=[pictures.host]).ready()


def _content(*urls: str) -> list[dict[str, Any]]:
    images = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return [{"role": "user", "content": [*images, {"type": "text", "text": QUESTION}]}]


def _seen(viewer: Served, *urls: str) -> str:
    answer = viewer.ask("/v1/chat/completions", messages=_content(*urls), **EXACT)
    text: str = answer["choices"][0]["message"]["content"]
    return text


def test_images_are_seen_the_same_by_address_in_base64_by_route_and_by_job(
    viewer: Served, pictures: Pictures
) -> None:
    red, blue = (_seen(viewer, f"{pictures.url}/{name}.png") for name in ("red", "blue"))
    assert red != blue
    encoded = in_base64(pictures.images["/red.png"])
    assert _seen(viewer, f"data:image/png;base64,{encoded}") == red
    for image in (f"{pictures.url}/red.png", encoded):
        assert viewer.job(image=image, prompt=QUESTION, **EXACT)["response"] == red


def test_the_known_tasks_of_images_are_done(viewer: Served, pictures: Pictures) -> None:
    encoded = in_base64(pictures.images["/red.png"])
    for task in ("OCR", "CAPTION", "DETAILED_CAPTION", "MORE_DETAILED_CAPTION"):
        output = viewer.job(image=encoded, task=task, max_tokens=12, min_tokens=12)
        assert output["task"] == task
        assert output["parsed"] == {f"<{task}>": output["raw_output"]}
        assert output["raw_output"] != ""
    for task, name in (
        ("OD", "bboxes"),
        ("OCR_WITH_REGION", "quad_boxes"),
        ("DENSE_REGION_CAPTION", "bboxes"),
    ):
        # Held to a schema: even what is said at random begins as such an answer does.
        raw = viewer.job(image=encoded, task=task, max_tokens=64)["raw_output"]
        assert "".join(raw.split()).startswith(f'{{"{name}":[')


def test_hosts_that_the_stack_does_not_name_are_not_asked(viewer: Served, pictures: Pictures) -> None:
    pictures.asked.clear()
    port = pictures.server_address[1]
    for host in (f"127.0.0.1:{port}", "169.254.169.254", "localhost", "[::1]", "10.0.0.1"):
        url = f"http://{host}/red.png"
        status, message = viewer.refusal("/v1/chat/completions", messages=_content(url))
        assert status == 400, message
        assert "must be from one of the allowed domains" in message
        assert viewer.job_error(image=url, prompt=QUESTION) == (status, message)
    assert pictures.asked == []
    status, message = viewer.job_error(image=f"{pictures.url}/away", prompt=QUESTION)
    assert status >= 400
    assert pictures.asked == ["/away"]


def test_what_is_no_image_is_refused(viewer: Served, pictures: Pictures) -> None:
    status, message = viewer.refusal("/v1/chat/completions", messages=_content(f"{pictures.url}/text.png"))
    assert status == 400
    assert "Failed to load image" in message
    assert viewer.job_error(image=f"{pictures.url}/text.png", prompt=QUESTION) == (400, message)
    broken = in_base64(pictures.images["/red.png"][:100])
    assert "Failed to load image" in viewer.job_error(image=broken, prompt=QUESTION)[1]
    assert "is none of png" in viewer.job_error(image=in_base64(b"no image"), prompt=QUESTION)[1]


def test_more_images_than_the_stack_allows_are_refused(viewer: Served, pictures: Pictures) -> None:
    url = f"{pictures.url}/red.png"
    status, message = viewer.refusal("/v1/chat/completions", messages=_content(*[url] * 9))
    assert status == 400
    assert "image(s) may be provided in one prompt" in message
