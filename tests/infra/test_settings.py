# ruff: noqa: E501  # a table reads better than its lines broken
"""Wrong stack files are refused with the file, the key, the value and what is allowed, all at once."""

from __future__ import annotations

import json
import runpy
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from infra import settings
from infra.settings.checks import OWNED_ARGUMENTS
from sandbox import clouds
from tests.infra.graph import ROOT, STACKS, configuration
from tests.infra.stack_files import FILE, assert_said, edited, loaded, problems

if TYPE_CHECKING:
    from pathlib import Path


def _write(folder: Path, config: dict[str, Any], stack: str = "dev") -> Path:
    path = folder / "stacks" / f"Pulumi.{stack}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump({"config": config}))
    return path


@pytest.mark.parametrize("stack", STACKS)
def test_every_shipped_stack_is_valid(stack: str) -> None:
    read = settings.load(ROOT / "stacks" / f"Pulumi.{stack}.yaml")
    assert read.stack == stack
    assert read.targets == ("eks", "runpod")
    assert (read.sandbox is None) == (stack != "local")


@pytest.mark.parametrize("stack", STACKS)
def test_the_file_and_pulumi_s_configuration_give_the_same_settings(stack: str) -> None:
    path = ROOT / "stacks" / f"Pulumi.{stack}.yaml"
    given = {
        key: value if isinstance(value, str) else json.dumps(value)
        for key, value in configuration(stack).items()
    }
    assert settings.from_config(given, f"stacks/{path.name}") == settings.load(path)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("model.max_model_len", "8k", 'model.max_model_len = "8k": must be a whole number of tokens, 1 or more'),
        ("model.max_model_len", 0, "model.max_model_len = 0: must be a whole number of tokens, 1 or more"),
        ("model.max_model_len", ..., "model.max_model_len is missing: must be a whole number of tokens"),
        ("model.max_modell_len", 1, "model.max_modell_len: unknown key; did you mean max_model_len?"),
        ("model.zzz", 1, "model.zzz: unknown key; known are adapters, allowed_media_hosts"),
        ("modle", {}, "modle: unknown key; did you mean model?"),
        ("model", "x", 'model = "x": must be a mapping of settings'),
        ("model.name", "qwen", 'model.name = "qwen": must be a model of the hub as "organization/name"'),
        ("model.revision", "main", 'model.revision = "main": must be a commit'),
        ("model.task", "chat", 'model.task = "chat": must be one of generate, embed, score'),
        ("model.dtype", "half", 'model.dtype = "half": must be one of auto, bfloat16'),
        ("model", {"name": "a/b", "quantization": "mxfp4", "dtype": "float16"}, 'model.dtype "float16" does not go with quantization "mxfp4": use "auto" or "bfloat16"'),
        ("serving", {"compile": False, "enforce_eager": True}, "serving.compile = false: serving.enforce_eager leaves it nothing"),
        ("serving", {"compile": False, "extra_args": ["-cc={}"]}, "has -cc, which serving.compile = false decides"),
        ("serving.gpu_memory_utilization", 1.5, "= 1.5: must be a number above 0, up to 1"),
        ("serving.environment", {"A": 1}, "environment.A = 1: must be a mapping of variable names"),
        ("serving.environment", {"1A": "b"}, "environment = "),
        ("serving.environment", {"VLLM_API_KEY": "x"}, "serving.environment.VLLM_API_KEY: the secret apiKey"),
        ("serving.extra_args", ["--max-model-len=5"], "has --max-model-len, which model.max_model_len decides"),
        ("serving.drain_seconds", 120, "= 120 must be 105 or less on spot machines"),
        ("serving.drain_seconds", 3601, "= 3601: must be a whole number of seconds, 1 to 3600"),
        ("serving.environment", {"BERTH_DOOR": "x"}, "serving.environment.BERTH_DOOR: the image decides it"),
        ("serving.environment", {"HEALTH_CHECK_PATH": "/"}, "serving.environment.HEALTH_CHECK_PATH: the image"),
        ("serving.environment", {"RUNPOD_INIT_TIMEOUT": "9"}, "RUNPOD_INIT_TIMEOUT: serving.startup_timeout_seconds"),
        ("serving.extra_args", ["--hf-token", "x"], "has --hf-token, which the secret hubToken decides"),
        ("serving.extra_args", ["--hf_token=x"], "has --hf_token, which the secret hubToken decides"),
        ("serving.tensor_parallel_size", 2, "tensor_parallel_size = 2 is more than the GPUs of a node"),
        ("runpod.gpu_count", 2, "runpod.gpu_count = 2 must be serving.tensor_parallel_size (1), or be left out"),
        ("image.builder", "kaniko", 'image.builder = "kaniko": must be one of codebuild, local, prebuilt'),
        ("image.builder", "prebuilt", "image.reference is missing"),
        ("image", {"builder": "prebuilt", "reference": "a/b:latest"}, "must be an image by digest"),
        ("aws.region", ..., "aws.region is missing: must be a region of AWS"),
        ("aws.region", "us-gov-west-1", 'aws.region = "us-gov-west-1" is of another partition of AWS'),
        ("aws.region", "cn-north-1", 'aws.region = "cn-north-1" is of another partition of AWS'),
        ("aws.owner", "me too", 'aws.owner = "me too": must be a team or person'),
        ("runpod.request_count", ..., 'runpod.request_count is missing: endpoint_type "LOAD_BALANCER"'),
        ("runpod.workers_min", 3, "runpod.workers_min = 3 must be workers_max (1) or less"),
        ("runpod.gpu_pools", [], "runpod.gpu_pools = []: must be a list of one pool or more of AMPERE_16"),
        ("runpod.gpu_pools", ["L4"], 'runpod.gpu_pools[0] = "L4": must be a list of one pool or more of AMPERE_16'),
        ("runpod.flashboot", True, "runpod.flashboot = true: must be one of OFF, FLASHBOOT"),
        ("targets", ["gcp"], 'targets = ["gcp"]: must be a list of eks, runpod or both'),
        ("targets", [], "targets = []: must be a list of eks, runpod or both"),
        ("targets", ["eks", "eks"], "must be a list of eks, runpod or both"),
        ("sandbox", {"loopback_block": 3}, "sandbox: only the stack local has a sandbox"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_named_with_what_is_allowed(path: str, value: Any, said: str) -> None:
    assert_said(path, value, said)


def test_all_errors_of_all_sections_are_said_at_once() -> None:
    config = edited("model.max_model_len", "8k")
    config["berth:serving"]["gpu_memory_utilization"] = 7
    config["berth:eks"]["replica"] = 1
    config["berth:runpod"]["workers_min"] = 9
    config["berth:zone"] = "x"
    said = " ".join(problems(config))
    for key in ("max_model_len", "gpu_memory_utilization", "replica", "workers_min", "berth:zone"):
        assert key in said


@pytest.mark.parametrize("key", ["model", "aws", "eks", "runpod"])
def test_a_section_that_a_target_needs_is_missing(key: str) -> None:
    config = configuration("dev")
    del config[f"berth:{key}"]
    assert f"{FILE}: berth:{key} is missing: must be a mapping of settings" in problems(config)


def test_the_stack_local_needs_its_sandbox() -> None:
    config = configuration("local")
    del config["berth:sandbox"]
    assert "berth:sandbox is missing" in problems(config, "stacks/Pulumi.local.yaml")[0]


def test_a_target_s_section_is_not_needed_without_the_target() -> None:
    config = edited("targets", ["runpod"])
    del config["berth:eks"]
    assert loaded(config).targets == ("runpod",)


def test_the_stack_local_is_in_the_sandbox_s_region() -> None:
    file = "stacks/Pulumi.local.yaml"
    assert loaded(configuration("local"), file).aws.region == clouds.REGION
    found = problems(edited("aws.region", "eu-west-1", "local"), file)
    assert f'aws.region = "eu-west-1": must be {clouds.REGION} in the stack local' in found[0]


@pytest.mark.parametrize("key", ["apiKey", "hubToken", "runpodApiKey"])
def test_every_secret_is_a_known_key(key: str) -> None:
    assert "secret-value" not in repr(loaded(configuration("dev") | {f"berth:{key}": "secret-value"}))


@pytest.mark.parametrize("key", ["apiKey", "hubToken", "runpodApiKey"])
def test_the_local_stack_takes_no_secret_as_its_passphrase_is_public(key: str) -> None:
    config = configuration("local") | {f"berth:{key}": "hf_x"}
    (problem,) = problems(config, "stacks/Pulumi.local.yaml")
    assert f"berth:{key}: the stack local keeps no secret" in problem
    assert "hf_x" not in problem


def test_a_stack_that_does_not_exist_lists_those_that_do() -> None:
    with pytest.raises(
        settings.SettingsError, match=f"there is no stack prd; there are: {', '.join(STACKS)}"
    ):
        settings.load(ROOT / "stacks" / "Pulumi.prd.yaml")


def test_a_file_that_is_not_yaml_says_where(tmp_path: Path) -> None:
    path = _write(tmp_path, {})
    path.write_text("config:\n  a: [1\n")
    with pytest.raises(settings.SettingsError, match=r"Pulumi.dev.yaml: is not YAML at line 3"):
        settings.load(path)


@pytest.mark.parametrize("text", ["", "config:", "[1]", "config: 3"])
def test_a_file_without_settings(tmp_path: Path, text: str) -> None:
    path = _write(tmp_path, {})
    path.write_text(text)
    with pytest.raises(settings.SettingsError, match="has no mapping `config`"):
        settings.load(path)


def test_secrets_stay_encrypted_and_must_be(tmp_path: Path) -> None:
    config = configuration("dev")
    config["berth:apiKey"] = {"secure": "v1:abc:def"}
    read = settings.load(_write(tmp_path, config))
    assert "v1:abc" not in repr(read)
    config["berth:apiKey"] = "sk-in-the-clear"
    with pytest.raises(settings.SettingsError, match="berth:apiKey: must be encrypted") as caught:
        settings.load(_write(tmp_path, config))
    assert "sk-in-the-clear" not in str(caught.value)


def test_settings_cannot_be_changed() -> None:
    read = settings.load(ROOT / "stacks" / "Pulumi.dev.yaml")
    with pytest.raises(ValueError, match="frozen"):
        read.model.name = "a/b"


def test_every_setting_says_what_it_allows() -> None:
    """A value of a type that no setting takes gets words for every key there is, not a failure."""

    def wrong(section: Any) -> dict[str, Any]:
        return dict.fromkeys(section.model_fields, None) | {
            key: wrong(field.annotation)
            for key, field in section.model_fields.items()
            if hasattr(field.annotation, "model_fields")
        }

    sections = {
        "model": settings.ModelSettings,
        "serving": settings.ServingSettings,
        "image": settings.ImageSettings,
        "aws": settings.AwsSettings,
        "eks": settings.EksSettings,
        "runpod": settings.RunpodSettings,
        "sandbox": settings.SandboxSettings,
    }
    config = configuration("local") | {f"berth:{key}": wrong(item) for key, item in sections.items()}
    found = problems(config, "stacks/Pulumi.local.yaml")
    assert len(found) > 40
    assert all(": must be " in problem for problem in found)


def test_a_key_of_environment_variables_may_look_like_anything() -> None:
    config = edited("serving.environment", {"int": "1", "str": "2"})
    assert dict(loaded(config).serving.environment) == {"int": "1", "str": "2"}


def test_arguments_that_settings_own_have_an_owner_that_exists() -> None:
    read = settings.load(ROOT / "stacks" / "Pulumi.dev.yaml")
    for owner in OWNED_ARGUMENTS.values():
        section, dot, key = owner.partition(".")
        if dot:
            assert hasattr(getattr(read, section), key)


def test_what_the_image_keeps_for_itself_is_refused_here_already() -> None:
    entrypoint = runpy.run_path(str(ROOT / "image" / "entrypoint.py"))
    arguments, variables = entrypoint["RESERVED"], {*entrypoint["SECRETS"], *entrypoint["RESERVED"].values()}
    assert len(arguments) > 3
    for argument in arguments:
        (problem,) = problems(edited("serving.extra_args", [argument]))
        assert f"serving.extra_args has {argument}, which" in problem
    for name in variables:
        (problem,) = problems(edited("serving.environment", {name: "x"}))
        assert f"serving.environment.{name}: " in problem
