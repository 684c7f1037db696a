"""The listing for RunPod's Hub: what it says of a stack, and that the one in the project is of today."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

import pytest

from infra.settings import Task, load
from ops import hub
from ops.errors import UsageError
from ops.stacks import PROJECT_FOLDER, STACKS_FOLDER

if TYPE_CHECKING:
    from infra.settings import Settings
    from tests.ops.conftest import Project

# As RunPod's publishing guide has it.
_CATEGORIES = {"audio", "embedding", "language", "video", "image"}
_INPUT_TYPES = {"string", "number", "boolean", "huggingface"}


def _dev(**changes: Any) -> Settings:
    return replace(load(STACKS_FOLDER / "Pulumi.dev.yaml"), **changes)


def _documents(settings: Settings) -> tuple[dict[str, Any], dict[str, Any]]:
    texts = hub.files(settings)
    return json.loads(texts["hub.json"]), json.loads(texts["tests.json"])


def test_the_listing_in_the_project_is_that_of_the_stack_dev() -> None:
    for name, text in hub.files(_dev()).items():
        assert (PROJECT_FOLDER / ".runpod" / name).read_text() == text, "run: ./berth hub --stack dev"


def test_the_listing_has_the_stacks_hardware_and_model() -> None:
    settings = _dev()
    listing, _ = _documents(settings)
    config = listing["config"]
    assert config["gpuIds"] == ",".join(settings.require_runpod().gpu_pools)
    assert config["containerDiskInGb"] == settings.require_runpod().disk_gib
    assert config["allowedCudaVersions"] == ["13.0"]
    inputs = {item["key"]: item["input"] for item in config["env"] if "input" in item}
    assert inputs["MODEL_NAME"]["default"] == settings.model.name
    assert inputs["MAX_MODEL_LEN"]["default"] == settings.model.max_model_len
    assert "default" not in inputs["HF_TOKEN"]
    assert {item["type"] for item in inputs.values()} <= _INPUT_TYPES
    assert {item["key"]: item["value"] for item in config["env"] if "value" in item}["BERTH_DOOR"] == "queue"


def test_excluded_gpus_and_an_older_cuda_floor_are_said_in_the_hubs_form() -> None:
    runpod = _dev().require_runpod().model_copy(
        update={"excluded_gpu_types": ("NVIDIA GeForce RTX 4090", "NVIDIA L4"), "min_cuda_version": "12.8"}
    )  # fmt: skip
    listing, tests = _documents(_dev(runpod=runpod))
    assert listing["config"]["gpuIds"] == "ADA_24,AMPERE_24,-NVIDIA GeForce RTX 4090,-NVIDIA L4"
    assert listing["config"]["allowedCudaVersions"] == ["12.8", "12.9", "13.0"]
    assert tests["config"]["gpuTypeId"] == "NVIDIA RTX A5000"


@pytest.mark.parametrize("task", get_args(Task))
def test_every_task_has_tests_and_a_category_of_the_hub(task: Task) -> None:
    settings = _dev()
    listing, tests = _documents(replace(settings, model=settings.model.model_copy(update={"task": task})))
    assert listing["category"] in _CATEGORIES
    assert any("openai_route" in test["input"] for test in tests["tests"])
    assert all(test["input"] and test["timeout"] >= 60_000 for test in tests["tests"])
    assert all(isinstance(item["value"], str) and item["value"] for item in tests["config"]["env"])
    assert {"key": "BERTH_TASK", "value": task} in tests["config"]["env"]


def test_the_command_writes_both_files(project: Project) -> None:
    (project.root / ".runpod" / "hub.json").write_text("{}")
    said = project.berth("hub", "--stack", "prod").stdout
    assert said == ".runpod/hub.json is written\n.runpod/tests.json is written\n"
    assert json.loads((project.root / ".runpod" / "hub.json").read_text())["config"]["gpuIds"].startswith(
        "ADA_48"
    )


@pytest.mark.parametrize(
    ("stack", "said"),
    [
        ("custom-server", "berth:server: the Hub lists Berth's own image"),
        ("multi-lora", "berth:model.adapters"),
    ],
)
def test_what_a_listing_cannot_say_is_refused(stack: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        hub.files(load(STACKS_FOLDER / f"Pulumi.{stack}.yaml"))


def test_a_listing_of_embeddings_passes_the_instruction_on() -> None:
    listing, _ = _documents(load(STACKS_FOLDER / "Pulumi.embeddings.yaml"))
    fixed = {item["key"]: item["value"] for item in listing["config"]["env"] if "value" in item}
    assert fixed["BERTH_QUERY_INSTRUCTION"].startswith("Represent this sentence")
