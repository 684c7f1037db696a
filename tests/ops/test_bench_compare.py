"""`berth bench compare`: records side by side, and those that cannot be."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from ops import records
from ops.bench.compare import compare
from ops.cli import app
from ops.errors import OpsError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from ops.records import Kind, Record


def _row(concurrency: int, *, ttft_ms: float, rate: float, platform: str = "eks") -> dict[str, Any]:
    workload = {
        "concurrency": concurrency,
        "prompt_tokens": [512],
        "output_tokens": 128,
        "batch_size": 1,
        "audio_seconds": 0,
        "requests": 4 * concurrency,
    }
    return {
        "platform": platform,
        "workload": workload,
        "complete": True,
        "answered": 4 * concurrency,
        "errors": {},
        "ttft_ms": {"p50": ttft_ms, "p90": ttft_ms, "p99": 2 * ttft_ms},
        "output_tokens_per_second": rate,
    }


@pytest.fixture
def keep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(records, "FOLDER", tmp_path)

    def kept(*rows: dict[str, Any], sequences: int = 8, kind: Kind = "bench", **more: Any) -> Record:
        document: dict[str, Any] = {
            "command": "matrix",
            "stack": "dev",
            "image": "registry/berth@sha256:" + "a" * 64,
            "settings": {"model": {"name": "a/b"}, "serving": {"max_num_seqs": sequences}},
            "endpoints": {row["platform"]: {"gpu": "L4"} for row in rows},
            "rows": list(rows),
        }
        return records.read(records.keep("dev", kind, {**document, **more}))

    return kept


def test_workloads_of_both_are_matched_and_what_differs_is_said(keep: Any) -> None:
    first = keep(_row(1, ttft_ms=50, rate=100), _row(16, ttft_ms=80, rate=800))
    second = keep(
        _row(16, ttft_ms=40, rate=1200),
        _row(64, ttft_ms=90, rate=2000),
        sequences=64,
        endpoints={"eks": {"gpu": "L40S"}},
        image="registry/berth@sha256:" + "b" * 64,
    )
    found = compare(first, second)
    assert found.differences == [
        ("image", first.document["image"], second.document["image"]),
        ("serving.max_num_seqs", 8, 64),
        ("endpoint.eks.gpu", "L4", "L40S"),
    ]
    [pair] = found.as_json()["workloads"]
    assert pair["workload"] == "16 at once, 512 tokens in, 128 out"
    assert pair["figures"]["TTFT p50 ms"] == {"a": 80, "b": 40, "ratio": 0.5}
    assert pair["figures"]["tokens/s out"] == {"a": 800, "b": 1200, "ratio": 1.5}
    assert found.only == (["1 at once, 512 tokens in, 128 out"], ["64 at once, 512 tokens in, 128 out"])


def test_two_platforms_are_not_mixed_up(keep: Any) -> None:
    both = keep(_row(1, ttft_ms=50, rate=100), _row(1, ttft_ms=70, rate=90, platform="runpod"))
    again = keep(_row(1, ttft_ms=50, rate=200), _row(1, ttft_ms=70, rate=45, platform="runpod"))
    ratios = [
        pair["figures"]["tokens/s out"]["ratio"] for pair in compare(both, again).as_json()["workloads"]
    ]
    assert ratios == [2.0, 0.5]


def test_one_platform_is_compared_with_the_other(keep: Any) -> None:
    found = compare(
        keep(_row(1, ttft_ms=50, rate=100)), keep(_row(1, ttft_ms=50, rate=50, platform="runpod"))
    )
    assert len(found.pairs) == 1
    assert {name for name, _, _ in found.differences} == {"endpoint.eks.gpu", "endpoint.runpod.gpu"}


def test_two_different_workloads_cannot_be_compared(keep: Any) -> None:
    with pytest.raises(OpsError, match="no workload in common") as raised:
        compare(keep(_row(1, ttft_ms=50, rate=100)), keep(_row(2, ttft_ms=50, rate=100)))
    assert "1 at once, 512 tokens in, 128 out" in str(raised.value)
    assert "2 at once, 512 tokens in, 128 out" in str(raised.value)


def test_a_record_of_another_command_is_refused(keep: Any) -> None:
    with pytest.raises(UsageError, match="is a record of `smoke` and not of `bench`"):
        compare(keep(_row(1, ttft_ms=50, rate=100)), keep(kind="smoke"))


def test_the_command_shows_ratios_and_refuses_what_is_no_record(keep: Any, tmp_path: Path) -> None:
    first, second = keep(_row(1, ttft_ms=50, rate=100)), keep(_row(1, ttft_ms=25, rate=300), sequences=16)
    done = CliRunner().invoke(app, ["bench", "compare", str(first.path), str(second.path)])
    assert done.exit_code == 0
    assert "serving.max_num_seqs" in done.stdout
    assert "3.00" in done.stdout
    as_json = CliRunner().invoke(app, ["bench", "compare", str(first.path), str(second.path), "--json"])
    assert json.loads(as_json.stdout)["differences"] == [{"what": "serving.max_num_seqs", "a": 8, "b": 16}]
    other = tmp_path / "other.json"
    other.write_text("{}")
    done = CliRunner().invoke(app, ["bench", "compare", str(first.path), str(other)])
    assert done.exit_code == 2
    assert f"{other} is not a record" in done.stderr
