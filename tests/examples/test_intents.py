"""The intents example from sentences to a served classifier: the same numbers at every step."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from infra.weights_copy import WeightsCopyProvider
from tests.examples.conftest import BASE, KEYS, OF_BASE, REVISION, Served, intents
from tests.sandbox_aws.support import Sandbox

CHANCE = 1 / 8


@pytest.fixture(scope="module")
def measured(
    adapter: Path, merged: Path, served: Served, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What one process has measured: everywhere the same sentences, and the speed of vLLM's own route."""
    picture = tmp_path_factory.mktemp("picture") / "confusion.png"
    sources = [str(adapter), str(merged), served.vllm, served.queue]
    evaluated, too_bad, table, fast = intents(
        ["evaluate", *sources, "--json", "--picture", str(picture)],
        ["evaluate", served.queue, "--require-accuracy", "0.99"],
        ["evaluate", served.vllm],
        ["bench", served.vllm, "--json"],
        variables=KEYS,
    )
    assert evaluated.status == 0, evaluated.err
    return {
        **json.loads(evaluated.out),
        "picture": picture.read_bytes(),
        "too_bad": too_bad,
        "table": table,
        "bench": fast,
    }


def test_it_learns(measured: dict[str, Any]) -> None:
    assert measured["sentences"] == 96
    assert measured["results"][0]["accuracy"] > 3 * CHANCE


def test_numbers_are_the_same_before_and_after_the_merge_and_through_both_doors(
    measured: dict[str, Any],
) -> None:
    first, *others = measured["results"]
    assert len(others) == 3
    for other in others:
        assert 0 < other["largest_difference_from_first"] < 1e-4
        for figure in ("accuracy", "intents", "confusion_matrix"):
            assert other[figure] == first[figure]


def test_figures_agree_with_each_other(measured: dict[str, Any]) -> None:
    result = measured["results"][-1]
    matrix = result["confusion_matrix"]
    assert [sum(row) for row in matrix] == [12] * 8
    right = [matrix[index][index] for index in range(8)]
    assert result["accuracy"] == pytest.approx(sum(right) / 96)
    assert [one["recall"] for one in result["intents"].values()] == pytest.approx([n / 12 for n in right])
    taken_for = [sum(column) for column in zip(*matrix, strict=True)]
    assert [one["precision"] for one in result["intents"].values()] == pytest.approx(
        [n / taken if taken else 0 for n, taken in zip(right, taken_for, strict=True)]
    )


def test_the_confusion_matrices_are_a_picture(measured: dict[str, Any]) -> None:
    assert measured["picture"].startswith(b"\x89PNG")
    width, height = struct.unpack_from(">II", measured["picture"], 16)
    assert width > 4 * 500
    assert height > 500


def test_a_table_for_people(measured: dict[str, Any]) -> None:
    table = measured["table"]
    assert table.status == 0
    assert "report_damage" in table.out
    assert f"accuracy {measured['results'][0]['accuracy']:.3f} on 96 sentences" in table.out


def test_too_low_an_accuracy_is_a_failure(measured: dict[str, Any]) -> None:
    assert measured["too_bad"].status == 1
    assert "is below 0.99" in measured["too_bad"].err


def test_batches_are_timed(measured: dict[str, Any]) -> None:
    assert measured["bench"].status == 0, measured["bench"].err
    figures = json.loads(measured["bench"].out)
    assert [one["batch_size"] for one in figures] == [1, 4, 8, 16, 32]
    for one in figures:
        assert 0 < one["p50_ms"] <= one["p95_ms"]
        assert one["sentences_per_second"] > 0


def _changed(adapter: Path, folder: Path, change: str) -> Path:
    """Copy an adapter, and change its weights: another shape of the first tensor, or its end cut off."""
    shutil.copytree(adapter, folder)
    path = folder / "adapter_model.safetensors"
    content = path.read_bytes()
    (size,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + size])
    if change == "cut":
        path.write_bytes(content[:-100])
        return folder
    first = next(name for name in header if "lora_A" in name)
    rows, columns = header[first]["shape"]
    header[first]["shape"] = [rows // 2, columns * 2]
    encoded = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + content[8 + size :])
    return folder


