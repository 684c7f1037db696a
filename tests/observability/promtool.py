"""Rules, dashboard and scaling under the real promtool."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Promtool:
    """The program, a folder for its files, and the rules under test."""

    program: Path
    folder: Path
    groups: list[dict[str, Any]]
    _cases: list[dict[str, Any]] = field(default_factory=list)

    def check(self) -> str:
        """Return what it says of the rules.

        Raises:
            AssertionError: it refuses them.
        """
        return self._run("check", "rules", "--lint=all", "--lint-fatal", str(self._rules()))

    def add(self, name: str, series: list[dict[str, str]], **expected: Any) -> None:
        """Add a case to the next `test`: series, and what they must come to."""
        self._cases.append({"name": name, "interval": "15s", "input_series": series, **expected})

    def test(self) -> None:
        """Evaluate the rules over all cases; what is not as expected fails, in promtool's own words."""
        file = self.folder / "test.yaml"
        file.write_text(
            yaml.safe_dump(
                {
                    "rule_files": [str(self._rules())],
                    "evaluation_interval": "30s",
                    "tests": self._cases,
                }
            )
        )
        self._run("test", "rules", str(file))

    def _rules(self) -> Path:
        file = self.folder / "rules.yaml"
        file.write_text(yaml.safe_dump({"groups": self.groups}))
        return file

    def _run(self, *arguments: str) -> str:
        result = subprocess.run([self.program, *arguments], capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout


def firing(alerts: dict[str, int], minutes: int) -> dict[str, Any]:
    """Return the expectation that just these alerts fire, by name and number, at this minute."""
    return {
        "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
        "eval_time": f"{minutes}m",
        "exp_samples": [
            {"labels": f'{{alertname="{name}"}}', "value": number} for name, number in sorted(alerts.items())
        ],
    }
