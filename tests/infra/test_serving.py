"""The shared definition: what every stack's server gets, and that the pinned vLLM knows all of it."""

from __future__ import annotations

import itertools
import json
import re
import subprocess

import pytest

from infra import serving, settings, timing
from sandbox import vllm
from tests.infra.graph import ROOT, STACKS, configuration

_OF_VLLM = [stack for stack in STACKS if "berth:server" not in configuration(stack)]

# vLLM's own parser in vLLM's own environment, once for all stacks: importing it takes seconds.
_PARSE = """
import json, sys
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser
from vllm import envs
parser = make_arg_parser(FlexibleArgumentParser())
found = {}
for stack, arguments in json.loads(sys.argv[1]).items():
    try:
        parsed = parser.parse_args(arguments[1:])
        found[stack] = {
            "max_model_len": parsed.max_model_len,
            "shutdown_timeout": parsed.shutdown_timeout,
            "load_format": parsed.load_format,
            "loader": parsed.model_loader_extra_config,
            "checks_environment": parsed.fail_on_environ_validation,
            "hosts": parsed.allowed_media_domains,
            "adapters": [[module.name, module.path] for module in parsed.lora_modules or ()],
            "images": (parsed.limit_mm_per_prompt or {}).get("image"),
            "pooling": parsed.pooler_config and parsed.pooler_config.seq_pooling_type,
            "graphs": parsed.compilation_config.cudagraph_capture_sizes,
        }
    except SystemExit as refused:
        found[stack] = {"refused": refused.code}
found["unknown"] = [name for name in json.loads(sys.argv[2]) if name not in envs.environment_variables]
print(json.dumps(found))
"""


def _spec(stack: str, **changes: object) -> serving.ServingSpec:
    given = {
        key: value if isinstance(value, str) else json.dumps(value)
        for key, value in configuration(stack, **changes).items()
    }
    return serving.spec(settings.from_config(given, f"stacks/Pulumi.{stack}.yaml"))


def _value(spec: serving.ServingSpec, name: str) -> str:
    return spec.args[spec.args.index(name) + 1]


@pytest.mark.parametrize("stack", _OF_VLLM)
def test_the_arguments_say_what_the_settings_say(stack: str) -> None:
    loaded = settings.load(ROOT / "stacks" / f"Pulumi.{stack}.yaml")
    spec = serving.spec(loaded)
    assert spec.args[0] == loaded.model.name
    assert _value(spec, "--revision") == loaded.model.revision
    assert _value(spec, "--served-model-name") == loaded.served_name
    assert _value(spec, "--max-model-len") == str(loaded.model.max_model_len)
    assert _value(spec, "--shutdown-timeout") == str(spec.timing.shutdown_timeout_seconds)
    names = [argument for argument in spec.args if argument.startswith("-")]
    assert len(names) == len(set(names))
    assert spec.environment["VLLM_ENGINE_READY_TIMEOUT_S"] == str(loaded.serving.startup_timeout_seconds)
    idle_seconds = loaded.require_eks().load_balancer.idle_timeout_seconds
    assert int(spec.environment["VLLM_HTTP_TIMEOUT_KEEP_ALIVE"]) > idle_seconds


def test_prefix_caching_is_left_to_vllm_unless_it_is_not_wanted() -> None:
    assert "--enable-prefix-caching" not in _spec("embeddings").args  # its start would end
    off = {**configuration("dev").get("berth:serving", {}), "enable_prefix_caching": False}
    assert "--no-enable-prefix-caching" in _spec("dev", serving=off).args
    assert "--no-enable-prefix-caching" not in _spec("dev").args


@pytest.mark.parametrize(("idle", "keep_alive"), [(4000, 4015), (300, 315), (30, 75)])
def test_the_server_keeps_a_connection_longer_than_the_load_balancer(idle: int, keep_alive: int) -> None:
    eks = {**configuration("dev")["berth:eks"], "load_balancer": {"idle_timeout_seconds": idle}}
    environment = _spec("dev", eks=eks).environment
    assert environment["VLLM_HTTP_TIMEOUT_KEEP_ALIVE"] == str(keep_alive)
    alone = _spec("dev", eks=eks, targets=["runpod"]).environment
    assert alone["VLLM_HTTP_TIMEOUT_KEEP_ALIVE"] == "75"


@pytest.mark.parametrize("stack", STACKS)
def test_two_runs_give_the_same(stack: str) -> None:
    assert _spec(stack) == _spec(stack)