@pytest.fixture(scope="module")
def refused(adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What is said to wrong inputs, one process for all; nothing is written for any of them."""
    folder = tmp_path_factory.mktemp("refused")
    other_shape = _changed(adapter, folder / "other-shape", "shape")
    cut = _changed(adapter, folder / "cut", "cut")
    no_weights = _changed(adapter, folder / "no-weights", "cut")
    (no_weights / "adapter_model.safetensors").unlink()
    (folder / "full").mkdir()
    (folder / "full" / "kept").touch()
    (folder / "bad.jsonl").write_text('{"text": "Hello", "intent": "greet"}\n{"text": "Bye"}\n')
    (folder / "one.jsonl").write_text('{"text": "Hello", "intent": "greet"}\n')
    output = str(folder / "output")
    commands = {
        "other base": ["merge", str(adapter), output, "--base", "harbour/other", "--revision", BASE[1]],
        "other revision": ["merge", str(adapter), output, "--base", BASE[0], "--revision", "d" * 40],
        "other shape": ["merge", str(other_shape), output, *OF_BASE],
        "cut": ["merge", str(cut), output, *OF_BASE],
        "no weights": ["merge", str(no_weights), output, *OF_BASE],
        "no adapter": ["merge", str(folder / "nowhere"), output, *OF_BASE],
        "full output": ["merge", str(adapter), str(folder / "full"), *OF_BASE],
        "bad line": ["finetune", output, "--train", str(folder / "bad.jsonl")],
        "one intent": ["finetune", output, "--train", str(folder / "one.jsonl")],
        "no sentences": ["evaluate", str(adapter), "--test", str(folder / "nowhere")],
        "other intents": ["evaluate", str(adapter), "--test", str(folder / "two.jsonl")],
        "no model": ["evaluate", str(folder / "full")],
        "no route": ["evaluate", "http://127.0.0.1:9/v1"],
        "no server": ["bench", "http://127.0.0.1:9/classify"],
        "wrong picture": ["evaluate", str(adapter), "--picture", str(folder / "picture.exe")],
    }
    (folder / "two.jsonl").write_text(
        '{"text": "Hi", "intent": "greet"}\n{"text": "Bye", "intent": "part"}\n'
    )
    done = dict(zip(commands, intents(*commands.values()), strict=True))
    for name, one in done.items():
        assert one.status == 1, name
        assert one.err.count("error:") == 1, one.err
        assert "Traceback" not in one.err
    assert not (folder / "output").exists()
    return {name: one.err for name, one in done.items()}


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (
            "other base",
            "was trained on {base} at {revision}, not on harbour/other at {revision}",
        ),
        ("other base", "merge it with --base {base} --revision {revision}"),
        ("other revision", "was trained on {base} at {revision}, not on {base} at dddddddd"),
        ("other shape", "is (8, 512) in the adapter and has to be (16, 256)"),
        ("cut", "its weights cannot be read"),
        ("no weights", "there is no adapter_model.safetensors in it"),
        ("no adapter", "there is no adapter_config.json in it"),
        ("full output", "has files in it"),
        ("bad line", 'bad.jsonl, line 2: must be {{"text": "...", "intent": "..."}}'),
        ("one intent", "has 1 intents: a classifier needs two or more"),
        ("no sentences", "No such file or directory"),
        ("other intents", "its classes are book_slot, change_booking"),
        ("no model", "is neither an adapter nor a model"),
        ("no route", "must end in /classify, or for a queue of RunPod's in /runsync"),
        ("no server", "ConnectError"),
        ("wrong picture", "the picture cannot be written"),
    ],
)
def test_what_cannot_be_is_refused(refused: dict[str, str], what: str, said: str) -> None:
    assert said.format(base=BASE[0], revision=BASE[1]) in refused[what]


def test_an_endpoint_that_refuses_says_why(served: Served) -> None:
    without, wrong = intents(["evaluate", served.queue]), intents(["bench", served.vllm + "x/classify"])
    assert without[0].status == wrong[0].status == 1
    assert "HTTP 401 (set ENDPOINT_KEY)" in without[0].err
    assert "HTTP 404" in wrong[0].err


def test_a_bucket_with_the_merged_model_needs_no_copy_from_a_hub(
    merged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commands of examples/README.md, and what `eks.s3_weights` makes of what they leave."""
    address = f"s3://harbour-models/harbour/intents/{REVISION}"
    (tmp_path / "aws").mkdir()
    sandbox = Sandbox(tmp_path / "aws").start()
    try:
        for arguments in (
            ["mb", "s3://harbour-models"],
            ["sync", "--only-show-errors", str(merged), address],
            ["cp", "-", f"{address}.complete"],
        ):
            subprocess.run(
                [Path(sys.executable).with_name("aws"), "s3", *arguments],
                input=REVISION.encode(),
                env=sandbox.environment,
                check=True,
                timeout=120,
            )
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, sandbox.environment[name])
        wanted = {
            "project": "a-build-that-would-fail",
            "bucket": "harbour-models",
            "prefix": f"harbour/intents/{REVISION}",
            "region": "us-east-1",
            "endpoint": sandbox.endpoint,
            "timeout_minutes": 5,
        }
        assert WeightsCopyProvider().create(wanted).id == f"harbour-models/harbour/intents/{REVISION}"
        listed = sandbox.client("s3").list_objects_v2(Bucket="harbour-models", Prefix=f"{wanted['prefix']}/")
        names = {item["Key"].rpartition("/")[2] for item in listed["Contents"]}
        assert names == {path.name for path in merged.iterdir()}
        assert {"config.json", "model.safetensors", "tokenizer.json"} <= names
    finally:
        sandbox.stop()
