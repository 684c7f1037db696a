"""From what is recorded of a deployment to a page and Markdown, and how commands record it.

The records in data/report were kept by the commands themselves, of a stack `local` on two cores.
"""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from ops import engine_logs, log_lines, records
from ops.endpoints import Endpoint
from ops.errors import OpsError
from ops.report import assembly, evidence, planned, rendering, teardown
from ops.report.blocks import Chart, Line
from ops.report.charts import svg
from ops.stacks import settings_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ops.report.planned import Planned
    from tests.ops.conftest import Project

DATA = Path(__file__).parent / "data" / "report"
LOG = "(EngineCore pid=24995) INFO 11-25 22:17:47 [kv_cache_utils.py:2327]"
_LOADS = {"script", "link", "img", "iframe", "object", "embed", "video", "audio", "source", "base", "form"}


class Page(HTMLParser):
    """What is on a page, as a browser's parser would take it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.references: list[str] = []
        self.ids: list[str] = []
        self.cells: list[str] = []
        self.sections: dict[str, str] = {}
        self.charts: Counter[str] = Counter()
        self._section = "top"
        self._in: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        given = dict(attrs)
        self.references += [
            value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "srcset", "action")
        ]
        self.references += re.findall(r"url\(([^)]*)\)", f"{given.get('style')} {given.get('clip-path')}")
        if given.get("id"):
            self.ids.append(given["id"] or "")
        if tag == "section":
            self._section = given["id"] or ""
        if tag == "svg":
            self.charts[self._section] += 1
        if tag in ("td", "dd", "figure", "details"):
            self._in.append(tag)
            if tag == "td":
                self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        if self._in and self._in[-1] == tag:
            self._in.pop()

    def handle_data(self, data: str) -> None:
        self.sections[self._section] = self.sections.get(self._section, "") + data
        if self._in == ["td"]:
            self.cells[-1] += data


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The records of a stack `local`, which a test may change."""
    monkeypatch.setattr(records, "FOLDER", tmp_path)
    return Path(shutil.copytree(DATA, tmp_path / "local"))