@pytest.mark.parametrize(
    ("drain", "shutdown", "left"), [(120, 90, 15), (105, 77, 13), (20, 2, 3), (3600, 3570, 15)]
)
def test_the_drain_budget_is_split(drain: int, shutdown: int, left: int) -> None:
    found = timing.timing(startup_seconds=600, drain_seconds=drain, behind_load_balancer=True)
    assert found.pre_stop_seconds == 15
    assert found.shutdown_timeout_seconds == shutdown
    assert found.termination_grace_seconds - 15 - shutdown == left
    assert found.termination_grace_seconds == drain


@pytest.mark.parametrize("drain", [*range(timing.LEAST_DRAIN_SECONDS, 200), 3600])
def test_every_drain_budget_covers_what_it_is_for(drain: int) -> None:
    found = timing.timing(startup_seconds=600, drain_seconds=drain, behind_load_balancer=True)
    check = timing.LOAD_BALANCER_CHECK
    assert found.pre_stop_seconds > check.period_seconds * check.failure_threshold
    assert found.shutdown_timeout_seconds >= 2
    assert found.deregistration_delay_seconds < found.termination_grace_seconds
    assert found.deregistration_delay_seconds <= 3600  # AWS's limit


def test_without_a_load_balancer_of_ours_all_of_the_drain_is_for_requests() -> None:
    spec = _spec("dev", targets=["runpod"], serving={"drain_seconds": 60})
    assert spec.timing.pre_stop_seconds == 0
    assert _value(spec, "--shutdown-timeout") == "53"
    shortest = timing.timing(startup_seconds=1, drain_seconds=1, behind_load_balancer=False)
    assert shortest.shutdown_timeout_seconds == 1


@pytest.mark.parametrize("startup", [1, 599, 600, 1800])
def test_every_wait_for_a_start_is_longer_than_the_startup_budget(startup: int) -> None:
    found = timing.timing(startup_seconds=startup, drain_seconds=120, behind_load_balancer=True)
    probe = found.startup
    assert startup <= probe.period_seconds * probe.failure_threshold < startup + probe.period_seconds
    assert found.cold_start_seconds > startup
    # Without a spare GPU, the old pod ends before the new one starts.
    assert found.progress_deadline_seconds >= 120 + found.cold_start_seconds
    assert found.rollout_minutes(3) * 60 >= 3 * found.progress_deadline_seconds


def test_weights_in_the_image_are_found_without_the_hub_and_outside_the_cache_volume() -> None:
    dockerfile = (ROOT / "image" / "Dockerfile").read_text()
    model = {**configuration("dev")["berth:model"], "weights": "image"}
    spec = _spec("dev", model=model)
    assert spec.environment["HF_HUB_OFFLINE"] == "1"
    place = spec.environment["HF_HUB_CACHE"]
    assert f"HF_HUB_CACHE={place} " in dockerfile
    assert not place.startswith("/home/vllm/.cache")
    hub = _spec("dev")
    assert not {"HF_HUB_OFFLINE", "HF_HUB_CACHE"} & set(hub.environment)
    assert spec.args == hub.args


def test_vllm_starts_by_its_own_command_unless_the_stack_says_otherwise() -> None:
    quick = {**configuration("dev")["berth:serving"], "fast_start": True}
    assert "BERTH_FAST_START" not in _spec("dev").environment
    assert _spec("dev", serving=quick).environment["BERTH_FAST_START"] == "1"


@pytest.mark.parametrize(
    ("max_num_seqs", "sizes"),
    [(None, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]), (1, [1]), (48, [1, 2, 4, 8, 16, 32, 64])],
)
def test_without_compilation_every_batch_still_has_a_graph_of_at_least_its_size(
    max_num_seqs: int | None, sizes: list[int]
) -> None:
    serving = {**configuration("dev")["berth:serving"], "compile": False, "max_num_seqs": max_num_seqs}
    said = dict(itertools.pairwise(_spec("dev", serving=serving).args))["--compilation-config"]
    assert json.loads(said) == {
        "mode": 0,
        "cudagraph_mode": "FULL_DECODE_ONLY",
        "cudagraph_capture_sizes": sizes,
    }
    assert "--compilation-config" not in _spec("dev").args


def test_streamed_weights_come_without_a_revision_and_within_the_pod_s_memory() -> None:
    spec = _spec("dev")
    options = spec.streamed_options(concurrency=32, memory_gib=16)
    assert "--revision" not in options
    assert "--tokenizer-revision" not in options
    assert options[: len(spec.options)] == spec.options
    assert json.loads(options[-1]) == {"concurrency": 32, "memory_limit": 8 * 2**30}


