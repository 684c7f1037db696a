"""The shared definition: what every stack's server gets, and that the pinned vLLM knows all of it."""

from __future__ import annotations

import json
import re
import subprocess

import pytest

from infra import serving, settings
from sandbox import vllm
from tests.infra.graph import ROOT, STACKS, configuration

# vLLM's own parser in vLLM's own environment, once for all stacks: importing it takes seconds.
_PARSE = """
import json, sys
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = make_arg_parser(FlexibleArgumentParser())
found = {}
for stack, arguments in json.loads(sys.argv[1]).items():
    try:
        parsed = parser.parse_args(arguments[1:])
        found[stack] = {"max_model_len": parsed.max_model_len, "shutdown_timeout": parsed.shutdown_timeout}
    except SystemExit as refused:
        found[stack] = {"refused": refused.code}
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


@pytest.mark.parametrize("stack", STACKS)
def test_the_arguments_say_what_the_settings_say(stack: str) -> None:
    loaded = settings.load(ROOT / "stacks" / f"Pulumi.{stack}.yaml")
    spec = serving.spec(loaded)
    assert spec.args[0] == loaded.model.name
    assert _value(spec, "--revision") == loaded.model.revision
    assert _value(spec, "--served-model-name") == loaded.served_name
    assert _value(spec, "--max-model-len") == str(loaded.model.max_model_len)
    assert _value(spec, "--shutdown-timeout") == str(spec.shutdown_timeout_seconds)
    names = [argument for argument in spec.args if argument.startswith("-")]
    assert len(names) == len(set(names))
    assert spec.environment["VLLM_ENGINE_READY_TIMEOUT_S"] == str(loaded.serving.startup_timeout_seconds)
    idle_seconds = loaded.require_eks().load_balancer.idle_timeout_seconds
    assert int(spec.environment["VLLM_HTTP_TIMEOUT_KEEP_ALIVE"]) > idle_seconds


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
    ("drain", "pre_stop", "shutdown"), [(120, 15, 90), (105, 13, 79), (5, 0, 5), (1, 0, 1), (8, 1, 6)]
)
def test_the_drain_budget_is_split(drain: int, pre_stop: int, shutdown: int) -> None:
    spec = _spec("local", serving={"drain_seconds": drain})
    assert (spec.pre_stop_seconds, spec.shutdown_timeout_seconds) == (pre_stop, shutdown)
    assert spec.termination_grace_seconds == drain


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
    assert spec.args[1 : 1 + len(arguments)] == arguments
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
    specs = {stack: _spec(stack) for stack in STACKS}
    wrong = {"wrong": ("a/b", "--swap-space", "4")}
    arguments = json.dumps({stack: spec.args for stack, spec in specs.items()} | wrong)
    parsed = subprocess.run([python, "-c", _PARSE, arguments], capture_output=True, text=True, check=False)
    assert parsed.returncode == 0, parsed.stderr[-2000:]
    found = json.loads(parsed.stdout.splitlines()[-1])
    assert found.pop("wrong") == {"refused": 2}
    assert found == {
        stack: {
            "max_model_len": int(_value(spec, "--max-model-len")),
            "shutdown_timeout": spec.shutdown_timeout_seconds,
        }
        for stack, spec in specs.items()
    }
