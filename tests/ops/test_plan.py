"""`berth plan`, from outside: for every stack file, and for what does not fit."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from infra.gpus import INSTANCE_GPUS, POOL_GPUS
from infra.settings import load
from ops.cli import app
from ops.plan import gpus
from sandbox.runpod.catalogue import GPU_TYPES
from tests.infra.graph import ROOT, STACKS
from tests.ops.planning import chosen, planned

if TYPE_CHECKING:
    from tests.ops.conftest import Project

OTHER_SERVERS = [name for name in STACKS if load(ROOT / "stacks" / f"Pulumi.{name}.yaml").server is not None]


@pytest.mark.parametrize("stack", sorted(set(STACKS) - set(OTHER_SERVERS)))
def test_what_every_stack_file_chose_fits(stack: str) -> None:
    settings = load(ROOT / "stacks" / f"Pulumi.{stack}.yaml")
    plan = planned("--stack", stack, "--offline")
    assert plan["fits"] is True
    assert plan["problems"] == []
    picked = chosen(plan)
    assert {item["name"] for item in picked if item["target"] == "runpod"} == set(
        settings.runpod.gpu_pools if settings.runpod else ()
    )
    groups = settings.eks.gpu_node_groups.values() if settings.eks else ()
    assert {item["name"] for item in picked if item["target"] == "eks"} == {
        name for group in groups for name in group.instance_types
    }
    for item in picked:
        assert item["fits"]
        assert item["sequences_of_the_load"] >= 1
        assert item["usd_per_million_tokens"] > 0
        memory = item["memory_gib"]
        parts = sum(value for name, value in memory.items() if name != "usable")
        assert parts == pytest.approx(memory["usable"], abs=0.01)
    fitting = [item["usd_per_million_tokens"] for item in plan["candidates"] if item["fits"]]
    priced = [cost for cost in fitting if cost is not None]
    assert priced == sorted(priced)
    assert "the table that ships" in plan["prices"]["aws"]
    assert {item["way"] for item in plan["monthly"]} == {"eks", "runpod", "mix"}


def test_codellama_fits_one_gpu_of_80_gb_and_unquantized_it_would_not() -> None:
    plan = planned("--stack", "codellama-34b", "--offline")
    for item in chosen(plan):
        assert item["gpu"].startswith(("H100", "A100"))
        assert item["tensor_parallel_size"] == 1
        assert item["sequences_at_max_model_len"] > 10
    assert plan["model"]["weights_bytes"] < 21e9
    assert plan["model"]["parameters"] * 2 > 64e9


@pytest.mark.parametrize("stack", OTHER_SERVERS)
def test_the_memory_of_another_server_is_not_estimated(stack: str) -> None:
    plan = planned("--stack", stack, "--offline", exit_status=1)
    assert plan["fits"] is None
    assert "berth:server" in plan["problems"][0]
    assert all(item["usd_per_hour"] > 0 for item in plan["chosen"])
    assert {item["target"] for item in plan["chosen"]} == {"eks", "runpod"}


def test_people_read_the_same() -> None:
    done = CliRunner().invoke(app, ["plan", "--stack", "dev", "--offline"])
    assert done.exit_code == 0, done.output
    for words in (
        "7.62 billion parameters",
        "14.19 GiB, bfloat16",
        "g6.xlarge spot",
        "a month at 1,000 requests an hour",
        "first token on EKS",
        "first token on RunPod",
        "image-build",
        "█",
        "fits: Qwen/Qwen2.5-7B-Instruct on",
    ):
        assert words in done.stdout
    marked = {line.split()[2] for line in done.stdout.splitlines() if line.startswith("→")}
    assert marked == {"g6.xlarge", "g6.2xlarge", "ADA_24", "AMPERE_24"}


def edit(project: Project, stack: str, *changes: tuple[str, str]) -> None:
    path = project.root / "stacks" / f"Pulumi.{stack}.yaml"
    text = path.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)


def test_what_does_not_fit_is_said_with_what_would(project: Project) -> None:
    edit(
        project,
        "dev",
        ("max_model_len: 8192", "max_model_len: 32768"),
        ("gpu_memory_utilization: 0.92", "gpu_memory_utilization: 0.8"),
    )
    done = project.berth("plan", "--stack", "dev", "--offline", exit_status=1)
    assert (
        "stacks/Pulumi.dev.yaml: berth:eks.gpu_node_groups: g6.xlarge does not hold the model" in done.stdout
    )
    assert "one sequence of 32768 tokens lacks" in done.stdout
    assert "the cheapest that does is" in done.stdout
    assert "fits:" not in done.stdout


def test_a_context_longer_than_the_model_can_is_refused(project: Project) -> None:
    edit(project, "prod", ("max_model_len: 16384", "max_model_len: 65536"))
    done = project.berth("plan", "--stack", "prod", "--offline", "--json", exit_status=1)
    plan = json.loads(done.stdout)
    assert plan["fits"] is False
    assert any(
        "max_model_len = 65536: the model was made for 32768 tokens" in line for line in plan["problems"]
    )


def test_an_unknown_model_without_a_hub_is_said(project: Project) -> None:
    edit(project, "dev", ("name: Qwen/Qwen2.5-7B-Instruct", "name: somebody/else"))
    done = project.berth("plan", "--stack", "dev", "--offline", exit_status=1)
    assert "the model somebody/else cannot be planned for" in done.stderr
    assert "HF_ENDPOINT" in done.stderr


def test_more_tokens_than_the_context_are_refused() -> None:
    done = CliRunner().invoke(app, ["plan", "--stack", "dev", "--offline", "--prompt-tokens", "9000"])
    assert done.exit_code == 2
    assert "max_model_len in stacks/Pulumi.dev.yaml is 8192" in done.stderr


def test_costs_follow_the_load() -> None:
    def ways(*arguments: str) -> dict[str, dict[str, Any]]:
        plan = planned("--stack", "dev", "--offline", *arguments)
        return {item["way"]: item for item in plan["monthly"]}

    usual, none, much = ways(), ways("--hours-per-day", "0"), ways("--requests-per-hour", "1000000")
    fixed = usual["eks"]["parts"]
    assert fixed["cluster"] == 73.0
    assert fixed["NAT gateways"] == pytest.approx(0.045 * 730, abs=0.01)
    assert fixed["system nodes"] == pytest.approx(0.0832 * 730 + 50 * 0.08, abs=0.01)
    # One g6.2xlarge as a spot machine, the dearer of the two, and its 200 GiB.
    assert fixed["GPU machines"] == pytest.approx(0.9776 * 0.7 * 730 + 16, abs=0.01)
    assert none["runpod"]["usd"] == 0
    assert none["eks"]["usd"] == usual["eks"]["usd"]
    assert 0 < usual["runpod"]["usd"] <= 0.00031 * 3600 * 730 + 0.01
    assert "the stack file allows 1" in much["eks"]["problem"]
    assert "the stack file allows 1" in much["runpod"]["problem"]
    assert usual["mix"]["parts"]["workers"] == 0
    assert much["mix"]["parts"]["workers"] > 0


def test_the_first_token_comes_after_the_longest_chain() -> None:
    plan = planned("--stack", "prod", "--offline")
    record = json.loads((ROOT / "benchmarks" / "results" / "critical_path_prod.json").read_text())
    by_target = {item["target"]: item for item in plan["first_token"]}
    assert by_target["eks"]["minutes"] <= record["critical_path_minutes"]
    assert by_target["eks"]["steps"][-1]["name"].startswith("model")
    assert by_target["runpod"]["steps"][-1]["name"] == "vLLM's start"
    for item in by_target.values():
        steps = item["steps"]
        for before, after in itertools.pairwise(steps):
            assert after["starts"] >= before["starts"] + before["minutes"] - 0.11
        assert item["minutes"] == pytest.approx(steps[-1]["starts"] + steps[-1]["minutes"], abs=0.15)
        assert all(step["source"] for step in steps)


def test_a_stack_on_one_cloud_has_the_costs_of_that_alone(project: Project) -> None:
    edit(project, "prod", ("berth:targets: [eks, runpod]", "berth:targets: [runpod]"))
    done = project.berth("plan", "--stack", "prod", "--offline", "--json")
    plan = json.loads(done.stdout)
    assert [item["way"] for item in plan["monthly"]] == ["runpod"]
    assert [item["target"] for item in plan["first_token"]] == ["runpod"]
    assert {item["target"] for item in chosen(plan)} == {"runpod"}


def test_a_vpc_and_a_version_of_the_users_own_are_taken_as_they_are(project: Project) -> None:
    ours = (
        "network:\n      existing: {vpc_id: vpc-0aaaaaaaaaaaaaaaa, "
        "node_subnet_ids: [subnet-0aaaaaaaaaaaaaaa1, subnet-0aaaaaaaaaaaaaaa3], "
        "load_balancer_subnet_ids: [subnet-0aaaaaaaaaaaaaaa5, subnet-0aaaaaaaaaaaaaaa7]}"
    )
    text = (project.root / "stacks" / "Pulumi.dev.yaml").read_text()
    nat = text[text.index("network:") : text.index("    api:")].rstrip()
    edit(project, "dev", (nat, f"{ours}\n    kubernetes_version: '1.36'"))
    done = project.berth("plan", "--stack", "dev", "--offline", "--json")
    plan = json.loads(done.stdout)
    eks = next(item for item in plan["monthly"] if item["way"] == "eks")
    assert "cluster" in eks["parts"]
    assert "NAT gateways" not in eks["parts"]


def test_the_table_of_prices_is_that_of_the_sandboxs_catalog() -> None:
    table = json.loads((ROOT / "ops" / "plan" / "prices.json").read_text())["runpod"]["usd_per_second"]
    assert {gpu.pool: gpu.usd_per_second for gpu in GPU_TYPES} == table
    known = {gpu.id: gpu.memory_gib for pool in POOL_GPUS.values() for gpu in pool}
    assert {gpu.id: gpu.memory_gib for gpu in GPU_TYPES} == known


def test_every_gpu_that_can_be_rented_has_its_facts() -> None:
    found = [gpus.of_instance(name) for name in INSTANCE_GPUS]
    found += [gpu for pool in POOL_GPUS for gpu in gpus.of_pool(pool)]
    sold = [item.memory_gib for item in INSTANCE_GPUS.values()]
    sold += [gpu.memory_gib for pool in POOL_GPUS.values() for gpu in pool]
    for gpu, memory_gib in zip(found, sold, strict=True):
        assert 0.9 * memory_gib < gpu.memory_gib < memory_gib
        assert gpu.tflops_8_bit >= gpu.tflops


def test_the_local_stack_is_planned_as_if_its_gpus_were_real() -> None:
    assert planned("--stack", "local")["first_token"] == []
