"""Weights in a bucket or in the image: how they get there, who may read them, what vLLM is told."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import boto3
import pytest
import yaml
from botocore.stub import Stubber

from infra import codebuild
from infra.codebuild import BuildError
from infra.weights_copy import WeightsCopyProvider
from ops.graph.answers import SANDBOX_ENDPOINT
from tests.infra.graph import ROOT, Secret, configuration, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.infra.graph import Graph, Recorded

_MODEL = configuration("dev")["berth:model"]
_PREFIX = f"{_MODEL['name']}/{_MODEL['revision']}"
_PROPS = {
    "project": "berth-dev-weights",
    "bucket": "weights",
    "prefix": "o/n/c",
    "region": "us-east-1",
    "endpoint": None,
    "timeout_minutes": 60,
}
_MARKER = {"Contents": [{"Key": "o/n/c.complete"}]}
_BUILD = {
    "id": "berth-dev-weights:1",
    "buildStatus": "SUCCEEDED",
    "environment": {
        "type": "LINUX_CONTAINER",
        "image": "x",
        "computeType": "BUILD_GENERAL1_LARGE",
        "environmentVariables": [{"name": "WEIGHTS_PREFIX", "value": "o/n/c"}],
    },
}


@functools.cache
def _graph(kind: str, preview: bool = False) -> Graph:
    # With a key that is given: a generated one is unknown in a preview, and with it the whole Secret.
    secrets = {"hubToken": "hf_given", "apiKey": "sk-given"}
    if kind == "image":
        return run("dev", preview=preview, model={**_MODEL, "weights": "image"}, **secrets)
    if kind == "sandbox":
        eks = {**configuration("local")["berth:eks"], "s3_weights": {}}
        return run("local", preview=preview, eks=eks)
    weights: dict[str, Any] = {"bucket": "ours"} if kind == "existing" else {"concurrency": 32}
    eks = {**configuration("dev")["berth:eks"], "s3_weights": weights}
    return run("dev", preview=preview, eks=eks, **secrets)


def _container(graph: Graph) -> dict[str, Any]:
    (container,) = graph.named("model-deployment").inputs["spec"]["template"]["spec"]["containers"]
    return dict(container)


def _environment(graph: Graph) -> dict[str, Any]:
    return {item["name"]: item.get("value") for item in _container(graph)["env"]}


def _statements(item: Recorded) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(item.inputs["policy"])["Statement"]
    return found


def _variables(graph: Graph, project: str) -> dict[str, dict[str, Any]]:
    given = graph.named(project).inputs["environment"]["environmentVariables"]
    return {item["name"]: item for item in given}


def test_vllm_streams_from_the_stack_s_bucket() -> None:
    graph = _graph("s3")
    arguments = _container(graph)["args"]
    bucket = graph.named("weights-bucket").inputs["bucket"]
    assert arguments[0] == f"s3://{bucket}/{_PREFIX}"
    assert arguments[arguments.index("--load-format") + 1] == "runai_streamer"
    loader = json.loads(arguments[arguments.index("--model-loader-extra-config") + 1])
    assert loader["concurrency"] == 32
    memory = int(_container(graph)["resources"]["limits"]["memory"].removesuffix("Gi"))
    assert loader["memory_limit"] <= memory * 2**30 / 2
    assert arguments[arguments.index("--served-model-name") + 1] == _MODEL["served_name"]
    assert "--revision" not in arguments
    environment = _environment(graph)
    assert environment["HF_HUB_OFFLINE"] == "1"
    assert environment["AWS_REGION"] == "us-east-1"
    assert environment["RUNAI_STREAMER_S3_REQUEST_TIMEOUT_MS"] == "3000"
    assert "AWS_ENDPOINT_URL" not in environment


def test_runpod_still_takes_them_from_the_hub() -> None:
    (endpoint,) = _graph("s3").of_type("pulumi-python:dynamic/runpod:Endpoint")
    assert endpoint.inputs["args"].startswith(f"{_MODEL['name']} --revision")
    assert isinstance(endpoint.inputs["env"], Secret)
    assert "HF_HUB_OFFLINE" not in endpoint.inputs["env"].value


def test_the_pods_role_reads_that_prefix_and_nothing_else() -> None:
    graph = _graph("s3")
    read, listed = _statements(graph.named("weights-role-policy"))
    bucket = graph.named("weights-bucket").inputs["bucket"]
    assert (read["Action"], read["Resource"]) == ("s3:GetObject", f"arn:aws:s3:::{bucket}/{_PREFIX}/*")
    assert (listed["Action"], listed["Resource"]) == ("s3:ListBucket", f"arn:aws:s3:::{bucket}")
    assert listed["Condition"] == {"StringEquals": {"s3:prefix": f"{_PREFIX}/"}}
    association = graph.named("weights-identity")
    account = graph.named("model-account").inputs["metadata"]
    assert association.inputs["namespace"] == account["namespace"]
    assert association.inputs["serviceAccount"] == account["name"]
    assert (
        graph.named("model-deployment").inputs["spec"]["template"]["spec"]["serviceAccountName"]
        == (account["name"])
    )


def test_the_builder_may_write_that_prefix_and_nothing_else() -> None:
    graph = _graph("s3")
    actions = {
        action
        for statement in _statements(graph.named("weights-builder-rights"))
        for action in (
            statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        )
    }
    assert actions == {
        "s3:PutObject",
        "s3:AbortMultipartUpload",
        "logs:CreateLogStream",
        "logs:PutLogEvents",
        "ssm:GetParameters",
    }
    (write,) = [item for item in _statements(graph.named("weights-builder-rights")) if "s3" in str(item)]
    assert all(f"/{_PREFIX}" in resource for resource in write["Resource"])


def test_pods_wait_for_the_copy_and_for_their_role_and_go_before_them() -> None:
    graph = _graph("s3")
    needed = graph.needs(graph.named("model-deployment").urn)
    assert {graph.named("weights-copy").urn, graph.named("weights-identity").urn} <= needed
    assert graph.named("weights-role-policy").urn in needed


def test_the_copy_waits_neither_for_the_cluster_nor_for_the_image() -> None:
    graph = _graph("s3")
    needed = graph.needs(graph.named("weights-copy").urn)
    types = {graph.resources[urn].type for urn in needed}
    assert "aws:eks/cluster:Cluster" not in types
    assert "pulumi-python:dynamic/image:Build" not in types
    assert {"aws:s3/bucket:Bucket", "aws:iam/rolePolicy:RolePolicy"} <= types
    copy = graph.named("weights-copy")
    project = graph.named("weights-project").inputs
    waited = int(copy.timeouts[0].removesuffix("m"))
    assert waited > copy.inputs["timeout_minutes"] > project["buildTimeout"] + project["queuedTimeout"]


@pytest.mark.parametrize("kind", ["s3", "image"])
@pytest.mark.parametrize("preview", [True, False])
def test_the_hub_token_is_in_an_encrypted_parameter_alone(kind: str, preview: bool) -> None:
    graph = _graph(kind, preview)
    name = "weights" if kind == "s3" else "image"
    parameter = graph.named(f"{name}-hf-token")
    assert parameter.inputs["type"] == "SecureString"
    assert parameter.inputs["value"] == Secret("hf_given")
    token = _variables(graph, f"{name}-project")["HF_TOKEN"]
    assert token == {"name": "HF_TOKEN", "type": "PARAMETER_STORE", "value": parameter.inputs["name"]}
    assert "hf_given" not in json.dumps(graph.named(f"{name}-project").inputs)
    assert "HF_TOKEN" not in _environment(graph)
    assert set(graph.named("model-secret").inputs["stringData"].value) == {"api-key"}


def test_with_weights_in_a_bucket_the_pods_reach_it_and_the_agent_of_their_role() -> None:
    rules = _graph("s3").named("model-traffic").inputs["spec"]["egress"]
    agent = {"to": [{"ipBlock": {"cidr": "169.254.170.23/32"}}], "ports": [{"port": 80, "protocol": "TCP"}]}
    assert agent in rules
    assert len(rules) == 3


def test_another_endpoint_of_aws_is_said_to_the_streamer_and_to_the_network_policy() -> None:
    graph = _graph("sandbox")
    environment = _environment(graph)
    assert environment["AWS_ENDPOINT_URL"] == SANDBOX_ENDPOINT
    assert environment["RUNAI_STREAMER_S3_USE_VIRTUAL_ADDRESSING"] == "0"
    (rule,) = [
        rule
        for rule in graph.named("model-traffic").inputs["spec"]["egress"]
        if rule["to"] == [{"ipBlock": {"cidr": "127.77.0.1/32"}}]
    ]
    assert rule["ports"] == [{"port": 4566, "protocol": "TCP"}]


def test_an_existing_bucket_is_filled_but_not_ours_to_make() -> None:
    graph = _graph("existing")
    assert _container(graph)["args"][0] == f"s3://ours/{_PREFIX}"
    assert not [item for item in graph if item.name.startswith("weights-bucket")]
    assert graph.named("weights-copy").inputs["bucket"] == "ours"


def test_the_stack_s_bucket_is_closed_and_encrypted() -> None:
    graph = _graph("s3")
    assert graph.named("weights-bucket").inputs["forceDestroy"] is True
    assert graph.named("weights-bucket-closed").inputs["restrictPublicBuckets"] is True
    assert graph.named("weights-bucket-encryption").inputs["rules"]


def test_an_image_with_weights_is_another_image_and_is_built_with_them() -> None:
    plain, baked = _graph("s3"), _graph("image")
    tags = [_variables(graph, "image-project")["IMAGE_TAG"]["value"] for graph in (plain, baked)]
    assert tags[0] != tags[1]
    variables = _variables(baked, "image-project")
    assert variables["MODEL"]["value"] == _MODEL["name"]
    assert variables["REVISION"]["value"] == _MODEL["revision"]
    commands = [
        yaml.safe_load(graph.named("image-project").inputs["source"]["buildspec"])["phases"]["build"][
            "commands"
        ][0]
        for graph in (plain, baked)
    ]
    assert "MODEL" not in commands[0]
    assert "--build-arg MODEL --build-arg REVISION --secret id=hub-token,env=HF_TOKEN" in commands[1]
    dockerfile = (ROOT / "image" / "Dockerfile").read_text()
    assert "--mount=type=secret,id=hub-token" in dockerfile
    assert "ARG HF_TOKEN" not in dockerfile


class _Clouds:
    """Stubbed clients: they answer what was queued, in order, and nothing else."""

    def __init__(self) -> None:
        self._clients = {
            name: boto3.client(
                name, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
            )
            for name in ("s3", "codebuild", "logs")
        }
        self._stubs = {name: Stubber(client) for name, client in self._clients.items()}
        for stub in self._stubs.values():
            stub.activate()

    def client(self, service: str, _props: dict[str, Any]) -> Any:
        return self._clients[service]

    def answer(self, service: str, operation: str, response: dict[str, Any]) -> None:
        self._stubs[service].add_response(operation, response)

    def build(self) -> None:
        self.answer("codebuild", "list_builds_for_project", {})
        self.answer("codebuild", "start_build", {"build": _BUILD})

    def nothing_is_left(self) -> None:
        for stub in self._stubs.values():
            stub.assert_no_pending_responses()


@pytest.fixture
def clouds(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Clouds]:
    made = _Clouds()
    monkeypatch.setattr(codebuild, "client", made.client)
    yield made
    made.nothing_is_left()


def test_weights_that_are_there_are_not_copied(clouds: _Clouds) -> None:
    clouds.answer("s3", "list_objects_v2", _MARKER)
    made = WeightsCopyProvider().create(_PROPS)
    assert (made.id, made.outs) == ("weights/o/n/c", _PROPS)


def test_weights_that_are_missing_or_half_there_are_copied(clouds: _Clouds) -> None:
    clouds.answer("s3", "list_objects_v2", {"Contents": [{"Key": "o/n/c.complete-not"}]})
    clouds.build()
    clouds.answer("s3", "list_objects_v2", _MARKER)
    WeightsCopyProvider().create(_PROPS)


def test_a_copy_that_leaves_no_mark_is_not_taken_for_complete(clouds: _Clouds) -> None:
    clouds.answer("s3", "list_objects_v2", {})
    clouds.build()
    clouds.answer("s3", "list_objects_v2", {})
    with pytest.raises(BuildError, match=r"left no s3://weights/o/n/c\.complete"):
        WeightsCopyProvider().create(_PROPS)


def test_a_copy_that_is_gone_is_seen_at_refresh(clouds: _Clouds) -> None:
    clouds.answer("s3", "list_objects_v2", {})
    assert WeightsCopyProvider().read("weights/o/n/c", _PROPS).id is None
    clouds.answer("s3", "list_objects_v2", _MARKER)
    assert WeightsCopyProvider().read("weights/o/n/c", _PROPS).id == "weights/o/n/c"


def test_another_commit_is_a_change_and_another_timeout_is_none() -> None:
    provider = WeightsCopyProvider()
    assert provider.diff("id", _PROPS, {**_PROPS, "prefix": "o/n/d"}).changes is True
    assert provider.diff("id", _PROPS, {**_PROPS, "timeout_minutes": 5, "__provider": "x"}).changes is False


# A hub of one model in a folder, with the names that the script imports.
_HUB = """
from pathlib import Path
import os, shutil
class EntryNotFoundError(Exception): ...
_HUB, _CACHE = Path(os.environ["HUB"]), Path(os.environ["CACHE"])
def _get(name):
    if not (_HUB / name).exists():
        raise EntryNotFoundError(name)
    (_CACHE / "blobs").mkdir(parents=True, exist_ok=True)
    blob, link = _CACHE / "blobs" / name.replace("/", "-"), _CACHE / "snapshot" / name
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.exists():
        shutil.copy(_HUB / name, blob)
        link.symlink_to(blob)
    return str(link)