@pytest.fixture(scope="module")
def plan() -> Planned:
    """The plan of the stack that the records are of; nobody is asked for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "FOLDER", DATA.parent / "none")
        nothing = evidence.gather("local", None)
    return planned.planned(settings_of("local"), nothing, offline=True)


def _written(plan: Planned, now: dict[str, int] | None = None) -> tuple[Page, str, str]:
    made = assembly.report(evidence.gather("local", now), plan)
    html, markdown = rendering.html(made), rendering.markdown(made)
    return Page(html), html, markdown


def _changed(folder: Path, kind: str, **fields: Any) -> None:
    (path,) = folder.glob(f"*-{kind}.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def _planned_tokens(plan: Planned) -> str:
    """Return the tokens of the KV cache on EKS, as the page writes them."""
    assert plan.plan is not None
    (chosen,) = [item for item in plan.plan.candidates if item.chosen and item.target == "eks"]
    return f"{chosen.fit.cache_tokens:,}"


@pytest.mark.usefixtures("folder")
def test_the_page_has_the_figures_of_every_record(plan: Planned) -> None:
    page, _, _ = _written(plan, {})
    deployed = page.sections["deployed"]
    for fact in (
        "Qwen/Qwen2.5-0.5B-Instruct",
        "7ae557604adf67be50417f59c2c2f167def9a775",
        "@sha256:a17262f0289fa52210df04dac64d7edfbce5f3787ca7da5274de303f885d29b6",
        "1 to 2 × g5.12xlarge (4 × nvidia-a10g)",
        "--max-model-len 2048",
        "48.7 s",
        "http://127.67.4.1:8080/v1",
        "Resources: 96",
    ):
        assert fact in deployed
    assert _planned_tokens(plan) in page.sections["plan"]
    assert "1,048,576" in page.sections["plan"]  # what vLLM said
    assert "Every check holds" in page.sections["smoke"]
    row = ["EKS", "128 tokens in, 32 out", "8", "23.5", "3,008", "752", "151", "273"]
    assert row in [page.cells[index : index + 8] for index in range(len(page.cells))]
    row = ["RunPod", "chat, short", "30", "0", "1.29", "82.5", "1,206", "3,759", "3,763", "264", "1,598"]
    assert row in [page.cells[index : index + 11] for index in range(len(page.cells))]
    assert page.charts == {"bench": 6, "load": 8}
    assert "$4,318" in page.sections["cost"]
    assert "Nothing that is recorded went wrong" in page.sections["errors"]
    assert "Deleted: 96" in page.sections["teardown"]
    assert "Destroyed, and the clouds of the sandbox are gone" in page.sections["top"]
    assert "2026-11-25 22:17:06 UTC to 2026-11-25 23:03:01 UTC" in page.sections["top"]


@pytest.mark.usefixtures("folder")
def test_the_page_asks_nobody_for_anything_and_no_two_parts_share_an_id(plan: Planned) -> None:
    page, html, _ = _written(plan)
    assert not _LOADS & set(page.tags)
    assert page.references
    assert [reference for reference in page.references if not reference.startswith("#")] == []
    assert "@import" not in html
    assert {reference[1:] for reference in page.references} <= set(page.ids)
    assert [name for name, count in Counter(page.ids).items() if count > 1] == []
    assert len(html) < 500_000


@pytest.mark.usefixtures("folder")
def test_markdown_has_every_row_of_the_page(plan: Planned) -> None:
    page, _, markdown = _written(plan)
    plain = markdown.replace("\\", "")
    assert len(page.cells) > 200
    assert [cell for cell in page.cells if " ".join(cell.split()) not in plain.replace("`", "")] == []
    assert "| seconds since the first request | EKS p50 | RunPod p50 | EKS p95 | RunPod p95 |" in markdown


def test_a_stack_that_never_was_up_is_told_each_command_that_makes_a_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plan: Planned
) -> None:
    monkeypatch.setattr(records, "FOLDER", tmp_path)
    page, _, markdown = _written(plan, {})
    assert "It has never been brought up from here" in page.sections["top"]
    for part, command in (
        ("deployed", "up"),
        ("smoke", "smoke"),
        ("bench", "bench"),
        ("load", "load"),
        ("teardown", "destroy"),
        ("teardown", "leftovers"),
    ):
        assert f"./berth {command} --stack local" in page.sections[part]
        assert f"`./berth {command} --stack local" in markdown
    assert _planned_tokens(plan) in page.sections["plan"]


def test_records_of_before_the_last_up_are_counted_and_not_mixed_in(folder: Path, plan: Planned) -> None:
    (up,) = folder.glob("*-up.json")
    later = {**json.loads(up.read_text()), "at": "2026-11-25T22:38:00+00:00"}
    (folder / "20261125T223800.000000-up.json").write_text(json.dumps(later))
    found = evidence.gather("local", None)
    assert found.older == 3  # the other up, the load and the benchmark
    assert not found.loads
    assert not found.benches
    assert found.smokes
    page, _, _ = _written(plan)
    assert page.charts == {}
    assert "Nothing" not in page.sections["bench"]
    assert "./berth bench --stack local" in page.sections["bench"]


def test_a_stack_that_is_half_destroyed_is_said_so_first(folder: Path, plan: Planned) -> None:
    left = {"aws:ec2/vpc:Vpc": 1, "aws:ec2/subnet:Subnet": 4}
    _changed(folder, "destroy", ok=False, problem="subnet-1 has dependencies", resources=left)
    for now in (None, left):
        page, _, markdown = _written(plan, now)
        assert "Half destroyed: 5 of 96 resources are still in the state" in page.sections["top"]
        assert "Half destroyed: 5 of 96" in markdown.splitlines()[2]
        assert "subnet-1 has dependencies" in page.sections["errors"]
        assert "Still in the state: 5" in page.sections["teardown"]
        assert "Deleted: 91" in page.sections["teardown"]


def test_what_is_left_or_not_looked_at_is_no_proof(folder: Path) -> None:
    thing = {"what": "volume", "id": "vol-1", "where": "arn", "why": "tagged", "hourly_usd": 0.01}
    going = {**thing, "goes_by_itself": "2026-12-02", "remove": None}
    looked = {"account": "123456789012", "looked_at": ["AWS: volume"], "not_looked_at": []}
    _changed(
        folder, "leftovers", **looked, found=[{**thing, "goes_by_itself": None, "remove": "aws ..."}, going]
    )
    assert "1 things are left" in teardown.verdict(evidence.gather("local", {})).text
    _changed(folder, "leftovers", found=[going])
    said = teardown.verdict(evidence.gather("local", {}))
    assert (said.tone, "nothing is left" in said.text) == ("good", True)
    _changed(folder, "leftovers", not_looked_at=[{"what": "AWS: key", "why": "AccessDenied"}])
    assert teardown.verdict(evidence.gather("local", {})).tone == "warn"
    # A look before the destroy is no look after it.
    _changed(folder, "leftovers", not_looked_at=[], at="2026-11-25T22:50:00+00:00")
    assert "has not been looked for" in teardown.verdict(evidence.gather("local", {})).text


def test_a_record_that_is_broken_or_of_another_version_is_named_and_the_rest_is_there(
    folder: Path, plan: Planned
) -> None:
    (bench,) = folder.glob("*-bench.json")
    bench.write_text("{")
    (load,) = folder.glob("*-load.json")
    document = json.loads(load.read_text())
    del document["series"]
    load.write_text(json.dumps(document))
    page, _, _ = _written(plan)
    assert f"{bench} is not a record of berth's" in page.sections["errors"]
    assert f"{load} is of another version of berth: series: Field required" in page.sections["errors"]
    assert "Every check holds" in page.sections["smoke"]


def test_what_servers_say_is_text_on_the_page_and_in_markdown(folder: Path, plan: Planned) -> None:
    (smoke,) = folder.glob("*-smoke.json")
    document = json.loads(smoke.read_text())
    nasty = "HTTP 500: <script>alert(1)</script> | <img src=http://x.invalid>"
    document["endpoints"][0]["checks"][0] |= {"ok": False, "problem": nasty}
    smoke.write_text(json.dumps({**document, "ok": False}))
    page, _, markdown = _written(plan)
    assert nasty in page.sections["errors"]
    assert not _LOADS & set(page.tags)
    assert "Not every check holds" in page.sections["smoke"]
    assert r"\<script>alert(1)\</script> \| \<img" in markdown


def test_a_load_that_its_sender_may_have_limited_says_so(folder: Path, plan: Planned) -> None:
    page, _, _ = _written(plan)
    assert "may have been the limit" not in page.sections["load"]
    _changed(folder, "load", sender=[{"seconds": 2.0, "cpu_percent": 97.4}])
    page, _, _ = _written(plan)
    assert "used 97% of a processor: it may have been the limit" in page.sections["load"]


def test_a_chart_has_its_points_where_its_axes_say() -> None:
    lines = [Line("a", [(1, 100.0), (2, 200.0), (4, 300.0)]), Line("b", [(1, 50.0), (2, None), (4, 50.0)])]
    drawn = str(svg(Chart("Throughput", "requests at once", "tokens/s", lines, x_doubles=True)))
    assert re.findall(r"<text[^>]*>([\d,.]+)</text>", drawn)[:3] == ["1", "2", "4"]
    uses = re.findall(r'<use xlink:href="[^"]*" x="([\d.]+)" y="([\d.]+)" style="[^"]*series-1', drawn)
    (x1, y1), (x2, y2), (x4, y3) = [(float(x), float(y)) for x, y in uses]
    assert x4 - x2 == pytest.approx(x2 - x1)
    assert y1 - y2 == pytest.approx(y2 - y3)
    assert y1 > y2
    assert len(re.findall(r'<use xlink:href="[^"]*" x="[^"]*" y="[^"]*" style="[^"]*series-2', drawn)) == 2
    assert "#010203" not in drawn


@dataclass
class _Written:
    """A platform whose only server wrote these lines, or that refuses to say."""

    written: list[str]
    refuses: bool = False
    name: str = "eks"

    def origins(self) -> list[str]:
        if self.refuses:
            raise OpsError("the cluster cannot be reached")
        return ["pod"]

    def log(self, origin: str) -> _Written:
        assert origin == "pod"
        return self

    def lines(self, *, follow: bool) -> Iterator[log_lines.Line]:
        assert not follow
        return (log_lines.Line("pod", text) for text in self.written)


@pytest.mark.parametrize(
    ("platform", "tokens"),
    [
        (
            _Written(["Loading weights took 3.1 s", f"{LOG} GPU KV cache size: 756,976 tokens, Maximum"]),
            756976,
        ),
        (_Written([f"{LOG} CPU KV cache size: 1,048,576 tokens"]), 1048576),
        (_Written(["Using LBHNC KV cache layout."]), None),
        (_Written([], refuses=True), None),
    ],
)
def test_the_room_that_vllm_says_is_read_from_its_log_and_no_log_fails_nothing(
    platform: _Written, tokens: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_logs, "_platform", lambda *_: platform)
    asked = Endpoint("eks", "http://192.0.2.1/v1", "", "key", "")
    found = engine_logs.kv_cache_tokens(asked, runpod_api="", environment={}, kubeconfig=None)
    assert found == tokens


def _pulumi(project: Project, resources: list[str], exit_status: int) -> dict[str, str]:
    """Stand in for the Pulumi CLI of a stack with these resources, whose up and destroy end so."""
    deployment = {"deployment": {"resources": [{"type": type_} for type_ in resources]}}
    outputs = {
        "targets": ["eks"],
        "model": "served",
        "image": "registry/berth@sha256:" + "0" * 64,
        "endpoints": {"eks": {"url": "http://192.0.2.1/v1", "health": "http://192.0.2.1/health"}},
        "api_key": "the-key",
        "kubeconfig": "the-kubeconfig",
    }
    (project.root / "export.json").write_text(json.dumps(deployment))
    (project.root / "outputs.json").write_text(json.dumps(outputs))
    return project.program(
        "pulumi",
        '[ "$1" = version ] && echo v3.272.0 && exit 0\n'
        f'[ "$1 $2" = "stack export" ] && exec cat "{project.root}/export.json"\n'
        f'[ "$1 $2" = "stack output" ] && exec cat "{project.root}/outputs.json"\n'
        f"exit {exit_status}",
    )


def test_up_and_a_destroy_that_fails_are_recorded_without_secrets(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = project.root / "stacks" / "Pulumi.dev.yaml"
    document = yaml.safe_load(path.read_text())
    document["config"]["berth:hubToken"] = {"secure": "v1:c2VjcmV0"}
    path.write_text(yaml.safe_dump(document))
    resources = ["aws:ec2/vpc:Vpc", "aws:ec2/subnet:Subnet", "aws:ec2/subnet:Subnet"]
    project.berth("up", "--stack", "dev", "--yes", "--no-smoke", variables=_pulumi(project, resources, 0))
    project.berth(
        "destroy", "--stack", "dev", "--yes", exit_status=1, variables=_pulumi(project, resources[:2], 1)
    )
    monkeypatch.setattr(records, "FOLDER", project.root / "results")
    found = evidence.gather("dev", None)
    assert found.unreadable == []
    assert found.up is not None
    assert found.up.said.resources == {"aws:ec2/subnet:Subnet": 2, "aws:ec2/vpc:Vpc": 1}
    assert found.up.said.outputs["endpoints"]["eks"]["url"] == "http://192.0.2.1/v1"
    assert "--served-model-name" in found.up.said.arguments
    assert found.up.said.settings["berth:hubToken"] == "[secret]"
    kept = "".join(file.read_text() for file in (project.root / "results" / "dev").iterdir())
    assert not [secret for secret in ("the-key", "the-kubeconfig", "c2VjcmV0") if secret in kept]
    assert "Half destroyed: 2 of 2 resources" in teardown.verdict(found).text


def test_the_command_writes_both_files_and_refuses_a_folder_that_is_none(project: Project) -> None:
    shutil.copytree(DATA, project.root / "results" / "local")
    done = project.berth("report", "--stack", "local", "--output", "out", "--json").stdout
    said = json.loads(done)
    assert said["files"] == {"html": "out/report.html", "markdown": "out/report.md"}
    assert "Deleted: 96" in Page((project.root / "out" / "report.html").read_text()).sections["teardown"]
    assert "Deleted: 96" in (project.root / "out" / "report.md").read_text()
    assert [section["id"] for section in said["sections"]][:2] == ["deployed", "plan"]
    (project.root / "file").write_text("")
    refused = project.berth("report", "--stack", "local", "--output", "file/x", exit_status=2).stderr
    assert "--output file/x: cannot be written to: Not a directory" in refused
