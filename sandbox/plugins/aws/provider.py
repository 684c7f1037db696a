"""The AWS provider: Pulumi's calls, answered by the table of types."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import re
from typing import TYPE_CHECKING, Any, Final

from sandbox.engine.values import UNKNOWN, Unknown, has_unknown, reveal
from sandbox.plugins.aws import invokes, lifecycle, shapes
from sandbox.plugins.aws.cloud import Cloud, Configuration
from sandbox.plugins.aws.registry import type_of
from sandbox.plugins.aws.types import Context, Type, plain_tags
from sandbox.plugins.differences import differences, top_level
from sandbox.plugins.errors import PluginError
from sandbox.plugins.host import Difference, Failure, Request
from sandbox.plugins.schema import Property, problems, provider_inputs, schema

if TYPE_CHECKING:
    from sandbox.engine.values import Properties

# Settings of the official provider that this one acts on, or that ask for what it does not do anyway.
_SETTINGS: Final = frozenset(
    {
        "accessKey", "allowedAccountIds", "defaultTags", "endpoints", "maxRetries", "profile", "region",
        "s3UsePathStyle", "secretKey", "skipCredentialsValidation", "skipMetadataApiCheck",
        "skipRegionValidation", "skipRequestingAccountId", "token",
    }
)  # fmt: skip
_DEFAULTS: Final = "__defaults"


class AwsProvider:
    """Implements `sandbox.plugins.host.Provider`."""

    name = "aws"
    accepts_secrets = False

    def __init__(self) -> None:
        self.version = importlib.metadata.version("pulumi-aws")
        self._cloud: Cloud | None = None
        # What state knows of a resource, learnt from the engine's own calls in this run.
        self._known_ids: dict[str, set[str]] = {}
        self._known_names: dict[str, str] = {}

    @property
    def cloud(self) -> Cloud:
        """AWS as configured."""
        if self._cloud is None:
            raise PluginError("aws: the provider is not configured")
        return self._cloud

    def check_config(self, news: Properties) -> list[Failure]:
        """Refuse settings that do not exist, or that this plugin does not act on."""
        given = {
            key: _parsed(value)
            for key, value in reveal(news).items()
            if key not in {"version", "pluginDownloadURL"}
        }
        found = problems(provider_inputs("aws"), given)
        refused = [key for key in given if key in provider_inputs("aws") and key not in _SETTINGS]
        return found + [
            Failure(key, f"the setting {key!r} is not supported by this plugin") for key in refused
        ]

    def diff_config(self, olds: Properties, news: Properties) -> Difference:
        """Another region means other objects; everything else is a way to the same ones."""
        olds, news = reveal(olds), reveal(news)
        paths: dict[str, str] = {}
        for key in sorted(olds.keys() | news.keys()):
            if key != "version":
                paths.update(differences(_parsed(olds.get(key)), _parsed(news.get(key)), shapes.same, key))
        return Difference(paths, frozenset({"region"} & paths.keys()))

    def configure(self, configuration: Properties) -> None:
        """Connect to AWS, and see that the account is an allowed one."""
        given = {key: _parsed(value) for key, value in configuration.items()}
        endpoints = {key: url for block in given.get("endpoints") or [] for key, url in block.items() if url}
        self._cloud = Cloud(
            Configuration(
                region=given.get("region"),
                access_key=given.get("accessKey"),
                secret_key=given.get("secretKey"),
                token=given.get("token"),
                profile=given.get("profile"),
                endpoints=endpoints,
                default_tags=dict((given.get("defaultTags") or {}).get("tags") or {}),
                max_attempts=int(given.get("maxRetries") or Configuration.max_attempts),
                path_style=given.get("s3UsePathStyle") in {True, "true"},
            )
        )
        allowed = given.get("allowedAccountIds")
        if allowed and self._cloud.account not in allowed:
            raise PluginError(
                f"aws: account {self._cloud.account} is not among allowedAccountIds {', '.join(allowed)}"
            )
        if given.get("skipCredentialsValidation") not in {True, "true"}:
            _ = self._cloud.identity

    # Resources ----------------------------------------------------------------------------------------------

    def check(self, request: Request) -> tuple[Properties, list[Failure]]:
        """Refuse what does not exist or does not fit; make up a name where none is given."""
        type_ = type_of(request.type)
        inputs = {key: value for key, value in request.inputs.items() if value is not None}
        properties = schema(type_.pulumi_type).inputs
        failures = problems(properties, inputs)
        failures += [
            Failure(key, f"{key!r} is not supported by this plugin")
            for key in inputs
            if key in properties and not type_.supports(self.cloud, key)
        ]
        inputs = {key: _as_text(value, properties.get(key)) for key, value in inputs.items()}
        if type_.name_property and type_.name_property not in inputs:
            inputs[type_.name_property] = self._name(type_, request)
            inputs[_DEFAULTS] = [type_.name_property]
        if not failures:
            failures = type_.check(inputs)
        return inputs, failures

    def _name(self, type_: Type, request: Request) -> str:
        """Return the name that the object has, or a new one.

        A name is made of the resource's URN, the account and the name of the object to be replaced, not of
        chance: a create that is made again after it was cut short finds the object that it made.
        """
        old = request.old_inputs.get(type_.name_property)
        if old and not isinstance(old, Unknown):
            self._known_names[request.urn] = str(old)
            if type_.name_property in request.old_inputs.get(_DEFAULTS, ()):
                return str(old)
        previous = self._known_names.get(request.urn, "")
        seed = f"{request.urn}\n{self.cloud.account}\n{previous}"
        suffix = hashlib.sha256(seed.encode()).hexdigest()[:7]
        base = re.sub(r"[^A-Za-z0-9-]", "-", request.name)
        if type_.name_is_lowercase:
            base = base.lower()
        room = type_.name_limit - len(type_.name_prefix) - len(suffix) - 1
        return f"{type_.name_prefix}{base[:room]}-{suffix}"

    def diff(self, request: Request) -> Difference:
        """Compare the inputs; what the table does not change in place needs a new object."""
        type_ = type_of(request.type)
        self._remember(request)
        olds, news = request.old_inputs, request.inputs
        paths: dict[str, str] = {}
        for key in sorted(olds.keys() | news.keys()):
            if key.startswith("__"):
                continue
            if key in olds and key in news:
                paths.update(differences(olds[key], news[key], shapes.same, key))
            elif olds.get(key) is not None:
                paths[key] = "delete"
            elif news.get(key) is not None:
                paths[key] = "add"
        if type_.taggable and "tags" not in paths:
            wanted = {**self.cloud.configuration.default_tags, **(news.get("tags") or {})}
            paths.update(
                differences(request.old_outputs.get("tagsAll") or {}, wanted, shapes.same, "tagsAll")
            )
        replaces = frozenset(path for path, kind in paths.items() if not type_.is_in_place(path, kind))
        status = request.old_outputs.get("status")
        if type_.status and status in type_.status.failed:
            paths["status"] = "update"
            replaces |= {"status"}
        return Difference(paths, replaces, delete_before_replace=_collides(type_, olds, news))

    def _remember(self, request: Request) -> None:
        if request.id:
            self._known_ids.setdefault(request.urn, set()).add(request.id)

    def _context(self, request: Request) -> Context:
        return Context(request, self.cloud, lifecycle.marker(request.urn, request.inputs))

    def create(self, request: Request) -> tuple[str, Properties]:
        """Make the object; in a preview, say what is known of it."""
        type_ = type_of(request.type)
        context = self._context(request)
        if request.preview:
            return "", _planned(type_, context)
        known = frozenset(self._known_ids.get(request.urn, ()))
        return lifecycle.create(type_, context, known)

    def read(self, request: Request) -> tuple[str, Properties, Properties] | None:
        """Describe the object, and say which inputs it no longer agrees with."""
        type_ = type_of(request.type)
        self._remember(request)
        context = self._context(request)
        found = type_.read(context, request.id)
        if found is None:
            return None
        outputs = type_.outputs(context, request.id, found)
        given = request.old_inputs
        if given:
            inputs = {
                key: value if key.startswith("__") else shapes.settle(value, outputs.get(key))
                for key, value in given.items()
            }
        else:
            inputs = {
                key: outputs[key] for key in schema(type_.pulumi_type).inputs if outputs.get(key) is not None
            }
        settled = dataclasses.replace(context, request=dataclasses.replace(request, inputs=inputs))
        result = lifecycle.complete(type_, settled, request.id, found)
        if type_.taggable:
            self._read_tags(type_, context, found, inputs, result)
        return request.id, inputs, result

    def _read_tags(
        self, type_: Type, context: Context, found: dict[str, Any], inputs: Properties, outputs: Properties
    ) -> None:
        actual = plain_tags(type_.tags(context, context.request.id, found))
        defaults = self.cloud.configuration.default_tags
        own = {
            key: value
            for key, value in actual.items()
            if defaults.get(key) != value or key in (inputs.get("tags") or {})
        }
        if own or inputs.get("tags") is not None:
            inputs["tags"] = own
        outputs["tags"], outputs["tagsAll"] = own, actual

    def update(self, request: Request) -> Properties:
        """Change what differs; in a preview, say what is known of the result."""
        type_ = type_of(request.type)
        context = self._context(request)
        if request.preview:
            changed = dict.fromkeys(type_.recomputed, UNKNOWN)
            planned = _planned(type_, context)
            kept = {
                key: value
                for key, value in request.old_outputs.items()
                if isinstance(planned.get(key), Unknown)
            }
            return {**planned, **kept, **changed, "id": request.id}
        paths = self.diff(request).paths
        own = {path for path in paths if top_level(path) not in {"tags", "tagsAll"}}
        if own:
            type_.update(context, request.id, own)
        if len(own) < len(paths):
            type_.update_tags(context, request.id)
        return lifecycle.settle(type_, context, request.id)

    def delete(self, request: Request) -> None:
        """Delete the object and wait until it is gone."""
        self._remember(request)
        lifecycle.delete(type_of(request.type), self._context(request), request.id)

    def invoke(self, token: str, arguments: Properties) -> Properties:
        """Call a function."""
        return invokes.call(self.cloud, token, arguments)


def _parsed(value: Any) -> Any:
    """Read a setting: the SDK sends everything but text as JSON."""
    if isinstance(value, str) and value[:1] in "[{" and value:
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _as_text(value: Any, property_: Property | None) -> Any:
    """Write a policy given as an object as JSON; the order of its keys is not kept on its way here."""
    if property_ and property_.type.json and isinstance(value, dict) and not has_unknown(value):
        return json.dumps(value, sort_keys=True)
    return value


def _collides(type_: Type, olds: Properties, news: Properties) -> bool:
    """Say whether the new object would have the name, or the place, of the old one."""
    if type_.exclusive:
        return True
    name = type_.name_property
    return bool(name) and olds.get(name) == news.get(name) and name not in news.get(_DEFAULTS, ())


def _planned(type_: Type, context: Context) -> Properties:
    """Return the outputs as far as they are known before the object is made."""
    result: Properties = {}
    for key, property_ in schema(type_.pulumi_type).outputs.items():
        result[key] = _unknown_beyond(context.inputs[key], property_) if key in context.inputs else UNKNOWN
    result.update({key: value for key, value in context.inputs.items() if key not in result})
    if "region" in result:
        result["region"] = context.region
    if type_.taggable:
        result["tags"] = context.inputs.get("tags") or {}
        result["tagsAll"] = UNKNOWN if isinstance(result["tags"], Unknown) else context.tags_all()
    return result


def _unknown_beyond(given: Any, property_: Property) -> Any:
    type_ = property_.type
    if type_.kind == "object" and type_.properties and isinstance(given, dict):
        return {
            **given,
            **{
                key: _unknown_beyond(given[key], inner) if key in given else UNKNOWN
                for key, inner in type_.properties.items()
            },
        }
    return given