@pytest.mark.parametrize(("eager", "distributed"), [(False, True), (True, None)])
def test_several_gpus_share_the_memory_and_the_reading(eager: bool, distributed: bool | None) -> None:
    eks = configuration("dev")["berth:eks"]
    groups = {"gpu": {"instance_types": ["g6.12xlarge"], "max": 8}}
    spec = _spec(
        "dev",
        targets=["eks"],
        eks={**eks, "gpu_node_groups": groups, "replicas": 1, "surge": False, "pod": {"memory_gib": 64}},
        serving={"tensor_parallel_size": 4, "enforce_eager": eager},
    )
    loader = json.loads(spec.streamed_options(concurrency=16, memory_gib=64)[-1])
    assert loader["memory_limit"] * 4 == 32 * 2**30
    assert loader.get("distributed") is distributed


@pytest.mark.parametrize(
    ("task", "route", "arguments"),
    [
        ("generate", "/v1/chat/completions", ()),
        ("embed", "/v1/embeddings", ("--runner", "pooling", "--convert", "embed")),
        ("score", "/v1/rerank", ("--runner", "pooling", "--convert", "classify")),
        ("classify", "/classify", ("--runner", "pooling", "--convert", "classify")),
        ("transcribe", "/v1/audio/transcriptions", ()),
    ],
)
def test_a_task_has_its_arguments_and_its_routes(task: str, route: str, arguments: tuple[str, ...]) -> None:
    model = {**configuration("dev")["berth:model"], "task": task}
    spec = _spec("dev", model=model)
    assert spec.options[: len(arguments)] == arguments
    assert route in spec.routes
    unguarded = [path for path in spec.routes if not path.startswith("/v1/")]
    assert set(unguarded) <= {"/health", "/classify"}


def test_the_image_is_of_the_vllm_that_the_flags_are_checked_against() -> None:
    found = re.search(r"^FROM \S+:v(\S+)$", (ROOT / "image" / "Dockerfile").read_text(), re.MULTILINE)
    assert found
    assert found[1] == vllm.version()


def test_the_pinned_vllm_s_own_parser_takes_the_arguments() -> None:
    try:
        python = vllm.python()
    except vllm.NotInstalledError as missing:
        pytest.skip(str(missing))
    specs = {stack: _spec(stack) for stack in _OF_VLLM}
    lists = {stack: spec.args for stack, spec in specs.items()}
    streamed = specs["dev"].streamed_options(concurrency=16, memory_gib=16)
    lists |= {"streamed": ("s3://bucket/prefix", *streamed), "wrong": ("a/b", "--swap-space", "4")}
    quick = {**configuration("dev")["berth:serving"], "compile": False, "max_num_seqs": 3}
    lists["not compiled"] = _spec("dev", serving=quick).args
    dockerfile = (ROOT / "image" / "Dockerfile").read_text()
    variables = set(re.findall(r"\b(VLLM_[A-Z_]+)=", dockerfile)) | {"VLLM_API_KEY"}
    for spec in specs.values():
        variables |= {name for name in spec.environment if name.startswith("VLLM_")}
    command = [str(python), "-c", _PARSE, json.dumps(lists), json.dumps([*sorted(variables), "VLLM_NO_SUCH"])]
    parsed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert parsed.returncode == 0, parsed.stderr[-2000:]
    found = json.loads(parsed.stdout.splitlines()[-1])
    assert found.pop("wrong") == {"refused": 2}
    # With --fail-on-environ-validation, one that vLLM does not know ends the start.
    assert found.pop("unknown") == ["VLLM_NO_SUCH"]
    assert found.pop("not compiled")["graphs"] == [1, 2, 4]
    from_s3 = found.pop("streamed")
    assert from_s3["load_format"] == "runai_streamer"
    assert from_s3["loader"] == {"concurrency": 16, "memory_limit": 8 * 2**30}
    for stack, spec in specs.items():
        model = settings.load(ROOT / "stacks" / f"Pulumi.{stack}.yaml").model
        assert found[stack] == {
            "max_model_len": int(_value(spec, "--max-model-len")),
            "shutdown_timeout": spec.timing.shutdown_timeout_seconds,
            "load_format": "auto",
            "loader": {},
            "checks_environment": True,
            "hosts": list(model.allowed_media_hosts) or ["none.invalid"],
            "adapters": [
                [name, f"{adapter.name}@{adapter.revision}"] for name, adapter in model.adapters.items()
            ],
            "images": model.max_images_per_prompt,
            "pooling": model.pooling.type,
            "graphs": None,
        }
