"""What the hub says of a stack's model before anything is created, by a small hub on this machine."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from infra.settings import AdapterSettings, load
from ops import models
from ops.errors import OpsError
from ops.stacks import STACKS_FOLDER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infra.settings import Settings
    from tests.ops.conftest import Project

_MODEL = "Qwen/Qwen2.5-7B-Instruct"
_COMMIT = "a09a35458c702b33eeacc393d103063234e8bc28"
_ADAPTER = AdapterSettings(name="team/sql", revision="0" * 40)
_CONFIG = f"/{_MODEL}/resolve/{_COMMIT}/config.json"
_ADAPTER_CONFIG = f"/team/sql/resolve/{'0' * 40}/adapter_config.json"
_GOOD_ADAPTER = {"base_model_name_or_path": _MODEL, "r": 16}


@dataclass
class Hub:
    """Answers as the hub does: its statuses, and the header that says which of its errors it is.

    Args:
        files: the content of each path that is there.
        gated: whether everything wants a token, and one that is let in.
        errors: paths that are answered with a status and an error code.
    """

    files: dict[str, Any] = field(default_factory=lambda: {_CONFIG: {}, _ADAPTER_CONFIG: _GOOD_ADAPTER})
    gated: bool = False
    errors: dict[str, tuple[int, str]] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    url: str = ""


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""

    def do_GET(self) -> None:
        key = self.headers["Authorization"]
        self.hub.asked.append((self.path, key))
        if self.path in self.hub.errors:
            status, code = self.hub.errors[self.path]
            self._send(status, b"", code)
        elif self.hub.gated and key != "Bearer hf_right":
            self._send(403 if key else 401, b"", "GatedRepo")
        elif self.path in self.hub.files:
            self._send(200, json.dumps(self.hub.files[self.path]).encode())
        else:
            self._send(404, b"", "EntryNotFound")

    def _send(self, status: int, body: bytes, code: str = "") -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    told = Hub()
    http = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": told}))
    told.url = f"http://127.0.0.1:{http.server_port}"
    monkeypatch.setenv("HF_ENDPOINT", told.url)
    thread = threading.Thread(target=http.serve_forever, args=(0.05,))
    thread.start()
    yield told
    http.shutdown()
    thread.join()
    http.server_close()


def _settings(**model: Any) -> Settings:
    read = load(STACKS_FOLDER / "Pulumi.dev.yaml")
    return replace(read, model=read.model.model_copy(update=model))


def _said(settings: Settings, token: str | None = None) -> str:
    with pytest.raises(OpsError) as caught:
        models.require(settings, token=lambda: token, note=pytest.fail)
    return str(caught.value)


def test_a_public_model_and_its_adapter_are_asked_for_without_the_token(hub: Hub) -> None:
    def token() -> str:
        raise AssertionError("nobody wants it")

    settings = _settings(adapters={"sql": _ADAPTER})
    models.require(settings, token=token, note=pytest.fail)
    assert hub.asked == [(_CONFIG, None), (_ADAPTER_CONFIG, None)]


def test_a_gated_model_without_a_token_says_how_to_set_one(hub: Hub) -> None:
    hub.gated = True
    said = _said(_settings())
    assert said.startswith(
        f"stacks/Pulumi.dev.yaml: berth:model: {_MODEL} is gated, and the stack has no token"
    )
    assert f"{hub.url}/{_MODEL}" in said
    assert "pulumi config set --secret berth:hubToken" in said


def test_a_token_opens_a_gated_model_and_goes_in_a_header(hub: Hub) -> None:
    hub.gated = True
    models.require(_settings(), token=lambda: "hf_right", note=pytest.fail)
    assert hub.asked == [(_CONFIG, None), (_CONFIG, "Bearer hf_right")]


def test_a_token_that_may_not_read_it_is_not_shown(hub: Hub) -> None:
    hub.gated = True
    said = _said(_settings(), token="hf_wrong")
    assert "the stack's hubToken may not read it" in said
    assert "hf_wrong" not in said


@pytest.mark.parametrize(
    ("status", "code", "token", "said"),
    [
        (404, "RevisionNotFound", None, f"{_MODEL} has no commit {_COMMIT}"),
        (401, "RepoNotFound", None, "is gated, private or not there, and the stack has no token"),
        (404, "RepoNotFound", "hf_right", "is not on the hub"),
        (401, "RepoNotFound", "hf_right", "is not on the hub"),
    ],
)
def test_a_model_or_a_commit_that_is_not_there(
    hub: Hub, status: int, code: str, token: str | None, said: str
) -> None:
    hub.errors[_CONFIG] = (status, code)
    assert said in _said(_settings(), token)


@pytest.mark.parametrize(
    ("base", "rank", "said"),
    [
        ("a/Llama-2-7b", 8, "is an adapter of a/Llama-2-7b, and model.name is Qwen/Qwen2.5-7B-Instruct"),
        (_MODEL, 64, "has the rank 64: model.max_lora_rank must be as much, and is 16"),
    ],
)
def test_an_adapter_that_does_not_go_with_the_model(hub: Hub, base: str, rank: int, said: str) -> None:
    hub.files[_ADAPTER_CONFIG] = {"base_model_name_or_path": base, "r": rank}
    found = _said(_settings(adapters={"sql": _ADAPTER}))
    assert said in found
    assert found.startswith("stacks/Pulumi.dev.yaml: berth:model.adapters.sql: team/sql ")


def test_a_repository_that_is_no_adapter(hub: Hub) -> None:
    del hub.files[_ADAPTER_CONFIG]
    assert "has no adapter_config.json: it is no LoRA adapter" in _said(_settings(adapters={"sql": _ADAPTER}))


@pytest.mark.parametrize("base", [f"mirror/{_MODEL.partition('/')[2].lower()}", "/home/me/base", None])
def test_a_mirror_of_the_base_and_a_folder_of_the_trainer_s_are_no_reason(hub: Hub, base: str | None) -> None:
    hub.files[_ADAPTER_CONFIG] = {"base_model_name_or_path": base, "r": 64}
    settings = _settings(adapters={"sql": _ADAPTER}, max_lora_rank=64)
    models.require(settings, token=lambda: None, note=pytest.fail)


@pytest.mark.parametrize("status", [None, 503, 429])
def test_where_no_hub_answers_it_is_noted_and_nothing_is_refused(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, status: int | None
) -> None:
    if status is None:
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    else:
        hub.errors[_CONFIG] = (status, "")
    notes: list[str] = []
    models.require(_settings(adapters={"sql": _ADAPTER}), token=lambda: None, note=notes.append)
    (note,) = notes
    assert "no model hub answers at http://127.0.0.1" in note
    assert f"whether servers can get {_MODEL} is not checked" in note


@pytest.mark.parametrize("command", [("preview",), ("up", "--yes")])
def test_nothing_is_started_for_a_gated_model_without_a_token(
    project: Project, hub: Hub, command: tuple[str, ...]
) -> None:
    hub.gated = True
    started = 'echo "$*" >>calls; [ "$1" = config ] && exit 255; exit 0'
    variables = {**project.program("pulumi", f'[ "$1" = version ] && echo v3.272.0 && exit 0\n{started}')}
    said = project.berth(
        *command, "--stack", "dev", exit_status=1, variables={**variables, "HF_ENDPOINT": hub.url}
    ).stderr
    assert "pulumi config set --secret berth:hubToken" in said
    assert (project.root / "calls").read_text() == "config get berth:hubToken --stack dev\n"


def test_the_token_of_the_stack_is_used_and_shown_nowhere(project: Project, hub: Hub) -> None:
    hub.gated = True
    script = (
        '[ "$1" = version ] && echo v3.272.0 && exit 0\n'
        'echo "$*" >>calls\n[ "$1" = config ] && echo hf_right\nexit 0'
    )
    done = project.berth(
        "preview",
        "--stack",
        "dev",
        variables={**project.program("pulumi", script), "HF_ENDPOINT": hub.url},
    )
    assert "hf_right" not in done.stdout + done.stderr + (project.root / "calls").read_text()
    assert (project.root / "calls").read_text().splitlines()[-1] == "preview --stack dev"
