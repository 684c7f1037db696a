# ruff: noqa: E501  # a table reads better than its lines broken
"""Kinds of models in a stack file: what goes together, and what is refused with its reason."""

from __future__ import annotations

import copy
import json
import subprocess
from typing import TYPE_CHECKING, Any, get_args

import pytest

from infra import serving, settings
from infra.gpus import POOL_GPUS
from infra.quantization import NEEDS, Quantization
from infra.settings.runpod import GpuPool
from sandbox import vllm
from sandbox.runpod import catalogue
from tests.infra.graph import ROOT, configuration
from tests.infra.stack_files import assert_said, base, edited, loaded, problems

if TYPE_CHECKING:
    from pathlib import Path

_COMMIT = "0123456789abcdef0123456789abcdef01234567"
_ADAPTER = {"name": "team/sql", "revision": _COMMIT}


def _spec(path: str, value: Any) -> serving.ServingSpec:
    return serving.spec(loaded(edited(path, value)))


def _model(**changes: Any) -> dict[str, Any]:
    return {**base()["berth:model"], **changes}


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("model.task", "speak", 'model.task = "speak": vLLM has no route for it'),
        ("model.adapters", {"sql": {"name": "team/sql"}}, "model.adapters.sql.revision is missing: must be a commit"),
        ("model.adapters", {"sql": {**_ADAPTER, "revision": "main"}}, 'model.adapters.sql.revision = "main": must be a commit'),
        ("model.adapters", {"qwen2.5-7b": _ADAPTER}, "model.adapters.qwen2.5-7b is the name of the model itself"),
        ("model.adapters", {"Qwen/Qwen2.5-7B-Instruct": _ADAPTER}, "is the name of the model itself"),
        ("model.adapters", {"two words": _ADAPTER}, "must be a mapping of names"),
        ("model", _model(adapters={"sql": _ADAPTER}, weights="image"), 'model.adapters go with weights "hub" only'),
        ("model.max_lora_rank", 16, "model.max_lora_rank goes with adapters only"),
        ("model", _model(adapters={"sql": _ADAPTER}, max_lora_rank=12), "model.max_lora_rank = 12: must be one of 1, 8, 16, 32, 64"),
        ("model.pooling", {"type": "MAX"}, 'model.pooling.type = "MAX": must be one of CLS, LAST, MEAN'),
        ("model.pooling", {"type": "CLS"}, 'model.pooling.type does not go with task "generate"'),
        ("model", _model(task="classify", pooling={"normalize": True}), 'model.pooling.normalize goes with task "embed" only, not with "classify"'),
        ("model.query_instruction", "query: ", 'model.query_instruction goes with task "embed" only'),
        ("model.allowed_media_hosts", ["10.0.0.1"], "must be a list of hosts' full names"),
        ("model.allowed_media_hosts", ["localhost"], "must be a list of hosts' full names"),
        ("model.allowed_media_hosts", ["169.254.169.254"], "must be a list of hosts' full names"),
        ("model.allowed_media_hosts", ["https://a.example.com"], "must be a list of hosts' full names"),
        ("model.allowed_media_hosts", ["127.0.0.1"], "model.allowed_media_hosts has 127.0.0.1: must be hosts' full names"),
        ("model.max_images_per_prompt", 0, "must be a whole number, 1 or more"),
        ("model.revision", ..., "model.revision is missing: must be a commit"),
        ("serving.max_audio_mib", 0, "serving.max_audio_mib = 0: must be a whole number, 1 or more"),
        ("serving.extra_args", ["--allowed-media-domains", "a.example.com"], "which model.allowed_media_hosts decides"),
        ("serving.extra_args", ["--lora-modules=a=b"], "has --lora-modules, which model.adapters decides"),
        ("serving.environment", {"VLLM_MEDIA_URL_ALLOW_REDIRECTS": "1"}, "VLLM_MEDIA_URL_ALLOW_REDIRECTS: the shared definition decides it"),
        ("model.quantization", "bitsandbytes", "must be one of awq, awq_marlin"),
    ],
)  # fmt: skip
def test_a_model_that_cannot_be_is_refused_with_its_reason(path: str, value: Any, said: str) -> None:
    assert_said(path, value, said)


def test_adapters_and_streamed_weights_exclude_each_other() -> None:
    config = edited("model.adapters", {"sql": _ADAPTER})
    config["berth:eks"]["s3_weights"] = {}
    assert any("eks.s3_weights does not go with model.adapters" in line for line in problems(config))


