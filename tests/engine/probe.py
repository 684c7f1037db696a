"""A provider plugin for the engine's tests: objects are files in a folder, every call is a line in a log.

The resource `probe:index:Object` obeys what its inputs say: `seconds` to take, `fail` to refuse creation,
`initError` to fail after creation. A change of `name` or of a key in `pin` replaces it; `eager` asks for
deletion before replacement.
"""

# ruff: noqa: N802  # the methods' names are the protocol's

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import any_pb2, empty_pb2, json_format, struct_pb2
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc, provider_pb2, provider_pb2_grpc, status_pb2

UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
SECRET = "4dabf18193072939515e22adb298388d"
FORCES_REPLACEMENT = ("name", "pin")


def plain(struct: struct_pb2.Struct) -> dict[str, Any]:
    loaded: dict[str, Any] = json_format.MessageToDict(struct)
    return loaded


def open_secret(value: Any) -> Any:
    return value["value"] if isinstance(value, dict) and SECRET in value else value


def struct(values: dict[str, Any]) -> struct_pb2.Struct:
    return json_format.ParseDict(values, struct_pb2.Struct())


class Probe(provider_pb2_grpc.ResourceProviderServicer):
    def __init__(self, engine: str) -> None:
        self.home = Path(os.environ["PROBE_HOME"])
        self.engine = engine_pb2_grpc.EngineStub(grpc.insecure_channel(engine))
        self.config: dict[str, Any] = {}

    def log(self, call: str, urn: str, **more: Any) -> None:
        entry = {"call": call, "name": urn.rsplit("::", 1)[-1], "time": time.monotonic(), **more}
        with (self.home / "calls.log").open("a") as file:
            file.write(json.dumps(entry) + "\n")

    def path(self, id_: str) -> Path:
        return self.home / f"{id_}.json"

    def GetPluginInfo(self, _request: Any, _context: Any) -> Any:
        from pulumi.runtime.proto import plugin_pb2

        return plugin_pb2.PluginInfo(version="1.2.3")

    def CheckConfig(self, request: Any, _context: Any) -> Any:
        return provider_pb2.CheckResponse(inputs=request.news)

    def DiffConfig(self, request: Any, _context: Any) -> Any:
        olds, news = plain(request.old_inputs), plain(request.news)
        changed = [key for key in {**olds, **news} if olds.get(key) != news.get(key)]
        replaces = [key for key in changed if key == "account"]
        return provider_pb2.DiffResponse(
            changes=provider_pb2.DiffResponse.DIFF_SOME if changed else provider_pb2.DiffResponse.DIFF_NONE,
            diffs=changed,
            replaces=replaces,
        )

    def Configure(self, request: Any, _context: Any) -> Any:
        self.config = plain(request.args)
        self.log("configure", request.urn, config=self.config)
        return provider_pb2.ConfigureResponse(acceptSecrets=True, supportsPreview=True, acceptResources=True)

    def Check(self, request: Any, _context: Any) -> Any:
        news = plain(request.news)
        failures = []
        if "name" not in news:
            olds = plain(request.olds)
            news["name"] = olds.get("name") or request.urn.rsplit("::", 1)[-1]
        if "bogus" in news:
            failures.append(provider_pb2.CheckFailure(property="bogus", reason="there is no such property"))
        return provider_pb2.CheckResponse(inputs=struct(news), failures=failures)

    def Diff(self, request: Any, _context: Any) -> Any:
        olds, news = plain(request.old_inputs), plain(request.news)
        keys = sorted({*olds, *news})
        changed = [key for key in keys if open_secret(olds.get(key)) != open_secret(news.get(key))]
        replaces = [key for key in changed if key in FORCES_REPLACEMENT]
        return provider_pb2.DiffResponse(
            changes=provider_pb2.DiffResponse.DIFF_SOME if changed else provider_pb2.DiffResponse.DIFF_NONE,
            diffs=changed,
            replaces=replaces,
            deleteBeforeReplace=bool(news.get("eager")),
        )

    def outputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return {
            **inputs,
            "token": f"token-of-{open_secret(inputs['name'])}",
            "account": self.config.get("account"),
        }

    def Create(self, request: Any, context: Any) -> Any:
        inputs = plain(request.properties)
        name = open_secret(inputs["name"])
        if request.preview:
            return provider_pb2.CreateResponse(properties=struct({**inputs, "token": UNKNOWN}))
        self.log("create", request.urn, timeout=request.timeout, inputs=inputs)
        if inputs.get("say"):
            self.engine.Log(
                engine_pb2.LogRequest(
                    severity=engine_pb2.INFO, message=inputs["say"], urn=request.urn, ephemeral=True
                )
            )
        # The object exists before the call ends, so that a kill in between leaves one without a recorded id.
        objects = json.loads(self.path(name).read_text())["made"] if self.path(name).exists() else 0
        if inputs.get("fail"):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, inputs["fail"])
        self.path(name).write_text(json.dumps({"made": objects + 1, "inputs": inputs}))
        self.wait(inputs)
        self.log("created", request.urn)
        if inputs.get("initError"):
            details = any_pb2.Any()
            details.Pack(
                provider_pb2.ErrorResourceInitFailed(
                    id=name,
                    properties=struct(self.outputs(inputs)),
                    reasons=[inputs["initError"]],
                    inputs=request.properties,
                )
            )
            failed = status_pb2.Status(code=2, message="it did not start", details=[details])
            context.set_trailing_metadata((("grpc-status-details-bin", failed.SerializeToString()),))
            context.abort(grpc.StatusCode.UNKNOWN, failed.message)
        return provider_pb2.CreateResponse(id=name, properties=struct(self.outputs(inputs)))

    def wait(self, inputs: dict[str, Any]) -> None:
        """Take the time that the object asks for, or as long as the file that it names exists."""
        time.sleep(float(inputs.get("seconds", 0)))
        if inputs.get("whileExists"):
            while Path(inputs["whileExists"]).exists():
                time.sleep(0.01)

    def Read(self, request: Any, _context: Any) -> Any:
        self.log("read", request.urn)
        if not self.path(request.id).exists():
            return provider_pb2.ReadResponse()
        inputs = json.loads(self.path(request.id).read_text())["inputs"]
        return provider_pb2.ReadResponse(
            id=request.id, inputs=struct(inputs), properties=struct(self.outputs(inputs))
        )

    def Update(self, request: Any, _context: Any) -> Any:
        inputs = plain(request.news)
        if not request.preview:
            self.log("update", request.urn, timeout=request.timeout, inputs=inputs)
            stored = json.loads(self.path(request.id).read_text())
            self.path(request.id).write_text(json.dumps({**stored, "inputs": inputs}))
            self.wait(inputs)
        return provider_pb2.UpdateResponse(properties=struct(self.outputs(inputs)))

    def Delete(self, request: Any, context: Any) -> Any:
        inputs = plain(request.properties)
        self.log("delete", request.urn, timeout=request.timeout, id=request.id)
        if inputs.get("undeletable") and (self.home / "undeletable").exists():
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "it is still in use")
        with contextlib.suppress(FileNotFoundError):
            self.path(request.id).unlink()
        self.wait(inputs)
        self.log("deleted", request.urn)
        return empty_pb2.Empty()

    def Invoke(self, request: Any, _context: Any) -> Any:
        arguments = plain(request.args)
        self.log("invoke", request.tok, args=arguments)
        if arguments.get("wrong"):
            return provider_pb2.InvokeResponse(
                failures=[provider_pb2.CheckFailure(property="wrong", reason="must not be given")]
            )
        return provider_pb2.InvokeResponse(
            **{"return": struct({"answer": arguments.get("question", "none") + "!"})}
        )

    def Cancel(self, _request: Any, _context: Any) -> Any:
        return empty_pb2.Empty()


def main() -> None:
    server = grpc.server(futures.ThreadPoolExecutor(16))
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(Probe(sys.argv[1]), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
