"""The pack in the real Pulumi: a preview of what violates it fails, and says why."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]
_PACK = _ROOT / "infra" / "policy"
# Components may carry any type: the engine shows them to the pack, and no cloud is asked.
_PROGRAM = """
import pulumi

class Anything(pulumi.ComponentResource):
    pass

taint = {"key": "nvidia.com/gpu", "effect": "NO_SCHEDULE"}
for name, taints in {"bare": [], "tainted": [taint]}.items():
    Anything("aws:eks/nodeGroup:NodeGroup", name, {"amiType": "AL2023_x86_64_NVIDIA", "taints": taints})
"""

pytestmark = pytest.mark.skipif(
    not (shutil.which("pulumi") and shutil.which("pulumi-language-python")),
    reason="the real Pulumi with its Python host is not on PATH",
)


def _preview(folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "state").mkdir()
    (folder / "Pulumi.yaml").write_text("name: berth\nruntime: python\n")
    (folder / "__main__.py").write_text(_PROGRAM)
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PULUMI_HOME": str(folder / "home"),
        "PULUMI_BACKEND_URL": (folder / "state").as_uri(),
        "PULUMI_CONFIG_PASSPHRASE": "",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
    }
    pulumi = ["pulumi", "--non-interactive"]
    subprocess.run([*pulumi, "stack", "init", "dev"], cwd=folder, env=environment, check=True)
    return subprocess.run(
        [*pulumi, "preview", "--stack", "dev", "--policy-pack", str(_PACK)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_a_preview_fails_for_what_violates_a_policy_and_for_nothing_else(tmp_path: Path) -> None:
    done = _preview(tmp_path)
    assert done.returncode != 0
    assert "berth@v1.0.0" in done.stdout, done.stdout + done.stderr
    assert "[mandatory]  gpu-groups-are-tainted" in done.stdout
    assert done.stdout.count("[mandatory]") == 1
    assert "the node group bare has GPUs and takes any pod" in done.stdout
    assert "the node group tainted" not in done.stdout