def test_a_key_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "Pulumi.dev.yaml"
    path.write_text(
        "config:\n  berth:model:\n    adapters:\n      sql: {name: a/b}\n      sql: {name: c/d}\n"
    )
    with pytest.raises(settings.SettingsError, match=r"is not YAML at line 5.*the key sql is there twice"):
        settings.load(path)


def test_each_adapter_is_an_argument_with_its_commit() -> None:
    second = {"name": "team/summary", "revision": _COMMIT}
    spec = _spec("model", _model(adapters={"sql": _ADAPTER, "summary": second}, max_lora_rank=64))
    start = spec.options.index("--lora-modules")
    modules = [json.loads(text) for text in spec.options[start + 1 : start + 3]]
    assert modules == [
        {"name": "sql", "path": f"team/sql@{_COMMIT}", "base_model_name": "qwen2.5-7b"},
        {"name": "summary", "path": f"team/summary@{_COMMIT}", "base_model_name": "qwen2.5-7b"},
    ]
    assert spec.options[spec.options.index("--max-loras") + 1] == "2"
    assert spec.options[spec.options.index("--max-lora-rank") + 1] == "64"
    assert "--enable-lora" in spec.options


def test_no_host_is_fetched_from_unless_it_is_named() -> None:
    closed = _spec("model.allowed_media_hosts", [])
    assert closed.options[closed.options.index("--allowed-media-domains") + 1] == "none.invalid"
    named = _spec("model.allowed_media_hosts", ["a.example.com", "b.example.com"])
    start = named.options.index("--allowed-media-domains")
    assert named.options[start + 1 : start + 3] == ("a.example.com", "b.example.com")
    assert closed.environment["VLLM_MEDIA_URL_ALLOW_REDIRECTS"] == "0"


def test_an_address_of_this_machine_may_be_named_on_the_sandbox() -> None:
    config = edited("model.allowed_media_hosts", ["127.0.0.1"], "local")
    assert loaded(config, "stacks/Pulumi.local.yaml").model.allowed_media_hosts == ("127.0.0.1",)


def test_a_pod_with_weights_in_its_image_reaches_out_for_images_alone() -> None:
    closed = _model(weights="image")
    assert not _spec("model", closed).reaches_internet
    assert _spec("model", {**closed, "allowed_media_hosts": ["a.example.com"]}).reaches_internet


def test_the_pooling_of_a_model_card_is_said_in_vllm_s_words() -> None:
    model = _model(task="embed", pooling={"type": "CLS", "normalize": True}, query_instruction="query: ")
    spec = _spec("model", model)
    said = json.loads(spec.options[spec.options.index("--pooler-config") + 1])
    assert said == {"pooling_type": "CLS", "use_activation": True}
    assert spec.queue_environment["BERTH_QUERY_INSTRUCTION"] == "query: "
    assert "--pooler-config" not in _spec("model", _model(task="embed")).options


def test_the_largest_sound_is_a_variable_of_vllm() -> None:
    assert _spec("serving.max_audio_mib", 64).environment["VLLM_MAX_AUDIO_CLIP_FILESIZE_MB"] == "64"
    assert "VLLM_MAX_AUDIO_CLIP_FILESIZE_MB" not in _spec("model.dtype", "auto").environment


# Formats and GPUs


def _on(gpus: str, pools: list[str], **model: Any) -> dict[str, Any]:
    config = base()
    config["berth:model"] = {**config["berth:model"], "dtype": "float16", **model}
    config["berth:eks"]["gpu_node_groups"]["gpu"].update(instance_types=[gpus], capacity_type="ON_DEMAND")
    config["berth:runpod"]["gpu_pools"] = pools
    return config


@pytest.mark.parametrize(
    ("gpus", "pools", "quantization", "said"),
    [
        ("g4dn.xlarge", ["ADA_24"], "modelopt", 'model.quantization = "modelopt" needs a GPU of compute capability 8.9; nvidia-t4 of eks.gpu_node_groups.gpu has 7.5: use one of awq'),
        ("g4dn.xlarge", ["ADA_24"], "fp8", "computed in 16"),
        ("g5.xlarge", ["ADA_24"], "fp8", "nvidia-a10g of eks.gpu_node_groups.gpu has 8.6"),
        ("g6.xlarge", ["AMPERE_24"], "fp8", "NVIDIA RTX A5000 of runpod.gpu_pools AMPERE_24 has 8.6"),
        ("g6.xlarge", ["ADA_24", "AMPERE_80"], "modelopt", "NVIDIA A100 80GB PCIe of runpod.gpu_pools AMPERE_80 has 8.0"),
        ("g6.xlarge", ["ADA_24", "AMPERE_48"], "fp8_per_tensor", "NVIDIA A40 of runpod.gpu_pools AMPERE_48 has 8.6"),
    ],
)  # fmt: skip
def test_a_quantization_that_a_gpu_does_not_have_is_refused(
    gpus: str, pools: list[str], quantization: str, said: str
) -> None:
    found = problems(_on(gpus, pools, quantization=quantization))
    assert any(said in line for line in found), found
    assert all(line.startswith("stacks/Pulumi.dev.yaml: berth:model.quantization = ") for line in found)


