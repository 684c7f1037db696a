"""Web application firewalls, and what they stand before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from sandbox.plugins.aws.cloud import CloudError
from sandbox.plugins.aws.types import Context, Operation, Type

if TYPE_CHECKING:
    from sandbox.engine.values import Properties
    from sandbox.plugins.aws.cloud import Cloud

_LOCK_ATTEMPTS: Final = 3
_CONTENT: Final = (
    "captchaConfig",
    "challengeConfig",
    "customResponseBodies",
    "defaultAction",
    "description",
    "rules",
    "tokenDomains",
    "visibilityConfig",
)


class WebAcl(Type):
    """A web ACL; every change must name the lock token of the state that it changes."""

    pulumi_type = "aws:wafv2/webAcl:WebAcl"
    service = "wafv2"
    creates = Operation("create_web_acl", result="Summary.Id")
    reads = Operation("get_web_acl")
    deletes = Operation("delete_web_acl")
    name_property = "name"
    name_limit = 128
    in_place: ClassVar = dict.fromkeys(_CONTENT, "change")
    recomputed = frozenset({"lockToken"})
    tags_of = Operation("list_tags_for_resource", key="ResourceARN", result="TagInfoForResource.TagList")
    tagging = ("tag_resource", "untag_resource", "ResourceARN")

    def supports(self, cloud: Cloud, name: str) -> bool:
        """What has no form in the API that is known here is refused."""
        del cloud
        return name in {*_CONTENT, "name", "region", "scope", "tags"}

    def _place(self, context: Context, id_: str) -> dict[str, str]:
        given = {**context.request.old_outputs, **context.inputs}
        return {"Name": str(given["name"]), "Scope": str(given["scope"]), "Id": id_}

    def parameters(self, context: Context) -> dict[str, Any]:
        """Bodies of responses go by their key in the API."""
        bodies = {
            str(body["key"]): {"ContentType": body["contentType"], "Content": body["content"]}
            for body in context.inputs.get("customResponseBodies") or ()
        }
        parameters = super().parameters(context)
        parameters.pop("CustomResponseBodies", None)
        return {**parameters, "CustomResponseBodies": bodies} if bodies else parameters

    def existing(self, context: Context) -> str | None:
        """Find it by its name, which is its scope's only."""
        given = context.inputs
        parameters: dict[str, Any] = {"Scope": given["scope"], "Limit": 100}
        while True:
            response = context.call("wafv2", "list_web_acls", **parameters)
            for summary in response["WebACLs"]:
                if summary["Name"] == given["name"]:
                    return str(summary["Id"])
            if not response["WebACLs"] or not response.get("NextMarker"):
                return None
            parameters["NextMarker"] = response["NextMarker"]

    def read(self, context: Context, id_: str) -> dict[str, Any] | None:
        """Describe it, with its lock token."""
        try:
            response = context.call("wafv2", "get_web_acl", **self._place(context, id_))
        except CloudError as error:
            if error.not_found:
                return None
            raise
        return {**response["WebACL"], "LockToken": response["LockToken"]}

    def _locked(self, context: Context, id_: str, operation: str, **parameters: Any) -> None:
        """Change it as it is now; another change in between makes the lock token worthless."""
        for attempt in range(1, _LOCK_ATTEMPTS + 1):
            found = self.read(context, id_)
            if found is None:
                raise CloudError(operation, "WAFNonexistentItemException", f"{id_} does not exist")
            place = {**self._place(context, id_), "LockToken": found["LockToken"]}
            try:
                context.call("wafv2", operation, **place, **parameters)
            except CloudError as error:
                if error.code != "WAFOptimisticLockException" or attempt == _LOCK_ATTEMPTS:
                    raise
                context.request.pause(1.0)
            else:
                return

    def change(self, context: Context, id_: str) -> None:
        """Set all of its content."""
        kept = {"Name", "Scope", "Tags"}
        content = {key: value for key, value in self.parameters(context).items() if key not in kept}
        self._locked(context, id_, "update_web_acl", **{"Rules": [], **content})

    def delete(self, context: Context, id_: str) -> None:
        """Delete it as it is now."""
        self._locked(context, id_, "delete_web_acl")

    def outputs(self, context: Context, id_: str, found: dict[str, Any]) -> Properties:
        """Bodies of responses are a list among the properties."""
        bodies = [
            {"Key": key, **body} for key, body in sorted((found.get("CustomResponseBodies") or {}).items())
        ]
        return super().outputs(context, id_, {**found, "CustomResponseBodies": bodies or None})

    def computed(self, context: Context, id_: str, found: dict[str, Any]) -> Properties:
        """The scope is not described; it is part of the ARN."""
        del context, id_
        regional = ":regional/" in found["ARN"]
        return {"scope": "REGIONAL" if regional else "CLOUDFRONT"}


class WebAclAssociation(Type):
    """Puts a web ACL before a load balancer; its id is both ARNs."""

    pulumi_type = "aws:wafv2/webAclAssociation:WebAclAssociation"
    service = "wafv2"
    creates = Operation("associate_web_acl")
    reads = Operation("get_web_acl_for_resource", key="ResourceArn", result="WebACL")
    deletes = Operation("disassociate_web_acl", key="ResourceArn")
    exclusive = True

    def create(self, context: Context) -> str:
        """Associate them, unless an earlier try did."""
        id_ = f"{context.inputs['webAclArn']},{context.inputs['resourceArn']}"
        if self.read(context, id_) is None:
            context.call("wafv2", self.creates.name, **self.parameters(context))
        return id_

    def split(self, operation: Operation, id_: str) -> dict[str, Any]:
        """The operations take the resource only, which has one web ACL at most."""
        return {operation.key: id_.rpartition(",")[2]}

    def read(self, context: Context, id_: str) -> dict[str, Any] | None:
        """See whether it is this web ACL that the resource has."""
        acl, _, resource = id_.rpartition(",")
        found = super().read(context, id_)
        return {"WebACLArn": acl, "ResourceArn": resource} if found and found["ARN"] == acl else None
