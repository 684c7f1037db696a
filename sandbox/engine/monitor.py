"""The two gRPC services that a program talks to: ResourceMonitor, where it registers, and Engine, its log."""

from __future__ import annotations

from concurrent import futures
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
from google.protobuf import empty_pb2
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc, provider_pb2, resource_pb2, resource_pb2_grpc

from sandbox.engine import goal, values
from sandbox.engine.deployment import PARALLEL
from sandbox.engine.errors import EngineError, UnsupportedError
from sandbox.engine.values import UNKNOWN_STRING, Wire

if TYPE_CHECKING:
    from sandbox.engine.deployment import Deployment, Observer
    from sandbox.engine.project import Project

# The SDK has four threads for each step that may run at once, and each holds a call open.
_WORKERS = PARALLEL * 4 + 16
_SEVERITIES = {
    engine_pb2.DEBUG: "debug",
    engine_pb2.INFO: "info",
    engine_pb2.WARNING: "warning",
    engine_pb2.ERROR: "error",
}
# With those that are refused by name: otherwise the SDK itself would tell users to update their CLI.
# Without those that the SDK then does itself: alias specifications, output values, invokes that wait.
_FEATURES = [
    resource_pb2.RESOURCE_MONITOR_FEATURE_SECRETS,
    resource_pb2.RESOURCE_MONITOR_FEATURE_RESOURCE_REFERENCES,
    resource_pb2.RESOURCE_MONITOR_FEATURE_DELETED_WITH,
    resource_pb2.RESOURCE_MONITOR_FEATURE_REPLACE_WITH,
    resource_pb2.RESOURCE_MONITOR_FEATURE_REPLACEMENT_TRIGGER,
    resource_pb2.RESOURCE_MONITOR_FEATURE_TRANSFORMS,
    resource_pb2.RESOURCE_MONITOR_FEATURE_INVOKE_TRANSFORMS,
    resource_pb2.RESOURCE_MONITOR_FEATURE_PARAMETERIZATION,
    resource_pb2.RESOURCE_MONITOR_FEATURE_RESOURCE_HOOKS,
    resource_pb2.RESOURCE_MONITOR_FEATURE_ERROR_HOOKS,
]


class Log(engine_pb2_grpc.EngineServicer):
    """Passes on what the program and the providers say.

    Args:
        observer: told it.
    """

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._root = ""

    def Log(self, request: Any, context: Any) -> Any:  # noqa: ARG002, D102, N802
        severity = _SEVERITIES.get(request.severity, "info")
        self._observer.message(severity, request.message, request.urn, ephemeral=request.ephemeral)
        return empty_pb2.Empty()

    def GetRootResource(self, request: Any, context: Any) -> Any:  # noqa: ARG002, D102, N802
        return engine_pb2.GetRootResourceResponse(urn=self._root)

    def SetRootResource(self, request: Any, context: Any) -> Any:  # noqa: ARG002, D102, N802
        self._root = request.urn
        return engine_pb2.SetRootResourceResponse()

    def RequirePulumiVersion(self, request: Any, context: Any) -> Any:  # noqa: ARG002, D102, N802
        # The program's own SDK is what this engine is made for: it takes part in every version's features.
        return engine_pb2.RequirePulumiVersionResponse()


