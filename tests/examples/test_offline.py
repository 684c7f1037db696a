"""The offline example: vLLM's `LLM` class with the engine of a stack's servers."""

from __future__ import annotations

import subprocess

from examples import environment


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment.ensure(print)
    return subprocess.run(
        environment.command("examples.offline", *arguments),
        env=environment.variables(),
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )


def test_it_generates_with_a_stacks_own_arguments() -> None:
    result = run("--stack", "local", "--max-tokens", "8", "A ship", "The sea")
    assert result.returncode == 0, result.stderr[-3000:]
    first, second = result.stdout.splitlines()[-2:]
    assert first.startswith("'A ship' -> ")
    assert second.startswith("'The sea' -> ")
    assert len(second) > len("'The sea' -> ''")


def test_a_stack_that_is_not_there_is_said() -> None:
    result = run("--stack", "nowhere")
    assert result.returncode == 1
    assert "stacks/Pulumi.nowhere.yaml: there is no stack nowhere; there are: codellama-34b" in result.stderr
    assert "Traceback" not in result.stderr
