"""Route tables, routes, and which subnets use them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, ClassVar

from sandbox.plugins.aws.services.ec2 import Ec2Type
from sandbox.plugins.aws.types import Context, Operation

if TYPE_CHECKING:
    from sandbox.engine.values import Properties


class RouteTable(Ec2Type):
    """A route table; its routes are resources of their own."""

    pulumi_type = "aws:ec2/routeTable:RouteTable"
    creates = Operation("create_route_table", result="RouteTable.RouteTableId")
    reads = Operation("describe_route_tables", key="RouteTableIds", result="RouteTables[0]")
    deletes = Operation("delete_route_table", key="RouteTableId")
    listed_id = "RouteTables[].RouteTableId"
    resource_type = "route-table"

    def outputs(self, context: Context, id_: str, found: dict[str, Any]) -> Properties:
        """Leave the routes to their own resources."""
        return {**super().outputs(context, id_, found), "routes": []}


_DESTINATIONS = {
    "destinationCidrBlock": "DestinationCidrBlock",
    "destinationIpv6CidrBlock": "DestinationIpv6CidrBlock",
    "destinationPrefixListId": "DestinationPrefixListId",
}


class Route(Ec2Type):
    """A route of a table; its id is made of the table and the destination."""

    pulumi_type = "aws:ec2/route:Route"
    creates = Operation("create_route")
    reads = Operation("describe_route_tables", key="RouteTableIds", result="RouteTables[0]")
    deletes = Operation("delete_route")
    renames: ClassVar = {"egressOnlyGatewayId": "EgressOnlyInternetGatewayId"}
    exclusive = True
    in_place: ClassVar = dict.fromkeys(
        (
            "egressOnlyGatewayId",
            "gatewayId",
            "natGatewayId",
            "networkInterfaceId",
            "transitGatewayId",
            "vpcEndpointId",
            "vpcPeeringConnectionId",
        ),
        "replace",
    )

    def _place(self, context: Context) -> dict[str, str]:
        given = {**context.request.old_outputs, **context.inputs}
        place = {member: str(given[key]) for key, member in _DESTINATIONS.items() if given.get(key)}
        return {"RouteTableId": str(given["routeTableId"]), **place}

    def identify(self, context: Context, response: dict[str, Any]) -> str:
        """Make the id."""
        del response
        return self.existing(context)

    def existing(self, context: Context) -> str:
        """A table has one route to a destination."""
        place = self._place(context)
        text = "".join(value for key, value in place.items() if key != "RouteTableId")
        return f"r-{place['RouteTableId']}{hashlib.sha256(text.encode()).hexdigest()[:10]}"

    def read(self, context: Context, id_: str) -> dict[str, Any] | None:
        """Find the route in its table."""
        del id_
        place = self._place(context)
        table = super().read(context, place.pop("RouteTableId"))
        for route in (table or {}).get("Routes") or ():
            if place.items() <= route.items():
                return {**route, "RouteTableId": (table or {})["RouteTableId"]}
        return None

    def replace(self, context: Context, id_: str) -> None:
        """Point the destination elsewhere."""
        del id_
        context.call("ec2", "replace_route", **self.parameters(context))

    def delete(self, context: Context, id_: str) -> None:
        """A route is deleted by its table and destination."""
        del id_
        context.call("ec2", "delete_route", **self._place(context))

    def computed(self, context: Context, id_: str, found: dict[str, Any]) -> Properties:
        """A route has neither an ARN nor an owner."""
        del context, id_, found
        return {}


class RouteTableAssociation(Ec2Type):
    """Makes a subnet use a route table."""

    pulumi_type = "aws:ec2/routeTableAssociation:RouteTableAssociation"
    creates = Operation("associate_route_table", result="AssociationId")
    reads = Operation("describe_route_tables")
    deletes = Operation("disassociate_route_table", key="AssociationId")
    exclusive = True

    def _find(self, context: Context, name: str, value: str) -> dict[str, Any] | None:
        filters = [{"Name": f"association.{name}", "Values": [value]}]
        key = "RouteTableAssociationId" if name == "route-table-association-id" else "SubnetId"
        for table in context.call("ec2", "describe_route_tables", Filters=filters)["RouteTables"]:
            for association in table.get("Associations") or ():
                if association.get(key) == value:
                    return {"RouteTableId": table["RouteTableId"], **association}
        return None

    def existing(self, context: Context) -> str | None:
        """A subnet has one association of its own."""
        found = self._find(context, "subnet-id", str(context.inputs.get("subnetId")))
        return found["RouteTableAssociationId"] if found else None

    def orphans(self, context: Context) -> list[str]:
        """An association bears no tags, but it is the same where the subnet and the table are."""
        found = self._find(context, "subnet-id", str(context.inputs.get("subnetId")))
        same = found is not None and found["RouteTableId"] == context.inputs["routeTableId"]
        return [found["RouteTableAssociationId"]] if found and same else []

    def read(self, context: Context, id_: str) -> dict[str, Any] | None:
        """Find the association among the tables'."""
        return self._find(context, "route-table-association-id", id_)

    def computed(self, context: Context, id_: str, found: dict[str, Any]) -> Properties:
        """An association has neither an ARN nor an owner."""
        del context, id_, found
        return {}