def hf_hub_download(model, name, revision):
    assert (model, revision) == ("o/n", "c")
    return _get(name)
def snapshot_download(model, revision, ignore_patterns):
    for path in _HUB.rglob("*"):
        if path.is_file() and not any(path.match(pattern) for pattern in ignore_patterns):
            _get(path.relative_to(_HUB).as_posix())
    return str(_CACHE / "snapshot")
def try_to_load_from_cache(model, name, revision):
    path = _CACHE / "snapshot" / name
    return str(path) if path.exists() else None
"""
_AWS = """#!/bin/sh
for last; do :; done
target="$BUCKET/${last#s3://}"
mkdir -p "$(dirname "$target")"
for each; do [ "$each" = "$last" ] || before="$each"; done
cp "$before" "$target"
"""


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """Return a folder with a hub client, an `aws` command, and a model in three formats."""
    (tmp_path / "python" / "huggingface_hub").mkdir(parents=True)
    (tmp_path / "python" / "huggingface_hub" / "__init__.py").write_text(_HUB)
    (tmp_path / "python" / "huggingface_hub" / "errors.py").write_text(
        "from huggingface_hub import EntryNotFoundError\n"
    )
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "aws").write_text(_AWS)
    (tmp_path / "bin" / "aws").chmod(0o755)
    model = tmp_path / "hub"
    (model / "1_Pooling").mkdir(parents=True)
    names = ["a-1.safetensors", "a-2.safetensors"]
    index = {"weight_map": {"x": names[0], "y": names[1], "z": names[0]}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    for name in (
        *names,
        "consolidated.safetensors",
        "pytorch_model.bin",
        "config.json",
        "1_Pooling/config.json",
    ):
        (model / name).write_text(name)
    return tmp_path


def _fetch(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(folder / "python"),
        "HUB": str(folder / "hub"),
        "CACHE": str(folder / "cache"),
        "BUCKET": str(folder / "buckets"),
    }
    command = [sys.executable, str(ROOT / "image" / "weights.py"), "o/n", "c", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


_TAKEN = {
    "1_Pooling/config.json",
    "a-1.safetensors",
    "a-2.safetensors",
    "config.json",
    "model.safetensors.index.json",
}


def _files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_what_vllm_reads_is_copied_and_the_disk_is_free_again(hub: Path) -> None:
    fetched = _fetch(hub, "s3://b/p")
    assert fetched.returncode == 0, fetched.stderr
    assert _files(hub / "buckets" / "b" / "p") == _TAKEN
    assert not [name for name in _files(hub / "cache") if name.endswith(".safetensors")]


def test_what_was_in_the_cache_before_stays_there(hub: Path) -> None:
    assert _fetch(hub).returncode == 0
    assert _files(hub / "cache" / "snapshot") == _TAKEN
    assert _fetch(hub, "s3://b/p").returncode == 0
    assert _files(hub / "cache" / "snapshot") == _TAKEN


def test_a_model_without_safetensors_is_refused_in_words(hub: Path) -> None:
    for path in (hub / "hub").glob("*.safetensors*"):
        path.unlink()
    fetched = _fetch(hub, "s3://b/p")
    assert fetched.returncode == 1
    assert fetched.stderr.splitlines()[-1] == (
        "o/n at c has no model.safetensors: only weights as safetensors can be taken"
    )


def test_the_builder_runs_that_script_and_marks_the_copy_last(hub: Path) -> None:
    buildspec = yaml.safe_load(_graph("s3").named("weights-project").inputs["source"]["buildspec"])
    write, copy, mark = buildspec["phases"]["build"]["commands"]
    assert (ROOT / "image" / "weights.py").read_text() in write
    assert copy.endswith('weights.py "$MODEL" "$REVISION" "s3://$WEIGHTS_BUCKET/${WEIGHTS_PREFIX}"')
    assert mark.endswith('"s3://$WEIGHTS_BUCKET/${WEIGHTS_PREFIX}.complete"')
    done = subprocess.run(["bash", "-c", write], cwd=hub, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (hub / "weights.py").read_text() == (ROOT / "image" / "weights.py").read_text()