def test_mxfp4_and_bfloat16_are_refused_on_a_t4() -> None:
    found = problems(_on("g4dn.xlarge", ["ADA_24"], quantization="mxfp4", dtype="bfloat16"))
    assert any('model.dtype = "bfloat16": nvidia-t4' in line for line in found)
    assert any('model.quantization = "mxfp4" needs a GPU of compute capability 8.0' in line for line in found)


@pytest.mark.parametrize("quantization", ["awq", "awq_marlin", "gptq_marlin", "int8_per_channel_weight_only"])
def test_a_quantization_that_every_gpu_has_is_taken(quantization: str) -> None:
    assert loaded(_on("g4dn.xlarge", ["AMPERE_16"], quantization=quantization)).model.quantization


def test_the_older_gpus_of_a_pool_may_be_excluded() -> None:
    config = _on("g6.xlarge", ["AMPERE_24"], quantization="fp8")
    config["berth:runpod"]["excluded_gpu_types"] = ["NVIDIA RTX A5000", "NVIDIA GeForce RTX 3090"]
    assert loaded(config).model.quantization == "fp8"


def test_the_pools_are_those_of_runpod_s_catalogue() -> None:
    assert set(POOL_GPUS) == set(get_args(GpuPool))
    ours = {(pool, gpu.id, gpu.memory_gib) for pool, gpus in POOL_GPUS.items() for gpu in gpus}
    assert ours == {(gpu.pool, gpu.id, gpu.memory_gib) for gpu in catalogue.GPU_TYPES}


_ASK = """
import json, sys
from vllm.model_executor.layers.quantization import get_quantization_config
found = {}
for name in json.loads(sys.argv[1]):
    config = get_quantization_config(name)
    dtypes = config.get_supported_act_dtypes.__func__(config) if hasattr(
        config.get_supported_act_dtypes, "__func__") else config.get_supported_act_dtypes(None)
    found[name] = [config.get_min_capability(), sorted(str(dtype).removeprefix("torch.") for dtype in dtypes)]
from vllm.multimodal.media.connector import MediaConnector
from vllm.multimodal.media.image import ImageMediaIO
refused = {}
for url in json.loads(sys.argv[3]):
    connector = MediaConnector(allowed_media_domains=json.loads(sys.argv[2]))
    try:
        connector.load_from_url(url, ImageMediaIO())
    except Exception as error:
        refused[url] = str(error)
print(json.dumps([found, refused]))
"""
_PRIVATE = [
    "http://127.0.0.1:9/a.png",
    "http://169.254.169.254/latest/meta-data",
    "https://example.com/a.png",
]


@pytest.fixture(scope="module")
def said_by_vllm() -> tuple[dict[str, Any], dict[str, str]]:
    """What the pinned vLLM needs for each quantization, and what it says to addresses with no host allowed."""
    try:
        python = vllm.python()
    except vllm.NotInstalledError as missing:
        pytest.skip(str(missing))
    options = _spec("model.allowed_media_hosts", []).options
    hosts = [options[options.index("--allowed-media-domains") + 1]]
    given = [json.dumps(value) for value in (sorted(NEEDS), hosts, _PRIVATE)]
    asked = subprocess.run(
        [str(python), "-c", _ASK, *given], capture_output=True, text=True, check=False, timeout=300
    )
    assert asked.returncode == 0, asked.stderr[-2000:]
    needs, refused = json.loads(asked.stdout.splitlines()[-1])
    return needs, refused


def test_without_a_named_host_vllm_fetches_no_address(
    said_by_vllm: tuple[dict[str, Any], dict[str, str]],
) -> None:
    _, refused = said_by_vllm
    assert list(refused) == _PRIVATE
    assert all(
        "must be from one of the allowed domains: ['none.invalid']" in line for line in refused.values()
    )


