"""What machines cost: from AWS and RunPod where they answer, else from the dated table that ships.

AWS's Price List API is asked for on-demand prices, and EC2 for those of spot machines. RunPod's catalog is
asked with the key in RUNPOD_API_KEY. Each has a few seconds: a plan waits for nobody.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.gpus import INSTANCE_GPUS
from infra.runpod.connection import KEY_VARIABLE, URL_VARIABLE
from ops.plan.asking import within

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_TABLE = Path(__file__).with_name("prices.json")
_GPU_FAMILY = "GPU instance"
_PRICING_REGION = "us-east-1"  # the API answers there for all regions
_CONNECT_SECONDS, _READ_SECONDS = 2, 4
_ALL_SECONDS = 10.0
_RUNPOD_API = "https://api.runpod.io/v2"
SPOT_SHARE = 0.7
"""What a spot machine is taken to cost of the on-demand price where EC2 does not tell: AWS says up to 90 %
less, and GPUs are the scarcest."""


@dataclass
class Prices:
    """Prices, each with where it is from.

    Attributes:
        instances: USD an hour on demand, by instance type.
        spot: USD an hour as a spot machine, by instance type.
        pools: USD an hour of a worker with one GPU, by pool.
        parts: USD an hour of what a cluster consists of beside its machines.
        monthly_parts: USD a month of what is billed by the month.
        sources: for `aws`, `spot`, `runpod` and `parts`: where the prices are from, for people.
        region: whose prices they are.
    """

    instances: dict[str, float]
    spot: dict[str, float]
    pools: dict[str, float]
    parts: dict[str, float]
    monthly_parts: dict[str, float]
    sources: dict[str, str]
    region: str
    notes: list[str] = field(default_factory=list)


def read(region: str, *, instance_types: Iterable[str], spot_types: Iterable[str], offline: bool) -> Prices:
    """Return the prices of a region.

    Args:
        region: AWS's.
        instance_types: those whose on-demand price is wanted.
        spot_types: those whose spot price is wanted.
        offline: ask nobody.
    """
    prices = _shipped(region)
    if offline:
        return prices
    wanted, spot = sorted(set(instance_types)), sorted(set(spot_types))
    asked: dict[str, Callable[[], dict[str, float]]] = {
        "aws": lambda: _on_demand(region, wanted),
        "runpod": _pools,
    }
    if spot:
        asked["spot"] = lambda: _spot(region, spot)
    answers = within(_ALL_SECONDS, asked)
    for name, known in (("aws", prices.instances), ("spot", prices.spot), ("runpod", prices.pools)):
        found = answers.get(name)
        if isinstance(found, dict) and found:
            known.update(found)
            prices.sources[name] = _ANSWERED[name].format(region=region, count=len(found))
        elif name in asked:
            prices.sources[name] += f" ({_said(name, found)})"
    return prices


def _said(name: str, answer: object) -> str:
    """Return why there is no price, without an error's own words, which may show what was sent."""
    if isinstance(answer, Exception):
        return f"no answer now: {type(answer).__name__}"
    if answer is None:
        return "no answer now"
    return f"{KEY_VARIABLE} is not set" if name == "runpod" else "none is told now"


_ANSWERED = {
    "aws": "AWS Price List API, {region}, now: {count} types, others from the table that ships",
    "spot": "EC2's spot prices, {region}, now",
    "runpod": "RunPod's catalog, now: {count} pools",
}


def _shipped(region: str) -> Prices:
    table = json.loads(_TABLE.read_text())
    aws, parts, runpod = table["aws"], table["aws_parts"], table["runpod"]
    of = "" if region == aws["region"] else f", of {aws['region']} and not of {region}"
    return Prices(
        instances=dict(aws["usd_per_hour"]),
        spot={name: price * SPOT_SHARE for name, price in aws["usd_per_hour"].items()},
        pools={pool: price * 3600 for pool, price in runpod["usd_per_second"].items()},
        parts=parts["usd_per_hour"],
        monthly_parts={**parts["usd_per_month"], "volume_gb": runpod["usd_per_volume_gb_month"]},
        sources={
            "aws": f"the table that ships, {aws['date']}{of}",
            "spot": f"{SPOT_SHARE:.0%} of the on-demand price, an assumption",
            "runpod": f"the table that ships, {runpod['date']}",
            "parts": f"the table that ships, {parts['date']}{of}",
        },
        region=region,
    )


def _client(service: str, region: str) -> Any:
    # Half a second of every command that needs no AWS.
    import boto3  # noqa: PLC0415
    from botocore.config import Config  # noqa: PLC0415

    config = Config(
        connect_timeout=_CONNECT_SECONDS, read_timeout=_READ_SECONDS, retries={"total_max_attempts": 1}
    )
    return boto3.Session().client(service, region_name=region, config=config)


def _on_demand(region: str, types: list[str]) -> dict[str, float]:
    client = _client("pricing", _PRICING_REGION)
    found = _on_demand_prices(client, region, {"instanceFamily": _GPU_FAMILY})
    for name in types:
        if name not in found and name not in INSTANCE_GPUS:
            found |= _on_demand_prices(client, region, {"instanceType": name})
    return {name: price for name, price in found.items() if name in types}


def _on_demand_prices(client: Any, region: str, which: dict[str, str]) -> dict[str, float]:
    wanted = {
        **which,
        "regionCode": region,
        "operatingSystem": "Linux",
        "tenancy": "Shared",
        "preInstalledSw": "NA",
        "capacitystatus": "Used",
    }
    filters = [{"Type": "TERM_MATCH", "Field": key, "Value": value} for key, value in wanted.items()]
    found: dict[str, float] = {}
    for page in client.get_paginator("get_products").paginate(ServiceCode="AmazonEC2", Filters=filters):
        for text in page["PriceList"]:
            offer = json.loads(text)
            for term in offer["terms"].get("OnDemand", {}).values():
                for dimension in term["priceDimensions"].values():
                    price = float(dimension["pricePerUnit"].get("USD", 0))
                    if dimension["unit"] == "Hrs" and price:
                        found[offer["product"]["attributes"]["instanceType"]] = price
    return found


def _spot(region: str, types: list[str]) -> dict[str, float]:
    answer = _client("ec2", region).describe_spot_price_history(
        InstanceTypes=types, ProductDescriptions=["Linux/UNIX"], MaxResults=1000
    )
    found: dict[str, float] = {}
    for item in answer["SpotPriceHistory"]:  # the newest first; the dearest zone counts
        name = item["InstanceType"]
        found[name] = max(found.get(name, 0.0), float(item["SpotPrice"]))
    return found


def _pools() -> dict[str, float]:
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not key:
        return {}
    import httpx  # noqa: PLC0415

    url = os.environ.get(URL_VARIABLE, _RUNPOD_API)
    response = httpx.get(
        f"{url}/catalog/gpus",
        params={"include": "AVAILABILITY", "product": "SERVERLESS"},
        headers={"Authorization": f"Bearer {key}", "User-Agent": "berth"},
        timeout=httpx.Timeout(_READ_SECONDS, connect=_CONNECT_SECONDS),
    )
    response.raise_for_status()
    found: dict[str, float] = {}
    for gpu in response.json()["gpus"]:
        price = float((gpu.get("price") or {}).get("serverless") or 0)
        if gpu.get("pool") and price:  # of a pool's types, the dearest: a worker may get any
            found[gpu["pool"]] = max(found.get(gpu["pool"], 0.0), price)
    return found
