"""What the queue door makes of each kind of input: what vLLM is asked, and what the job's output is."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest

from tests.image.conftest import API_KEY, HUB_TOKEN

if TYPE_CHECKING:
    from tests.image.conftest import StartWorker, Worker

DEFAULTS = {
    "max_tokens": 512,
    "temperature": 0.7,
    "top_p": 0.95,
    "top_k": -1,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "model": "the-model",
}
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n and so on").decode()
WAV = base64.b64encode(b"RIFF....WAVE").decode()
HELLO = [{"role": "user", "content": "hello"}]


def test_a_prompt_gets_an_answer_that_every_client_can_read(shared_worker: Worker) -> None:
    job = shared_worker.platform.run({"prompt": "ahoy"})
    output = job.output()
    assert output["response"] == "ahoy"
    assert output["model"] == "the-model"
    assert output["usage"] == {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
    assert output["id"] == f"chatcmpl-{job.id}"
    assert output["object"] == "chat.completion"
    assert output["choices"][0]["message"] == {"role": "assistant", "content": "ahoy"}
    assert output["choices"][0]["finish_reason"] == "stop"
    assert output["details"] == {"finish_reason": "eos_token", "generated_tokens": 1}
    assert shared_worker.last == {
        "method": "POST",
        "route": "/v1/completions",
        "body": {**DEFAULTS, "prompt": "ahoy"},
        "id": job.id,
    }


def test_messages_go_through_the_chat_template(shared_worker: Worker) -> None:
    output = shared_worker.run(messages=HELLO)
    assert output["response"] == output["choices"][0]["message"]["content"] == "hello"
    assert shared_worker.last["route"] == "/v1/chat/completions"
    assert shared_worker.last["body"] == {**DEFAULTS, "messages": HELLO}


def test_what_a_client_says_comes_before_the_defaults(shared_worker: Worker) -> None:
    given = {"max_tokens": 7, "temperature": 0, "top_k": 50, "stop": ["."], "seed": 3, "model": "a-lora"}
    shared_worker.run(prompt="ahoy", **given)
    assert shared_worker.last["body"] == {**DEFAULTS, **given, "prompt": "ahoy"}
    # Null is nothing said.
    shared_worker.run(prompt="ahoy", max_tokens=None, stop=None, top_k=None)
    assert shared_worker.last["body"] == {**DEFAULTS, "prompt": "ahoy"}


def test_the_published_workers_inputs_have_its_outputs(shared_worker: Worker) -> None:
    (output,) = shared_worker.run(prompt="ahoy", sampling_params={"max_tokens": 5})
    assert output["object"] == "text_completion"
    assert output["choices"][0]["text"] == "ahoy"
    assert shared_worker.last["body"] == {"prompt": "ahoy", "max_tokens": 5, "model": "the-model"}
    pieces = shared_worker.run(messages=HELLO, sampling_params={}, stream=True)
    assert pieces[-1].endswith("data: [DONE]\n\n")


def test_several_prompts_are_one_request(shared_worker: Worker) -> None:
    output = shared_worker.run(prompts=["one", "two", "three"], max_tokens=9)
    assert output["responses"] == ["one", "two", "three"]
    assert output["usage"]["total_tokens"] == 4
    assert shared_worker.last["body"] == {**DEFAULTS, "prompt": ["one", "two", "three"], "max_tokens": 9}
    assert shared_worker.run(prompts="one")["responses"] == ["one"]
    # What has no pieces comes as one.
    (piece,) = shared_worker.run(prompts=["one"], stream=True)
    assert piece["responses"] == ["one"]
    assert "stream" not in shared_worker.last["body"]


def test_texts_become_normal_vectors_in_order(shared_worker: Worker) -> None:
    output = shared_worker.run(texts=["a", "b"])
    assert output == {
        "embeddings": [[0.6, 0.8, 0.0], [0.6, 0.8, 0.0]],
        "model": "the-model",
        "dimensions": 3,
        "count": 2,
    }
    assert shared_worker.last["route"] == "/v1/embeddings"
    assert shared_worker.last["body"] == {"input": ["a", "b"], "model": "the-model"}


def test_vectors_as_the_model_has_them(shared_worker: Worker) -> None:
    output = shared_worker.run(text="a", normalize=False)
    assert output["embeddings"] == [[3.0, 4.0, 0.0]]
    assert shared_worker.last["body"]["use_activation"] is False


def test_texts_go_in_batches_after_their_instruction(shared_worker: Worker) -> None:
    before = len(shared_worker.seen["requests"])
    output = shared_worker.run(texts=[str(n) for n in range(70)], instruction="Represent: ")
    assert output["count"] == 70
    sent = [request["body"]["input"] for request in shared_worker.seen["requests"][before:]]
    assert sorted(map(len, sent)) == [6, 32, 32]
    assert sorted(text for texts in sent for text in texts) == sorted(f"Represent: {n}" for n in range(70))
    shared_worker.run(texts=["a", "b", "c"], batch_size=2, instruction="")
    assert "instruction" not in shared_worker.last["body"]
    assert len(shared_worker.seen["requests"]) == before + 5


def test_one_refused_batch_is_the_jobs_error(shared_worker: Worker) -> None:
    error = shared_worker.error(texts=["a", "refuse"], batch_size=1)
    assert error["message"] == "This model's maximum context length is 8 tokens."


@pytest.mark.parametrize(
    ("given", "url"),
    [
        (PNG, f"data:image/png;base64,{PNG}"),
        (f"data:image/png;base64,{PNG}", f"data:image/png;base64,{PNG}"),
        (base64.b64encode(b"\xff\xd8\xff\xe0 jpeg").decode(), "data:image/jpeg;base64,/9j/4CBqcGVn"),
        ("https://example.org/boat.png", "https://example.org/boat.png"),
    ],
)
def test_a_question_about_an_image(shared_worker: Worker, given: str, url: str) -> None:
    assert shared_worker.run(image=given, prompt="What is it?")["response"] == "What is it?"
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "What is it?"}]
    expected = {**DEFAULTS, "messages": [{"role": "user", "content": content}]}
    assert shared_worker.last["body"] == expected


@pytest.mark.parametrize(
    "task",
    [
        "OCR",
        "OCR_WITH_REGION",
        "CAPTION",
        "DETAILED_CAPTION",
        "MORE_DETAILED_CAPTION",
        "OD",
        "DENSE_REGION_CAPTION",
    ],
)
def test_tasks_with_an_image(shared_worker: Worker, task: str) -> None:
    output = shared_worker.run(image=PNG, task=task)
    body = shared_worker.last["body"]
    assert output["task"] == task
    assert body["messages"][0]["content"][0]["type"] == "image_url"
    if task in ("OD", "OCR_WITH_REGION", "DENSE_REGION_CAPTION"):
        assert output["parsed"] == {f"<{task}>": {"bboxes": [[1, 2, 3, 4]], "labels": ["a boat"]}}
        schema = body["response_format"]["json_schema"]["schema"]
        assert schema["required"] == ["quad_boxes" if task == "OCR_WITH_REGION" else "bboxes", "labels"]
    else:
        assert output["parsed"] == {f"<{task}>": output["raw_output"]}
        assert "response_format" not in body


def test_speech_to_text(shared_worker: Worker) -> None:
    assert shared_worker.run(audio=WAV) == {"text": "ahoy there", "chunks": []}
    assert shared_worker.last["route"] == "/v1/audio/transcriptions"
    assert shared_worker.last["body"] == {
        "file": "RIFF....WAVE",
        "model": "the-model",
        "response_format": "json",
    }
    output = shared_worker.run(audio=WAV, task="translate", language="de", timestamps=True, prompt="A ship.")
    assert output["chunks"] == [{"timestamp": [0.0, 1.5], "text": "ahoy there"}]
    assert shared_worker.last["route"] == "/v1/audio/translations"
    assert shared_worker.last["body"]["language"] == "de"
    assert shared_worker.last["body"]["prompt"] == "A ship."
    output = shared_worker.run(audio=WAV, timestamps="word", language=None, task=None)
    assert output["chunks"] == [{"timestamp": [0.0, 0.5], "text": "ahoy"}]
    # vLLM takes a question for times of words, and has none in its answer.
    error = shared_worker.error(audio=WAV, timestamps="word", prompt="without times")
    assert error["message"] == "input.timestamps is 'word', but vLLM gave no times of words"


def test_text_to_speech(shared_worker: Worker) -> None:
    output = shared_worker.run(text="ahoy", language="fr", speaker_wav=WAV)
    assert output["format"] == "wav"
    assert output["sample_rate"] == 24000
    assert base64.b64decode(output["audio"]).startswith(b"RIFF")
    assert shared_worker.last["route"] == "/v1/audio/speech"
    assert shared_worker.last["body"] == {
        "input": "ahoy",
        "language": "fr",
        "ref_audio": f"data:audio/wav;base64,{WAV}",
        "response_format": "wav",
        "model": "the-model",
    }
    shared_worker.run(text="ahoy", task="speech")
    assert shared_worker.last["body"]["language"] == "en"


def test_openai_routes_are_passed_on_as_they_are(shared_worker: Worker) -> None:
    body = {"messages": HELLO, "model": "m", "temperature": 0}
    job = shared_worker.platform.run({"openai_route": "/v1/chat/completions", "openai_input": body})
    (output,) = job.output()
    assert output["choices"][0]["message"]["content"] == "hello"
    assert [chunk for _, chunk in job.chunks] == [output]
    assert shared_worker.last["body"] == body
    assert shared_worker.run(openai_route="/v1/models")[0]["data"][0]["id"] == "the-model"
    assert shared_worker.last["method"] == "GET"


def test_any_other_route_is_passed_on(shared_worker: Worker) -> None:
    (output,) = shared_worker.run(route="/classify", body={"input": ["x"]})
    assert output["data"][0]["probs"] == [0.25, 0.75]
    assert shared_worker.run(route="/metrics") == ["vllm:num_requests_running 0\n"]
    assert shared_worker.run(route="/health") == [""]
    assert shared_worker.error(route="/classify", method="delete")["code"] == 405


IMAGE_KINDS = "png, jpeg, gif, webp, bmp"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "input is empty: give one of openai_route, openai_input, route, messages"),
        (None, "input is empty: give one of"),
        ("ahoy", "input must be an object, not a string"),
        ({"question": "?"}, "which say what to do; it has question"),
        ({"prompt": "a", "messages": HELLO}, "input has messages and prompt, which are different kinds"),
        ({"texts": ["a"], "image": PNG}, "input has texts and image, which are different kinds of job"),
        ({"prompt": ""}, "input.prompt is empty"),
        ({"prompt": ["a"]}, "input.prompt must be a string, not a list"),
        ({"prompt": "a", "stream": "yes"}, "input.stream must be true or false, not a string"),
        ({"messages": []}, "input.messages is empty: give at least one message"),
        ({"messages": "hello"}, "input.messages must be a list of objects, not a string"),
        ({"messages": ["hello"]}, "input.messages[0] must be an object with role and content, not a string"),
        ({"prompt": "a", "sampling_params": 3}, "input.sampling_params must be an object, not a number"),
        ({"prompts": None}, "input.prompts is missing: give a list of strings, or one string"),
        ({"prompts": []}, "input.prompts is empty: give at least one string"),
        ({"prompts": {"a": 1}}, "input.prompts must be a list of strings, or one string, not an object"),
        ({"prompts": ["a", 3]}, "input.prompts[1] must be a string, not a number"),
        ({"texts": ["a"], "stream": 1}, "input.stream must be true or false, not a number"),
        ({"texts": []}, "input.texts is empty"),
        ({"texts": ["a", " "]}, "input.texts[1] is empty"),
        ({"texts": ["a"], "batch_size": 0}, "input.batch_size must be a whole number of 1 or more, not 0"),
        ({"texts": ["a"], "instruction": 3}, "input.instruction must be a string, not a number"),
        ({"texts": ["a"], "normalize": 1}, "input.normalize must be true or false, not a number"),
        ({"image": PNG}, "input.prompt is missing: give a string"),
        ({"image": "not!base64", "prompt": "a"}, "input.image is not base64"),
        ({"image": WAV[:5], "prompt": "a"}, "input.image is not base64"),
        ({"image": "QUFBQQ==", "prompt": "a"}, f"input.image is none of {IMAGE_KINDS}, nor an address"),
        ({"image": PNG, "task": "PAINT"}, "input.task is 'PAINT': it must be one of OCR, OCR_WITH_REGION"),
        ({"audio": 7}, "input.audio must be a string, not a number"),
        ({"audio": "data:audio/wav;base64,%%%"}, "input.audio is not base64"),
        ({"audio": WAV, "task": "sing"}, "input.task is 'sing': it must be one of transcribe, translate"),
        ({"audio": WAV, "timestamps": "minute"}, "input.timestamps must be true, false, segment or word"),
        ({"text": "a", "speaker_wav": "?"}, "input.speaker_wav is not base64"),
        ({"openai_route": "http://elsewhere/v1"}, "input.openai_route is 'http://elsewhere/v1': it must be"),
        ({"openai_route": "//elsewhere/v1"}, "it must be a path of vLLM's server"),
        ({"openai_route": "/v1/models", "openai_input": [1]}, "input.openai_input must be an object, not a"),
        ({"openai_input": {"a": 1}, "seed": 3}, "input.seed is not known here: such a job has openai_route"),
        ({"route": "/v1/models", "method": "LOOK"}, "input.method is 'LOOK': it must be one of GET, POST"),
        ({"route": "/tokenize", "body": "x"}, "input.body must be an object or a list, not a string"),
    ],
)
def test_wrong_inputs_are_refused_by_the_name_of_the_field(
    shared_worker: Worker, given: Any, words: str
) -> None:
    before = len(shared_worker.seen["requests"])
    error = shared_worker.platform.run(given).error()
    assert words in error["message"]
    assert error["type"] == "BadRequestError"
    assert error["code"] == 400
    assert error["param"]
    assert len(shared_worker.seen["requests"]) == before


@pytest.mark.parametrize(
    "given",
    [
        {"prompt": "refuse"},
        {"prompt": "refuse", "stream": True},
        {"openai_route": "/v1/completions", "openai_input": {"prompt": "refuse"}},
        {"openai_route": "/v1/completions", "openai_input": {"prompt": "refuse", "stream": True}},
    ],
)
def test_vllms_status_and_message_are_kept(shared_worker: Worker, given: dict[str, Any]) -> None:
    assert shared_worker.platform.run(given).error() == {
        "message": "This model's maximum context length is 8 tokens.",
        "type": "BadRequestError",
        "param": None,
        "code": 400,
    }


def test_a_route_that_vllm_does_not_have_for_its_model(shared_worker: Worker) -> None:
    error = shared_worker.error(route="/v1/rerank", body={"query": "x"})
    assert error["code"] == 404
    assert error["message"] == "vLLM serves no /v1/rerank for this endpoint's model"


def test_the_classifiers_prompts_have_probabilities(start_worker: StartWorker) -> None:
    worker = start_worker(BERTH_TASK="classify").ready()
    assert worker.run(prompts=["a", "b"]) == {"probabilities": [[0.25, 0.75], [0.25, 0.75]]}
    assert worker.last["route"] == "/classify"
    assert worker.last["body"] == {"input": ["a", "b"], "model": "the-model"}
    assert worker.run(prompts="a") == {"probabilities": [[0.25, 0.75]]}
    assert worker.run(prompt="a") == {"probabilities": [[0.25, 0.75]]}
    # What is missing, empty and of a wrong type are errors of their own.
    assert "input is empty" in worker.platform.run({}).error()["message"]
    assert "input.prompts is empty" in worker.error(prompts=[])["message"]
    assert "not a number" in worker.error(prompts=7)["message"]


def test_no_secret_is_in_a_log_or_a_command_line(shared_worker: Worker) -> None:
    import psutil

    container = psutil.Process(shared_worker.process.pid)
    lines = [" ".join(process.cmdline()) for process in [container, *container.children(recursive=True)]]
    assert len(lines) > 3
    for secret in (API_KEY, HUB_TOKEN, *shared_worker.platform.keys):
        assert secret
        assert secret not in shared_worker.log
        assert not [line for line in lines if secret in line]
    assert "key is *** and ***" in shared_worker.log
    # vLLM gets its own secrets, and nothing of what the platform tells its workers.
    assert shared_worker.seen["env"] == {
        "RUNPOD_AI_API_KEY": None,
        "RUNPOD_POD_ID": None,
        "HF_TOKEN": HUB_TOKEN,
        "VLLM_API_KEY": API_KEY,
    }


def test_prompts_and_answers_are_not_in_the_log(shared_worker: Worker) -> None:
    shared_worker.run(prompt="a private matter")
    shared_worker.error(prompt="refuse")
    assert "private" not in shared_worker.log
    assert "context length" not in shared_worker.log