def test_what_each_quantization_needs_is_what_the_pinned_vllm_says(
    said_by_vllm: tuple[dict[str, Any], dict[str, str]],
) -> None:
    found, _ = said_by_vllm
    assert set(NEEDS) == set(get_args(Quantization))
    for name, needs in NEEDS.items():
        capability, dtypes = found[name]
        assert needs.capability == divmod(capability, 10), name
        ours = set(needs.dtypes)
        assert ours == set(dtypes) - {"float8_e4m3fn"}, name


# Somebody else's server


def _server(**server: Any) -> dict[str, Any]:
    config = copy.deepcopy(configuration("custom-server"))
    config["berth:server"].update(server)
    return config


_CUSTOM = "stacks/Pulumi.custom-server.yaml"


def _changed(path: str, value: Any) -> dict[str, Any]:
    config = _server()
    section, _, key = path.partition(".")
    if not key:
        config[f"berth:{section}"] = value
        return config
    config.setdefault(f"berth:{section}", {})[key] = value
    if value == "QUEUE":  # which takes no idle timeout where it scales by requests
        del config["berth:runpod"]["idle_timeout_seconds"]
    return config


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("serving.gpu_memory_utilization", 0.9, "serving.gpu_memory_utilization = 0.9 is said to vLLM only: with berth:server"),
        ("serving.extra_args", ["--x"], 'serving.extra_args = ["--x"] is said to vLLM only'),
        ("model.max_model_len", 4096, "model.max_model_len = 4096 is said to vLLM only"),
        ("model.quantization", "awq", 'model.quantization = "awq" is said to vLLM only'),
        ("model.adapters", {"sql": _ADAPTER}, "model.adapters = "),
        ("image", {"builder": "codebuild"}, 'image.builder must be "prebuilt" with berth:server'),
        ("runpod.endpoint_type", "QUEUE", 'runpod.endpoint_type = "QUEUE": must be "LOAD_BALANCER" with berth:server'),
        ("server.command", ["serve"], "server.command: RunPod passes arguments to the image's own entry point"),
        ("server.user_id", 0, "server.user_id = 0: must be a user's number, 1 to 65535: not root"),
        ("server.health_path", "health", 'server.health_path = "health": must be a path such as /health'),
        ("server.data_path", "data", 'server.data_path = "data": must be an absolute path'),
        ("server.gpu_count", 2, "server.gpu_count = 2 is more than the GPUs of a node"),
        ("server.api_key_variable", "A-B", 'server.api_key_variable = "A-B": must be the name of an environment variable'),
        ("eks.s3_weights", {}, "eks.s3_weights: vLLM streams them"),
        ("eks.monitoring", {}, "eks.monitoring: follows vLLM's metrics"),
    ],
)  # fmt: skip
def test_what_another_server_cannot_take_is_refused(path: str, value: Any, said: str) -> None:
    found = problems(_changed(path, value), _CUSTOM)
    assert any(said in line for line in found), found


def test_a_server_that_asks_for_no_key_stays_inside() -> None:
    config = _server()
    config["berth:eks"]["load_balancer"] = {"internal": False, "allowed_cidrs": ["203.0.113.0/24"]}
    (problem,) = problems(config, _CUSTOM)
    assert "eks.load_balancer.internal must be true without server.api_key_variable" in problem
    config["berth:server"]["api_key_variable"] = "API_KEY"
    assert loaded(config, _CUSTOM).server is not None


def test_another_server_gets_its_own_arguments_and_nothing_of_vllm_s() -> None:
    read = loaded(_server(routes=["/v1/chat/completions"], api_key_variable="API_KEY"), _CUSTOM)
    spec = serving.spec(read)
    assert read.server is not None
    assert spec.args == read.server.args
    assert dict(spec.environment) == {}
    assert spec.routes == ("/v1/chat/completions", "/v1/models", "/health")
    assert (spec.port, spec.health_port, spec.api_key_variable) == (30000, 30000, "API_KEY")


def test_tensor_parallelism_is_one_setting_on_both_clouds() -> None:
    path = ROOT / "stacks" / "Pulumi.qwen25-7b.yaml"
    for count in (1, 2, 4):
        config = copy.deepcopy(configuration("qwen25-7b"))
        config["berth:serving"]["tensor_parallel_size"] = count
        assert serving.spec(loaded(config, f"stacks/{path.name}")).gpu_count == count
