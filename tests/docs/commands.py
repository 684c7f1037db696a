"""The commands in the README and in docs/: each line of their fenced blocks of shell, and what runs it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
_BLOCK = re.compile(r"^```(?:sh|bash|shell|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)

ELSEWHERE = {
    # A test of it would run all tests, itself among them: these run what it runs.
    "./berth test": "tests/docs/test_commands.py::test_the_checks_and_pytest_are_what_berth_test_runs",
    "./berth test tests/ops -k launcher": (
        "tests/docs/test_commands.py::test_the_checks_and_pytest_are_what_berth_test_runs"
    ),
    # Minutes of training, in an environment of its own; the tests there share one.
    "./berth example intents finetune adapter": "tests/examples/test_intents.py::test_it_learns",
    "./berth example intents merge adapter merged": (
        "tests/examples/test_intents.py::"
        "test_numbers_are_the_same_before_and_after_the_merge_and_through_both_doors"
    ),
    "./berth example intents evaluate adapter merged --picture confusion.png": (
        "tests/examples/test_intents.py::test_the_confusion_matrices_are_a_picture"
    ),
    './berth example offline --stack local "A ship"': (
        "tests/examples/test_offline.py::test_it_generates_with_a_stacks_own_arguments"
    ),
    # As it is there, and with --json.
    "./berth load --stack local --users 4 --ramp 1 --seconds 10": (
        "tests/e2e/test_both_targets.py::test_load_is_answered_by_both_and_what_vllm_counts_meanwhile_is_read"
    ),
    # A server for each value, and records that are there.
    "./berth bench sweep --stack local serving.max_num_seqs=2,8 --ttft-p99-ms 2000": (
        "tests/ops/test_bench_sweep.py::test_a_combination_without_room_is_a_row_that_says_why_and_not_the_end"
    ),
    "./berth bench compare results/local/A-bench.json results/local/B-bench.json": (
        "tests/ops/test_bench_compare.py::test_the_command_shows_ratios_and_refuses_what_is_no_record"
    ),
    # The real CLI, where there is one on PATH.
    "pulumi preview -s local": (
        "tests/e2e/test_both_targets.py::test_the_real_cli_takes_the_stack_over_and_sees_no_changes"
    ),
    # It takes away what the other tests work in.
    "rm -rf .venv .sandbox ~/.cache/berth": (
        "tests/e2e/test_both_targets.py::test_destroy_leaves_nothing_and_does_not_touch_the_stack_file"
    ),
    "./berth destroy --stack local --yes": (
        "tests/e2e/test_both_targets.py::test_destroy_leaves_nothing_and_does_not_touch_the_stack_file"
    ),
}
"""Command -> the test that runs it, where running it here would take too long or break what others need."""


@dataclass(frozen=True)
class Command:
    """One command as a document has it.

    Args:
        file: the document, below the project's folder.
        text: without its comment.
        before: what the same block sets for its shell before, such as `export ...`.
    """

    file: str
    text: str
    before: tuple[str, ...] = ()

    @property
    def script(self) -> str:
        """What a shell is given."""
        return " && ".join((*self.before, self.text))

    @property
    def is_for_local(self) -> bool:
        """Whether it works on a stack `local` that is up."""
        return any(re.search(r"(--stack|-s) local\b", line) for line in (*self.before, self.text))

    @property
    def is_for_a_queue(self) -> bool:
        """Whether the stack's endpoint on RunPod must be a queue."""
        return self.text.startswith("./berth jobs")


def commands() -> list[Command]:
    """Return every command once, in the order of the documents."""
    files = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    found: dict[str, Command] = {}
    for file in files:
        for block in _BLOCK.findall(file.read_text()):
            for command in _lines(str(file.relative_to(ROOT)), block):
                found.setdefault(command.text, command)
    return list(found.values())


def _lines(file: str, block: str) -> Iterator[Command]:
    before: list[str] = []
    for line in block.replace("\\\n", " ").splitlines():
        text = " ".join(re.sub(r"(^|\s)#.*", "", line).split())
        if not text:
            continue
        yield Command(file, text, tuple(before))
        if text.startswith(("export ", "eval ")):
            before.append(text)


def inline(text: str) -> list[str]:
    """Return the commands in the sentences of a document, such as `./berth up`."""
    return re.findall(r"`(\./berth [^`\n]+)`", _BLOCK.sub("", text))


def run_by_the_stack_local(*, queue: bool) -> list[Command]:
    """Return what is run for real on a stack `local` that is up, whose RunPod endpoint is a queue or not."""
    return [
        command
        for command in commands()
        if command.is_for_local and command.text not in ELSEWHERE and command.is_for_a_queue == queue
    ]


def run_with_stand_ins() -> list[Command]:
    """Return what is run with a stand-in of the Pulumi CLI, and accounts of the sandbox."""
    return [command for command in commands() if not command.is_for_local and command.text not in ELSEWHERE]
