"""`berth plan` and those it asks: a model hub, AWS's price list, EC2, RunPod's catalog; or not."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from ops.plan import public_model
from tests.infra.graph import ROOT
from tests.ops.planning import chosen, planned
from tests.runpod.conftest import KEY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.runpod.conftest import Platform

QWEN = json.loads((ROOT / "ops" / "plan" / "models.json").read_text())["Qwen/Qwen2.5-7B-Instruct"]
TOKEN = "hf_0123456789abcdef"


@dataclass
class Other:
    """A hub, and AWS's price list, as a test wants them; writes down what it is asked."""

    files: dict[str, Any] = field(default_factory=dict)
    status: int = 200
    hangs: bool = False
    redirects: dict[str, str] = field(default_factory=dict)
    spot: list[tuple[str, float]] = field(default_factory=list)
    prices: dict[str, float] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    filters: list[dict[str, str]] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)
    url: str = ""


class _Handler(BaseHTTPRequestHandler):
    other: Other

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""

    def do_GET(self) -> None:
        self.other.asked.append((self.path, self.headers["Authorization"]))
        if self.other.hangs:
            self.other.released.wait(60)
            return
        name = self.path.rpartition("/")[2]
        if name in self.other.redirects:
            self.send_response(307)
            self.send_header("Location", self.other.redirects[name])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        found = self.other.files.get(name)
        self._send(404 if found is None else self.other.status, found if found is not None else {})

    do_HEAD = do_GET  # noqa: N815

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if b"Action=DescribeSpotPriceHistory" in content:
            self._send(200, _spot_prices(self.other.spot), "text/xml")
            return
        body = json.loads(content)
        assert self.headers["X-Amz-Target"] == "AWSPriceListService.GetProducts"
        self.other.filters.append({item["Field"]: item["Value"] for item in body["Filters"]})
        if self.other.hangs:
            self.other.released.wait(60)
            return
        wanted = self.other.filters[-1].get("instanceType")
        offers = [
            json.dumps(_offer(name, price))
            for name, price in self.other.prices.items()
            if wanted in (None, name)
        ]
        self._send(200, {"FormatVersion": "aws_v1", "PriceList": offers}, "application/x-amz-json-1.1")

    def _send(self, status: int, body: Any, kind: str = "application/json") -> None:
        encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(encoded)


def _spot_prices(spot: list[tuple[str, float]]) -> bytes:
    items = "".join(
        f"<item><instanceType>{name}</instanceType><spotPrice>{price}</spotPrice></item>"
        for name, price in spot
    )
    return (
        '<DescribeSpotPriceHistoryResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">'
        f"<spotPriceHistorySet>{items}</spotPriceHistorySet></DescribeSpotPriceHistoryResponse>"
    ).encode()


def _offer(instance_type: str, price: float) -> dict[str, Any]:
    """An offer as the price list has it."""
    dimension = {"unit": "Hrs", "pricePerUnit": {"USD": f"{price:.10f}"}}
    return {
        "product": {"attributes": {"instanceType": instance_type, "regionCode": "us-east-1"}},
        "terms": {"OnDemand": {"A.B": {"priceDimensions": {"A.B.C": dimension}}}},
    }


