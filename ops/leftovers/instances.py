"""What a machine of EC2 costs an hour, asked of AWS itself: too many types to keep a table of."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from ops.leftovers.asker import Asker


def on_demand_usd(asker: Asker, instance_type: str) -> float | None:
    """Return the list price of a Linux machine in the asker's region; None where AWS does not tell.

    What is on spot costs less. Source of the filters: AWS's guide to its Price List Query API.
    """
    wanted = {
        "instanceType": instance_type,
        "regionCode": asker.region,
        "operatingSystem": "Linux",
        "preInstalledSw": "NA",
        "tenancy": "Shared",
        "capacitystatus": "Used",
    }
    filters = [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in wanted.items()]
    try:
        products = list(
            asker.items("pricing", "get_products", "PriceList", ServiceCode="AmazonEC2", Filters=filters)
        )
    except (BotoCoreError, ClientError):
        return None
    prices = [price for product in products for price in _hourly(json.loads(product))]
    return max(prices, default=None)


def _hourly(product: dict[str, Any]) -> list[float]:
    terms = product.get("terms", {}).get("OnDemand", {}).values()
    dimensions = [each for term in terms for each in term["priceDimensions"].values()]
    return [float(each["pricePerUnit"]["USD"]) for each in dimensions if each["unit"] == "Hrs"]
