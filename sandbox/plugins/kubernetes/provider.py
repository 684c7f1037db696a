"""The Kubernetes provider: Pulumi's calls, answered by the Kubernetes API for any kind that it serves."""

from __future__ import annotations

import importlib.metadata
import os
import re
import time
from typing import TYPE_CHECKING, Any, Final

from sandbox.engine.values import Unknown, equal, has_unknown, reveal
from sandbox.plugins.differences import differences
from sandbox.plugins.errors import PluginError
from sandbox.plugins.host import Difference, Failure, Request
from sandbox.plugins.kubernetes import awaiting, kubeconfig, objects
from sandbox.plugins.kubernetes.cluster import (
    FIELD_MANAGER,
    ApiError,
    Cluster,
    Kind,
    UnknownKindError,
    UnreachableError,
)
from sandbox.plugins.kubernetes.redaction import redacted
from sandbox.plugins.schema import problems, provider_inputs, truth

if TYPE_CHECKING:
    from sandbox.engine.values import Properties

# Settings of the official provider that this one acts on, or that ask for what it does anyway.
_SETTINGS: Final = frozenset(
    {
        "cluster", "clusterIdentifier", "context", "deleteUnreachable", "enableConfigMapMutable",
        "enablePatchForce", "enableSecretMutable", "enableServerSideApply", "kubeconfig", "namespace",
        "suppressDeprecationWarnings", "suppressHelmHookWarnings",
    }
)  # fmt: skip
_SHORTEST_PAUSE_SECONDS: Final = 0.2
_LONGEST_PAUSE_SECONDS: Final = 2.0
# As long as the official provider tries again where a kind is not served.
_KIND_SECONDS: Final = 60.0
_FIELD: Final = re.compile(r'unknown field "([^"]+)"|Go struct field \w+\.(\S+) of type')