@pytest.fixture
def other(monkeypatch: pytest.MonkeyPatch) -> Iterator[Other]:
    told = Other()
    http = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"other": told}))
    http.daemon_threads = True
    told.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, args=(0.05,))
    thread.start()
    for name in ("AWS_ENDPOINT_URL_PRICING", "AWS_ENDPOINT_URL_EC2", "HF_ENDPOINT", "RUNPOD_REST_V2_API_URL"):
        monkeypatch.setenv(name, told.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.delenv("RUNPOD_API_KEY", raising=False)
    yield told
    told.released.set()
    http.shutdown()
    thread.join()
    http.server_close()


def test_a_hub_and_a_price_list_that_answer_are_believed(other: Other) -> None:
    config = {**QWEN["config"], "num_hidden_layers": 14}
    other.files = {
        "config.json": config,
        "model.safetensors.index.json": {"metadata": {"total_size": 8 * 10**9}},
    }
    other.prices = {"g6.xlarge": 0.5, "t3.large": 0.1, "g6e.2xlarge": 2.0}
    plan = planned("--stack", "prod")
    assert plan["model"]["parameters"] < 5e9
    assert plan["model"]["source"].startswith(other.url)
    assert plan["prices"]["aws"].startswith("AWS Price List API, us-east-1, now: 3 types")
    by_name = {item["name"]: item for item in plan["candidates"]}
    assert by_name["g6.xlarge"]["usd_per_hour"] == 0.5
    assert by_name["g6e.2xlarge"]["usd_per_hour"] == 2.0
    assert by_name["g6e.4xlarge"]["usd_per_hour"] == 3.00424
    eks = next(item for item in plan["monthly"] if item["way"] == "eks")
    assert eks["parts"]["system nodes"] == pytest.approx(3 * (0.1 * 730 + 50 * 0.08), abs=0.01)
    assert all(item["regionCode"] == "us-east-1" for item in other.filters)
    assert "RUNPOD_API_KEY is not set" in plan["prices"]["runpod"]
    revision = "a09a35458c702b33eeacc393d103063234e8bc28"
    path = f"/Qwen/Qwen2.5-7B-Instruct/resolve/{revision}/config.json"
    assert (path, f"Bearer {TOKEN}") in other.asked
    assert not any(TOKEN in asked for asked, _ in other.asked)


@pytest.mark.parametrize(
    ("status", "content", "said"),
    [
        (401, {}, "the hub lets nobody read it without a token (401)"),
        (500, {}, "the hub answers 500"),
        (200, b"<html>", "the hub's answer is not JSON"),
        (200, [], "the hub's answer is not a JSON object"),
    ],
)
def test_a_hub_that_does_not_tell_leaves_the_table(
    other: Other, status: int, content: Any, said: str
) -> None:
    other.files, other.status = {"config.json": content}, status
    found = public_model.read("Qwen/Qwen2.5-7B-Instruct", QWEN["revision"], offline=False)
    assert said in found.source
    assert found.source.startswith("the table that ships")
    assert found.config == QWEN["config"]
    assert TOKEN not in found.source


def test_the_token_stays_with_the_hub_when_it_sends_elsewhere(other: Other) -> None:
    """As hubs do for large files: the other place gets no token."""
    elsewhere = other.url.replace("127.0.0.1", "localhost")
    other.redirects["config.json"] = f"{elsewhere}/elsewhere"
    other.files["elsewhere"] = QWEN["config"]
    found = public_model.read("Qwen/Qwen2.5-7B-Instruct", QWEN["revision"], offline=False)
    assert found.source.startswith(other.url)
    assert [key for path, key in other.asked if path == "/elsewhere"] == [None]


def test_spot_machines_have_their_price_of_the_moment(other: Other) -> None:
    other.spot = [("g6.xlarge", 0.30), ("g6.xlarge", 0.35), ("g6.2xlarge", 0.41)]
    plan = planned("--stack", "dev")
    by_name = {item["name"]: item for item in chosen(plan, "eks")}
    assert by_name["g6.xlarge"]["usd_per_hour"] == 0.35
    assert by_name["g6.2xlarge"]["usd_per_hour"] == 0.41
    assert plan["prices"]["spot"] == "EC2's spot prices, us-east-1, now"
    assert "none is told now" in plan["prices"]["aws"]


def test_others_that_hang_do_not_hold_a_plan_up(other: Other) -> None:
    other.hangs = True
    started = time.monotonic()
    plan = planned("--stack", "dev")
    assert time.monotonic() - started < 35
    assert plan["model"]["source"].startswith("the table that ships")
    assert "no answer now" in plan["prices"]["aws"]
    assert other.asked
    assert other.filters


def test_offline_asks_nobody(other: Other) -> None:
    planned("--stack", "dev", "--offline")
    assert other.asked == []
    assert other.filters == []


def test_runpods_catalog_is_asked_with_the_key(
    other: Other, runpod: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNPOD_REST_V2_API_URL", str(runpod.api.base_url).rstrip("/"))
    monkeypatch.setenv("RUNPOD_API_KEY", KEY)
    plan = planned("--stack", "dev")
    assert plan["prices"]["runpod"] == "RunPod's catalog, now: 11 pools"
    by_name = {item["name"]: item for item in plan["candidates"]}
    assert by_name["ADA_24"]["usd_per_hour"] == pytest.approx(0.00031 * 3600, abs=0.001)
    assert KEY not in json.dumps(plan)
    assert other.asked
