"""The Kubernetes provider: Pulumi's calls, answered by the Kubernetes API for any kind that it serves."""

from __future__ import annotations

import importlib.metadata
import os
import re
import time
from typing import TYPE_CHECKING, Any, Final

from sandbox.engine.values import Unknown, annotate_secrets, equal, has_unknown, reveal
from sandbox.plugins.differences import differences
from sandbox.plugins.errors import NotReadyError, PluginError
from sandbox.plugins.host import Difference, Failure, Request
from sandbox.plugins.kubernetes import kubeconfig, objects
from sandbox.plugins.kubernetes.cluster import ApiError, Cluster, Kind, UnknownKindError, UnreachableError
from sandbox.plugins.kubernetes.readiness import CHECKS, Readiness
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
            return inputs, [Failure("kind", str(error))]
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
        kind = str(reveal(news.get("kind")))
        paths: dict[str, str] = {}
        for key in sorted(olds.keys() | news.keys()):
            if key.startswith("__"):
                continue
            if key in olds and key in news:
                paths.update(differences(olds[key], news[key], equal, key))
            else:
                paths[key] = "delete" if key in olds else "add"
        frozen = objects.immutable(kind, mutable=self._mutable)
        replaces = frozenset(
            path
            for path in paths
            if any(path == item or path.startswith((f"{item}.", f"{item}[")) for item in frozen)
        )
        same_name = objects.metadata(news).get("name") == name and objects.metadata(news).get(
            "namespace"
        ) == objects.metadata(olds).get("namespace")
        fixed = objects.annotation(news, objects.AUTONAMED) != "true"
        return Difference(paths, replaces, delete_before_replace=same_name and fixed)

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
        kind, namespace, name = self._place(request, request.inputs)
        id_ = f"{namespace}/{name}" if namespace else name
        there = self._free(request, kind, namespace, name)
        if there is not None and objects.annotation(there, objects.MARKER) != objects.marker(request.urn):
            raise PluginError(
                f"{kind.kind} {id_} exists already, and was not made by this resource; "
                "import it or choose another name"
            )
        body = objects.body(request.inputs, objects.Identity(kind.api_version, kind.kind), request.urn)
        applied = self._apply(request, kind, namespace, body)
        return id_, self._settled(request, kind, namespace, name, applied, id_)

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

    def _apply(
        self, request: Request, kind: Kind, namespace: str | None, body: dict[str, Any]
    ) -> dict[str, Any]:
        try:
            return self.cluster.apply(kind, namespace, body)
        except ApiError as error:
            raise ApiError(error.status, error.reason, redacted(error.message, request.inputs)) from error

    def update(self, request: Request) -> Properties:
        """Apply the object again."""
        if request.preview:
            return {**request.old_outputs, **objects.planned(request.inputs)}
        kind, namespace, name = self._place(request, request.inputs)
        body = objects.body(request.inputs, objects.Identity(kind.api_version, kind.kind), request.urn)
        applied = self._apply(request, kind, namespace, body)
        return self._settled(request, kind, namespace, name, applied, request.id)

    def _settled(
        self,
        request: Request,
        kind: Kind,
        namespace: str | None,
        name: str,
        applied: dict[str, Any],
        id_: str,
    ) -> Properties:
        """Wait until the object is ready; return its outputs."""
        found: dict[str, Any] | None = applied
        result = self._outputs(applied, request.inputs)
        check = CHECKS.get((kind.api_version, kind.kind))
        if check is None or objects.annotation(request.inputs, objects.SKIP_AWAIT) == "true":
            return result
        deadline = time.monotonic() + request.timeout_seconds
        pause = _SHORTEST_PAUSE_SECONDS
        try:
            while True:
                if found is None:
                    raise NotReadyError([f"{kind.kind} {id_} has been deleted by somebody else"], id_, result)
                result = self._outputs(found, request.inputs)
                readiness = check(self.cluster, found)
                if readiness.ready:
                    return result
                self._give_up(readiness, kind, id_, result, request, deadline)
                request.say(readiness.waiting)
                request.pause(pause)
                pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)
                found = self.cluster.get(kind, namespace, name)
        except NotReadyError:
            raise
        except PluginError as error:
            raise NotReadyError([f"{kind.kind} {id_}: {error}"], id_, result) from error

    def _give_up(
        self,
        readiness: Readiness,
        kind: Kind,
        id_: str,
        result: Properties,
        request: Request,
        deadline: float,
    ) -> None:
        if readiness.failures:
            first, *rest = (redacted(reason, request.inputs) for reason in readiness.failures)
            raise NotReadyError([f"{kind.kind} {id_} cannot become ready: {first}", *rest], id_, result)
        if time.monotonic() > deadline:
            late = f"{kind.kind} {id_} is not ready after {request.timeout_seconds:.0f} s"
            raise NotReadyError([f"{late}: {readiness.waiting}"], id_, result)

    def _outputs(self, found: dict[str, Any], inputs: Properties) -> Properties:
        return annotate_secrets(objects.outputs(found), inputs)

    def read(self, request: Request) -> tuple[str, Properties, Properties] | None:
        """Describe the object, and say which inputs it no longer agrees with.

        What the server would make of the inputs today is compared with what is there, so that its own
        defaults and ways of writing a value are no drift.
        """
        values = request.old_inputs or request.old_outputs
        kind, namespace, name = self._place(request, values)
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
        return request.id, inputs, self._outputs(live, inputs)

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
        kind, namespace, name = self._place(request, request.old_inputs or request.old_outputs)
        found = self.cluster.get(kind, namespace, name)
        if found is None:
            return
        uid = found["metadata"]["uid"]
        self.cluster.delete(kind, namespace, name)
        if objects.annotation(request.old_inputs, objects.SKIP_AWAIT) == "true":
            return
        deadline = time.monotonic() + request.timeout_seconds
        pause = _SHORTEST_PAUSE_SECONDS
        while (found := self.cluster.get(kind, namespace, name)) and found["metadata"]["uid"] == uid:
            words = f"{kind.kind} {name}: {_holding(found)}"
            if time.monotonic() > deadline:
                raise PluginError(f"{words} after {request.timeout_seconds:.0f} s")
            request.say(words)
            request.pause(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)

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


def _holding(found: dict[str, Any]) -> str:
    """Say what keeps an object that is being deleted."""
    for condition in (found.get("status") or {}).get("conditions") or ():
        remains = condition["type"] in {"NamespaceContentRemaining", "NamespaceFinalizersRemaining"}
        if remains and condition["status"] == "True":
            return f"still there: {condition['message']}"
    finalizers = [
        *found["metadata"].get("finalizers", ()),
        *((found.get("spec") or {}).get("finalizers") or ()),
    ]
    return f"still there, held by {', '.join(finalizers)}" if finalizers else "still there"