class Monitor(resource_pb2_grpc.ResourceMonitorServicer):
    """Takes the program's registrations.

    Args:
        project: the project and stack.
        deployment: carries them out.
        registry: the providers, for invokes.
    """

    def __init__(self, project: Project, deployment: Deployment, registry: Any) -> None:
        self._project, self._deployment, self._registry = project, deployment, registry

    def _refuse(self, context: Any, error: EngineError) -> NoReturn:
        """Let the program end: the reason is among the deployment's errors, and shown from there."""
        if not self._deployment.stopping:
            self._deployment.fail(error)
        context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        raise AssertionError("abort raises")

    def GetDeploymentInfo(self, request: Any, context: Any) -> Any:  # noqa: ARG002, D102, N802
        settings = self._project.settings
        return resource_pb2.DeploymentInfo(
            project=self._project.name,
            stack=self._project.stack,
            organization="organization",
            config={key: setting.text for key, setting in settings.items()},
            configSecretKeys=[key for key, setting in settings.items() if setting.secret],
            dryRun=self._deployment.preview,
            parallel=PARALLEL,
            supportedFeatures=_FEATURES,
        )

    def SupportsFeature(self, request: Any, context: Any) -> Any:  # noqa: ARG002, D102, N802
        return resource_pb2.SupportsFeatureResponse(
            hasSupport=request.id in ("secrets", "resourceReferences", "deletedWith")
        )

    def RegisterResource(self, request: Any, context: Any) -> Any:  # noqa: D102, N802
        try:
            wanted = goal.read(request)
            resource = self._deployment.register(wanted)
        except EngineError as error:
            self._refuse(context, error)
        except Exception as error:
            # A fault of the engine's own: without this the program would be blamed for it.
            self._deployment.fail(EngineError(f"the engine failed at {request.name}: {error!r}"))
            raise
        wire = Wire(unknowns=True, secrets=request.acceptSecrets, references=request.acceptResources)
        # A component's outputs are what it registers itself; recorded ones may name what is not there yet.
        outputs = resource.outputs if resource.custom else {}
        return resource_pb2.RegisterResourceResponse(
            urn=resource.urn, id=resource.id, object=wire.struct(outputs)
        )

    def RegisterResourceOutputs(self, request: Any, context: Any) -> Any:  # noqa: D102, N802
        try:
            self._deployment.set_outputs(request.urn, values.from_struct(request.outputs))
        except EngineError as error:
            self._refuse(context, error)
        return empty_pb2.Empty()

    def Invoke(self, request: Any, context: Any) -> Any:  # noqa: D102, N802
        wire = Wire(unknowns=True, secrets=True, references=request.acceptResources)
        try:
            arguments = values.from_struct(request.args)
            if request.tok == "pulumi:pulumi:getResource":
                return _answer(wire, self._get_resource(str(arguments["urn"])))
            package = request.tok.split(":")[0]
            reference = request.provider or self._deployment.default_provider(
                package, request.version, request.tok
            )
            result = self._registry.get(reference).invoke(
                request.tok, arguments, preview=self._deployment.preview
            )
        except EngineError as error:
            self._refuse(context, EngineError(f"{request.tok}: {error}"))
        response = _answer(wire, result.inputs)
        response.failures.extend(
            provider_pb2.CheckFailure(property=property_, reason=reason)
            for property_, reason in result.failures
        )
        return response

    def _get_resource(self, urn: str) -> values.Properties:
        resource = self._deployment.resource(urn)
        if resource is None:
            raise EngineError(f"{urn} is referred to before it is registered")
        return {"urn": urn, "id": resource.id or UNKNOWN_STRING, "state": resource.outputs}

    def ReadResource(self, request: Any, context: Any) -> Any:  # noqa: D102, N802
        stack_reference = request.type == "pulumi:pulumi:StackReference"
        feature = (
            "stack references" if stack_reference else f"reading existing resources ({request.type}.get)"
        )
        self._refuse(context, UnsupportedError(feature))

    def Call(self, request: Any, context: Any) -> Any:  # noqa: D102, N802
        self._refuse(context, UnsupportedError(f"methods of resources ({request.tok})"))

    def RegisterStackTransform(self, request: Any, context: Any) -> Any:  # noqa: ARG002, D102, N802
        self._refuse(context, UnsupportedError("stack transforms"))

    def RegisterStackInvokeTransform(self, request: Any, context: Any) -> Any:  # noqa: ARG002, D102, N802
        self._refuse(context, UnsupportedError("invoke transforms"))

    def RegisterResourceHook(self, request: Any, context: Any) -> Any:  # noqa: D102, N802
        self._refuse(context, UnsupportedError(f"resource hooks ({request.name})"))

    def RegisterErrorHook(self, request: Any, context: Any) -> Any:  # noqa: D102, N802
        self._refuse(context, UnsupportedError(f"error hooks ({request.name})"))

    def RegisterPackage(self, request: Any, context: Any) -> Any:  # noqa: D102, N802
        self._refuse(context, UnsupportedError(f"parameterized packages ({request.name})"))

    def SignalAndWaitForShutdown(self, request: Any, context: Any) -> Any:  # noqa: ARG002, D102, N802
        return empty_pb2.Empty()


def _answer(wire: Wire, result: values.Properties) -> provider_pb2.InvokeResponse:
    """Return the answer to an invoke; its field's name is a Python keyword."""
    return provider_pb2.InvokeResponse(**{"return": wire.struct(result)})


class Server:
    """Both services on one port of the loopback interface.

    Args:
        observer: told what program and providers say.
    """

    def __init__(self, observer: Observer) -> None:
        self._server = grpc.server(
            futures.ThreadPoolExecutor(_WORKERS),
            options=[("grpc.max_receive_message_length", 400 * 1024 * 1024)],
        )
        engine_pb2_grpc.add_EngineServicer_to_server(Log(observer), self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def start(self, monitor: Monitor | None = None) -> None:
        """Answer calls from now on.

        Args:
            monitor: takes registrations; none for operations without a program.
        """
        if monitor is not None:
            resource_pb2_grpc.add_ResourceMonitorServicer_to_server(monitor, self._server)
        self._server.start()

    def close(self) -> None:
        """Answer no more calls."""
        self._server.stop(grace=None).wait()