class KubernetesProvider:
    """Implements `sandbox.plugins.host.Provider`."""

    name = "kubernetes"
    accepts_secrets = True

    def __init__(self) -> None:
        self.version = importlib.metadata.version("pulumi-kubernetes")
        self._cluster: Cluster | None = None
        self._namespace = "default"
        self._delete_unreachable = False
        self._mutable: frozenset[str] = frozenset()
        # Names that state knows, learnt from the engine's own calls in this run.
        self._known_names: dict[str, str] = {}

    @property
    def cluster(self) -> Cluster:
        """The cluster as configured."""
        if self._cluster is None:
            raise PluginError("kubernetes: the provider is not configured")
        return self._cluster

    def check_config(self, news: Properties) -> list[Failure]:
        """Refuse settings that do not exist, or that this plugin does not act on."""
        given = {
            key: value for key, value in reveal(news).items() if key not in {"version", "pluginDownloadURL"}
        }
        properties = provider_inputs("kubernetes")
        found = problems(properties, given)
        refused = [key for key in given if key in properties and key not in _SETTINGS]
        found += [Failure(key, f"the setting {key!r} is not supported by this plugin") for key in refused]
        if not truth(given.get("enableServerSideApply", True)):
            found.append(Failure("enableServerSideApply", "this plugin applies on the server only"))
        return found

    def diff_config(self, olds: Properties, news: Properties) -> Difference:
        """Another cluster means other objects: told by `clusterIdentifier`, else by the API's address."""
        olds, news = reveal(olds), reveal(news)
        paths: dict[str, str] = {}
        for key in sorted((olds.keys() | news.keys()) - {"version"}):
            paths.update(differences(olds.get(key), news.get(key), equal, key))
        if "clusterIdentifier" in olds or "clusterIdentifier" in news:
            return Difference(paths, frozenset({"clusterIdentifier"} & paths.keys()))
        moved = paths.keys() & {"kubeconfig", "context", "cluster"} and _server(olds) != _server(news)
        return Difference(
            paths, frozenset(paths.keys() & {"kubeconfig", "context", "cluster"}) if moved else frozenset()
        )

    def configure(self, configuration: Properties) -> None:
        """Read the kubeconfig; the cluster is called when it is first needed."""
        text = configuration.get("kubeconfig") or os.environ.get("KUBECONFIG") or "~/.kube/config"
        parsed = kubeconfig.parse(
            text, context=configuration.get("context"), cluster=configuration.get("cluster")
        )
        self._cluster = Cluster(parsed)
        self._namespace = configuration.get("namespace") or parsed.namespace
        self._delete_unreachable = truth(
            configuration.get("deleteUnreachable") or os.environ.get("PULUMI_K8S_DELETE_UNREACHABLE", "")
        )
        settings = {"Secret": "enableSecretMutable", "ConfigMap": "enableConfigMapMutable"}
        self._mutable = frozenset(kind for kind, key in settings.items() if truth(configuration.get(key)))

    # Check and Diff -----------------------------------------------------------------------------------------

    def check(self, request: Request) -> tuple[Properties, list[Failure]]:
        """Name the object where it has no name, and have the server say what it would refuse."""
        inputs = dict(request.inputs)
        identity = objects.identity(request.type, inputs)
        inputs.update(apiVersion=identity.api_version, kind=identity.kind)
        given = inputs.get("metadata")
        if isinstance(reveal(given), (dict, type(None))):
            inputs["metadata"] = self._named(request, dict(reveal(given) or {}))
        elif not has_unknown(given):
            return inputs, [Failure("metadata", "'metadata' must be an object")]
        try:
            kind = self.cluster.kind(identity.api_version, identity.kind)
        except UnreachableError as error:
            request.say(str(error))
            return inputs, []
        except UnknownKindError as error:
            if "." not in identity.api_version.partition("/")[0]:
                return inputs, [Failure("kind", str(error))]
            return inputs, []  # it may be defined by a resource of this same program
        own = inputs["metadata"]
        if kind.namespaced and isinstance(own, dict):
            own.setdefault("namespace", self._namespace)
        return inputs, self._refusals(request, inputs, kind)

    def _named(self, request: Request, metadata: dict[str, Any]) -> dict[str, Any]:
        """Return the metadata with the name that the object has, or a new one."""
        old = objects.metadata(request.old_inputs)
        if isinstance(old.get("name"), str):
            self._known_names[request.urn] = old["name"]
        if "name" in metadata or "generateName" in metadata:
            return metadata
        annotations = metadata.get("annotations") or {}
        if objects.annotation(request.old_inputs, objects.AUTONAMED) == "true":
            name = old["name"]
        else:
            name = objects.generated_name(request.name, request.urn, self._known_names.get(request.urn, ""))
        return {**metadata, "name": name, "annotations": {**annotations, objects.AUTONAMED: "true"}}

    def _refusals(self, request: Request, inputs: Properties, kind: Kind) -> list[Failure]:
        """Have the server check the object without making it."""
        partial = has_unknown(inputs)
        identity = objects.Identity(kind.api_version, kind.kind)
        body = objects.without_unknowns(objects.body(inputs, identity, request.urn))
        namespace = body["metadata"].get("namespace", self._namespace)
        try:
            self.cluster.validate(kind, namespace, body)
        except UnreachableError as error:
            request.say(str(error))
        except ApiError as error:
            return self._judged(error, inputs, kind, namespace, partial=partial)
        return []

    def _judged(
        self, error: ApiError, inputs: Properties, kind: Kind, namespace: str, *, partial: bool
    ) -> list[Failure]:
        """Return what of a refusal is the inputs' fault."""
        words = redacted(error.message, inputs)
        if error.reason == "BadRequest":
            match = _FIELD.search(words)
            field = (match[1] or match[2]) if match else "metadata"
            if match is None and partial:
                return []
            return [Failure(field, " ".join(words.split()))]
        if error.reason == "Invalid" and not partial:
            name = objects.metadata(inputs).get("name", "")
            if self.cluster.get(kind, namespace, name) is None:
                return [Failure("spec" if "spec" in inputs else "metadata", " ".join(words.split()))]
        # What else a dry run is refused for (no such namespace yet, exists already) is not the inputs' fault.
        return []

    def diff(self, request: Request) -> Difference:
        """Compare the inputs; what a kind does not let change needs a new object."""
        olds, news = request.old_inputs, request.inputs
        name = objects.metadata(olds).get("name")
        if isinstance(name, str):
            self._known_names[request.urn] = name
        paths: dict[str, str] = {}
        for key in sorted(olds.keys() | news.keys()):
            if key.startswith("__"):
                continue
            if key in olds and key in news:
                paths.update(differences(olds[key], news[key], equal, key))
            else:
                paths[key] = "delete" if key in olds else "add"
        if self._own_namespace(olds) == self._own_namespace(news):
            paths.pop("metadata.namespace", None)  # given in one of them only, where it is the default
        frozen = objects.immutable(news, mutable=self._mutable)
        replaces = frozenset(
            path
            for path in paths
            if any(path == item or path.startswith((f"{item}.", f"{item}[")) for item in frozen)
        )
        same_name = objects.metadata(news).get("name") == name and self._own_namespace(
            olds
        ) == self._own_namespace(news)
        fixed = objects.annotation(news, objects.AUTONAMED) != "true"
        return Difference(paths, replaces, delete_before_replace=same_name and fixed)

    def _own_namespace(self, values: Properties) -> Any:
        return objects.metadata(values).get("namespace") or self._namespace

    # Create, Read, Update, Delete ---------------------------------------------------------------------------

    def _place(self, request: Request, values: Properties) -> tuple[Kind, str | None, str]:
        identity = objects.identity(request.type, reveal(values))
        kind = self.cluster.kind(identity.api_version, identity.kind)
        own = objects.metadata(values)
        if request.id:
            namespace, _, name = request.id.rpartition("/")
        else:
            namespace, name = own.get("namespace") or self._namespace, own["name"]
        return kind, (namespace or self._namespace) if kind.namespaced else None, name

    def create(self, request: Request) -> tuple[str, Properties]:
        """Apply the object, unless one of that name is somebody else's."""
        if request.preview:
            return "", objects.planned(request.inputs)
        kind, namespace, name = self._served(request)
        id_ = f"{namespace}/{name}" if namespace else name
        there = self._free(request, kind, namespace, name)
        if there is not None and objects.annotation(there, objects.MARKER) != objects.marker(request.urn):
            raise PluginError(
                f"{kind.kind} {id_} exists already, and was not made by this resource; "
                "import it or choose another name"
            )
        body = objects.body(request.inputs, objects.Identity(kind.api_version, kind.kind), request.urn)
        applied = self._apply(request, kind, namespace, body)
        return id_, awaiting.ready(self.cluster, request, kind, namespace, applied, id_)

    def _served(self, request: Request) -> tuple[Kind, str | None, str]:
        """Return where the object goes; a kind that is not served yet is waited for.

        Raises:
            PluginError: it does not get served.
        """
        deadline = time.monotonic() + min(_KIND_SECONDS, request.timeout_seconds)
        while True:
            try:
                return self._place(request, request.inputs)
            except UnknownKindError as error:
                if time.monotonic() > deadline:
                    raise PluginError(
                        "creation failed because the Kubernetes API server reported that the apiVersion for "
                        "this resource does not exist. Verify that any required CRDs have been created: "
                        f"{error}"
                    ) from error
                request.say(str(error))
                request.pause(_LONGEST_PAUSE_SECONDS)

    def _free(self, request: Request, kind: Kind, namespace: str | None, name: str) -> dict[str, Any] | None:
        """Return the object that has the name; one that is being deleted is waited for."""
        deadline = time.monotonic() + request.timeout_seconds
        while True:
            found = self.cluster.get(kind, namespace, name)
            if found is None or "deletionTimestamp" not in found["metadata"]:
                return found
            if time.monotonic() > deadline:
                raise PluginError(f"{kind.kind} {name} of an earlier update is still being deleted")
            request.say(f"{kind.kind} {name} of an earlier update is still being deleted")
            request.pause(_SHORTEST_PAUSE_SECONDS)

    def _ignore(self, request: Request, kind: Kind, namespace: str | None, body: dict[str, Any]) -> None:
        """Leave ignored properties as they are in the cluster."""
        live = self.cluster.get(kind, namespace, body["metadata"]["name"]) if request.ignore_changes else None
        if live is not None:
            objects.leave_to_others(body, live, request.ignore_changes, FIELD_MANAGER)

    def _apply(
        self,
        request: Request,
        kind: Kind,
        namespace: str | None,
        body: dict[str, Any],
        *,
        dry_run: bool = False,
    ) -> dict[str, Any]:
        try:
            return self.cluster.apply(kind, namespace, body, dry_run=dry_run)
        except ApiError as error:
            raise ApiError(error.status, error.reason, redacted(error.message, request.inputs)) from error

    def update(self, request: Request) -> Properties:
        """Apply the object again; in a preview, have the server say what it would be, or why it refuses."""
        planned = {**request.old_outputs, **objects.planned(request.inputs)}
        if request.preview and has_unknown(request.inputs):
            return planned
        try:
            kind, namespace, _ = self._place(request, request.inputs)
            body = objects.body(request.inputs, objects.Identity(kind.api_version, kind.kind), request.urn)
            self._ignore(request, kind, namespace, body)
            applied = self._apply(request, kind, namespace, body, dry_run=request.preview)
        except UnreachableError as error:
            if not request.preview:
                raise
            request.say(str(error))
            return planned
        except ApiError as error:
            if request.preview and error.reason not in {"BadRequest", "Invalid"}:
                return planned  # what it is refused for may be mended by then
            raise
        if request.preview:
            return planned
        return awaiting.ready(self.cluster, request, kind, namespace, applied, request.id)

    def read(self, request: Request) -> tuple[str, Properties, Properties] | None:
        """Describe the object, and say which inputs it no longer agrees with.

        What the server would make of the inputs today is compared with what is there, so that its own
        defaults and ways of writing a value are no drift.
        """
        values = request.old_inputs or request.old_outputs
        try:
            kind, namespace, name = self._place(request, values)
        except UnknownKindError:
            return None  # with its definition went all objects of the kind
        live = self.cluster.get(kind, namespace, name)
        if live is None:
            return None
        if not request.old_inputs:
            return request.id, objects.outputs(live), objects.outputs(live)
        body = objects.body(request.old_inputs, objects.Identity(kind.api_version, kind.kind), request.urn)
        inputs = dict(request.old_inputs)
        try:
            applied = self.cluster.apply(kind, namespace, body, dry_run=True)
        except ApiError as error:
            request.say(f"drift cannot be told: {redacted(str(error), inputs)}")
        else:
            inputs = objects.settle(inputs, applied, live)
            objects.settle_text_data(inputs, applied, live)
        return request.id, inputs, awaiting.outputs(live, inputs)

    def delete(self, request: Request) -> None:
        """Delete the object and what it owns, and wait until it is gone."""
        try:
            self._delete(request)
        except UnreachableError as error:
            if self._delete_unreachable:
                return
            raise UnreachableError(
                f"{error}; if the cluster is gone for good, "
                "set PULUMI_K8S_DELETE_UNREACHABLE=true to drop its objects"
            ) from error

    def _delete(self, request: Request) -> None:
        try:
            kind, namespace, name = self._place(request, request.old_inputs or request.old_outputs)
        except UnknownKindError:
            return  # with its definition went all objects of the kind
        found = self.cluster.get(kind, namespace, name)
        if found is None:
            return
        self.cluster.delete(kind, namespace, name)
        if objects.annotation(request.old_inputs, objects.SKIP_AWAIT) == "true":
            return
        awaiting.gone(self.cluster, request, kind, namespace, found)

    def invoke(self, token: str, arguments: Properties) -> Properties:
        """The functions of the official provider render files, which this one does not."""
        del arguments
        raise PluginError(
            f"the function {token} is not supported by this plugin; the official kubernetes plugin has it"
        )


def _server(configuration: Properties) -> str | None:
    text = configuration.get("kubeconfig")
    if not isinstance(text, str) or isinstance(text, Unknown):
        return None
    try:
        return kubeconfig.parse(
            text, context=configuration.get("context"), cluster=configuration.get("cluster")
        ).server
    except PluginError:
        return text
