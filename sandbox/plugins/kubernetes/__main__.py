"""Starts the Kubernetes provider plugin."""

from __future__ import annotations

import sys

from sandbox.plugins.host import serve
from sandbox.plugins.kubernetes.provider import KubernetesProvider

if __name__ == "__main__":
    serve(KubernetesProvider(), sys.argv[1:])
