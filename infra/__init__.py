"""What is deployed: the Pulumi program and the settings it reads."""

from __future__ import annotations

import sys
from pathlib import Path

# Pulumi starts the program, and the host of its dynamic providers, in this very folder (`main` in
# Pulumi.yaml), which Python then searches first: `import sandbox` or `import runpod` would find a module of
# `infra` instead of the package of that name.
_HERE = Path(__file__).resolve().parent
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != _HERE]
