"""What vLLM wrote of its memory when it started."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ops.errors import OpsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ops.endpoints import Endpoint
    from ops.log_lines import Platform

# "GPU KV cache size: 756,976 tokens" and "CPU KV cache size: ..." (vLLM 0.32.0, v1/core/kv_cache_utils.py)
_SIZE = re.compile(r"\bKV cache size: ([\d,]+) tokens")
_LINES = 5000  # as many as RunPod gives; a server that has served for long has written more since


def kv_cache_tokens(
    endpoint: Endpoint, *, runpod_api: str, environment: Mapping[str, str], kubeconfig: str | None
) -> int | None:
    """Return for how many tokens vLLM has room, by the log of one of its servers; None where none says so.

    Args:
        endpoint: whose servers.
        runpod_api: the base URL of RunPod's REST API.
        environment: the variables under which the kubeconfig's own command works.
        kubeconfig: the cluster's kubeconfig, for a stack with one.
    """
    try:
        platform = _platform(endpoint, runpod_api, environment, kubeconfig)
        if platform is None:
            return None
        for origin in platform.origins():
            for line in platform.log(origin).lines(follow=False):
                if found := _SIZE.search(line.text):
                    return int(found[1].replace(",", ""))
    except OpsError:
        # It is no part of what an endpoint has to do.
        return None
    return None


def _platform(
    endpoint: Endpoint, runpod_api: str, environment: Mapping[str, str], kubeconfig: str | None
) -> Platform | None:
    if endpoint.platform == "runpod":
        from ops.runpod import Runpod  # noqa: PLC0415  # either client is a quarter of a second of imports
        from ops.worker_logs import WorkerLogs  # noqa: PLC0415

        return WorkerLogs(Runpod(runpod_api, endpoint), source="container", tail=_LINES)
    if kubeconfig is None:
        return None
    from ops.pod_logs import PodLogs  # noqa: PLC0415

    return PodLogs(kubeconfig, environment, tail=_LINES)
