"""Somebody else's server on both clouds: its own image, arguments and port inside what every stack has."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from infra import settings
from tests.infra import graph, variants
from tests.infra.graph import ROOT, Graph

_ENDPOINT = "pulumi-python:dynamic/runpod:Endpoint"


def _settings(stack: str) -> settings.Settings:
    return settings.load(ROOT / "stacks" / f"Pulumi.{stack}.yaml")


def _pod(found: Graph) -> dict[str, Any]:
    pod: dict[str, Any] = found.named("model-deployment").inputs["spec"]["template"]["spec"]
    return pod


@pytest.mark.parametrize("stack", ["custom-server", "text-to-speech"])
def test_its_pod_runs_its_image_as_no_root_with_a_folder_of_its_own(stack: str) -> None:
    found, read = variants.recorded(stack, False), _settings(stack)
    assert read.server is not None
    pod = _pod(found)
    (container,) = pod["containers"]
    assert container["image"] == read.image.reference
    assert tuple(container["args"]) == read.server.args
    assert "command" not in container
    assert container["ports"] == [{"name": "http", "containerPort": read.server.port}]
    assert container["startupProbe"]["httpGet"]["path"] == read.server.health_path
    assert {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}["cache"] == "/data"
    variables = {item["name"]: item.get("value") for item in container["env"]}
    assert variables["HOME"] == "/data"
    assert ("VLLM_API_KEY" in variables) == (read.server.api_key_variable == "VLLM_API_KEY")
    assert not [name for name in variables if name.startswith(("VLLM_HTTP", "BERTH"))]
    assert pod["securityContext"]["runAsUser"] == read.server.user_id
    assert pod["securityContext"]["runAsNonRoot"] is True


def test_a_command_replaces_the_image_s_own_in_the_cluster() -> None:
    server = {**graph.configuration("custom-server")["berth:server"], "command": ["/bin/serve"]}
    found = graph.run("custom-server", preview=False, server=server, targets=["eks"])
    assert _pod(found)["containers"][0]["command"] == ["/bin/serve"]


def test_runpod_s_load_balancer_asks_its_own_port_and_health_path() -> None:
    read = _settings("custom-server")
    assert read.server is not None
    (endpoint,) = variants.recorded("custom-server", False).of_type(_ENDPOINT)
    assert endpoint.inputs["type"] == "LOAD_BALANCER"
    assert endpoint.inputs["ports"] == ["30000/http"]
    assert tuple(shlex.split(endpoint.inputs["args"])) == read.server.args
    environment = endpoint.inputs["env"]
    assert environment["PORT"] == environment["PORT_HEALTH"] == "30000"
    assert environment["HEALTH_CHECK_PATH"] == "/health"
    assert "HOME" not in environment  # there the image runs as the user it was made for


def test_nothing_is_built_for_it() -> None:
    types = {item.type for item in variants.recorded("custom-server", False)}
    assert not [name for name in types if "codebuild" in name or name.startswith("aws:ecr/")]


def test_the_load_balancer_lets_through_the_routes_of_its_task() -> None:
    rules = variants.recorded("text-to-speech", False).of_type("aws:lb/listenerRule:ListenerRule")
    paths = [
        path
        for rule in rules
        for condition in rule.inputs["conditions"]
        for path in condition["pathPattern"]["values"]
    ]
    assert paths == ["/v1/audio/speech", "/v1/models", "/health"]


def test_whether_a_key_is_asked_for_is_an_output() -> None:
    keyless, keyed = (variants.recorded(stack, False) for stack in ("custom-server", "text-to-speech"))
    assert keyless.outputs["endpoints"]["eks"]["asks_for_key"] is False
    assert keyed.outputs["endpoints"]["eks"]["asks_for_key"] is True


def test_what_requests_need_to_know_of_a_model_is_an_output() -> None:
    outputs = variants.recorded("multi-lora", False).outputs
    assert outputs["models"] == ["llama-2-7b", "sql", "tweet-summary"]
    assert outputs["task"] == "generate"
    instruction = variants.recorded("embeddings", False).outputs["query_instruction"]
    assert instruction == "Represent this sentence for searching relevant passages: "


def test_without_a_key_and_a_token_there_is_no_secret_and_with_a_token_there_is() -> None:
    kinds = {item.type for item in variants.recorded("custom-server", False)}
    assert "kubernetes:core/v1:Secret" not in kinds
    found = graph.run("custom-server", preview=False, hubToken="hf_given")
    (secret,) = found.of_type("kubernetes:core/v1:Secret")
    assert secret.inputs["stringData"] == graph.Secret({"hub-token": "hf_given"})
    variables = {item["name"] for item in _pod(found)["containers"][0]["env"]}
    assert "HF_TOKEN" in variables
