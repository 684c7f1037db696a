"""Reads what vLLM counts inside, beside a load: of every pod on EKS, of a worker or the queue on RunPod.

A pod's `/metrics` comes by port forwarding, with the stack's kubeconfig: the load balancer lets through the
paths of the API only, and the network policy of the model's pods keeps the API server's own proxy out. The
load balancer of RunPod passes `/metrics` on to one worker; a queue has no way to a worker, and says its own
counts. What cannot be read is said, and is no error.
"""

from __future__ import annotations

import threading
import time
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, Any, Protocol, Self

import httpx
from kubernetes.stream import portforward
from prometheus_client.parser import text_string_to_metric_families

from infra.serving import PORT
from infra.settings import PROJECT
from ops.cluster import ERRORS, core_api
from ops.errors import OpsError
from ops.job_queue import JobQueue
from ops.pod_logs import SELECTOR

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType

    from ops.endpoints import Endpoint

_INTERVAL_SECONDS = 2.0
_LIMIT_SECONDS = 5.0
# vLLM's names, and how the counts of several engines behind one server come together.
# Source: vLLM 0.32, vllm/v1/metrics/loggers.py.
_METRICS: dict[str, tuple[str, Callable[[Iterable[float]], float]]] = {
    "vllm:kv_cache_usage_perc": ("kv_cache_usage", max),
    "vllm:num_requests_running": ("running", sum),
    "vllm:num_requests_waiting": ("waiting", sum),
    "vllm:generation_tokens_total": ("generated_tokens", sum),
    "vllm:num_preemptions_total": ("preemptions", sum),
    "vllm:prefix_cache_queries_total": ("prefix_cache_queries", sum),
    "vllm:prefix_cache_hits_total": ("prefix_cache_hits", sum),
}


class Source(Protocol):
    """Something whose engines can be read."""

    platform: str

    def read(self) -> dict[str, dict[str, float]]:
        """Return what each of its engines counts, by the engine's name.

        Raises:
            OpsError: it cannot be read; the message says why.
        """


class Pods:
    """The pods of the model on EKS.

    Args:
        kubeconfig: the cluster's kubeconfig.
        environment: the variables under which its command for a token works.
        port: where the server listens in a pod.
    """

    platform = "eks"

    def __init__(self, kubeconfig: str, environment: Mapping[str, str], port: int = PORT) -> None:
        self._kubeconfig = kubeconfig
        self._environment = environment
        self._port = port
        self._api: Any = None

    def read(self) -> dict[str, dict[str, float]]:
        """Return what vLLM counts in each pod that is ready.

        Raises:
            OpsError: the cluster does not answer or refuses, or no pod is ready.
        """
        try:
            if self._api is None:
                self._api = core_api(self._kubeconfig, self._environment)
            pods = self._api.list_namespaced_pod(
                PROJECT, label_selector=SELECTOR, _request_timeout=_LIMIT_SECONDS
            ).items
            found = {pod.metadata.name: self._metrics(pod.metadata.name) for pod in pods if _ready(pod)}
        except ERRORS as error:
            if getattr(error, "status", None) == httpx.codes.UNAUTHORIZED:
                self._api = None  # its token has ended
            reason = getattr(error, "reason", None) or type(error).__name__
            raise OpsError(f"the cluster does not give a pod's /metrics: {reason}") from None
        if not found:
            raise OpsError("no pod of the model is ready")
        return found

    def _metrics(self, pod: str) -> dict[str, float]:
        forwarded = portforward(
            self._api.connect_get_namespaced_pod_portforward, pod, PROJECT, ports=str(self._port),
            _request_timeout=_LIMIT_SECONDS,
        )  # fmt: skip
        try:
            connection = HTTPConnection(pod)
            connection.sock = forwarded.socket(self._port)
            connection.sock.settimeout(_LIMIT_SECONDS)
            connection.request("GET", "/metrics", headers={"Connection": "close"})
            text = connection.getresponse().read().decode()
        except (OSError, HTTPException) as error:
            why = forwarded.error(self._port) or str(error) or type(error).__name__
            raise OpsError(f"the pod {pod} does not give its /metrics: {why}") from None
        finally:
            forwarded.close()
        return metrics_in(text)


class Worker:
    """One worker behind RunPod's load balancer, whichever it chooses.

    Args:
        endpoint: the endpoint, with its key.
    """

    platform = "runpod"

    def __init__(self, endpoint: Endpoint) -> None:
        self._url = f"{endpoint.url.removesuffix('/v1')}/metrics"
        self._headers = {"Authorization": f"Bearer {endpoint.key}"}

    def read(self) -> dict[str, dict[str, float]]:
        """Return what vLLM counts in the worker that answers.

        Raises:
            OpsError: none answers.
        """
        try:
            reply = httpx.get(self._url, headers=self._headers, timeout=_LIMIT_SECONDS)
        except httpx.HTTPError as error:
            raise OpsError(f"no worker gives its /metrics: {error or type(error).__name__}") from None
        if reply.status_code != httpx.codes.OK:
            raise OpsError(f"no worker gives its /metrics: HTTP {reply.status_code}")
        return {"a worker": metrics_in(reply.text)}


class Queue:
    """The counts of a queue on RunPod, where nothing leads to a worker's vLLM.

    Args:
        endpoint: the endpoint, with its key.
    """

    platform = "runpod"

    def __init__(self, endpoint: Endpoint) -> None:
        self._queue = JobQueue(endpoint)

    def read(self) -> dict[str, dict[str, float]]:
        """Return how many jobs are with workers, and how many wait.

        Raises:
            OpsError: RunPod refuses or does not answer.
        """
        jobs = self._queue.health()["jobs"]
        return {"the queue": {"running": jobs["inProgress"], "waiting": jobs["inQueue"]}}


def sources_of(
    endpoints: Iterable[Endpoint], kubeconfig: str | None, environment: Mapping[str, str], port: int = PORT
) -> list[Source]:
    """Return what can be read beside these endpoints.

    Args:
        endpoints: those under load.
        kubeconfig: the cluster's, of a stack with one.
        environment: the variables under which its command for a token works.
        port: where the server listens in a pod.
    """
    found: list[Source] = []
    for endpoint in endpoints:
        if endpoint.platform == "runpod":
            found.append(Worker(endpoint) if endpoint.jobs is None else Queue(endpoint))
        elif kubeconfig is not None:
            found.append(Pods(kubeconfig, environment, port))
    return found


def metrics_in(text: str) -> dict[str, float]:
    """Return what is kept of a server's metrics, by the names of `_METRICS`.

    Args:
        text: in Prometheus's text format.

    Raises:
        OpsError: they are not vLLM's.
    """
    values: dict[str, list[float]] = {}
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name in _METRICS:
                    values.setdefault(sample.name, []).append(sample.value)
    except ValueError as error:
        raise OpsError(f"/metrics is not in Prometheus's format: {error}") from None
    if not values:
        raise OpsError("/metrics has none of vLLM's metrics")
    return {_METRICS[name][0]: _METRICS[name][1](found) for name, found in values.items()}


class Sampler:
    """Reads sources every two seconds in a `with` block, each in its thread, and keeps it from `start` on.

    It reads before as well, as the first time takes longest: the cluster's token is fetched by a program.

    Args:
        sources: what to read.
    """

    def __init__(self, sources: Iterable[Source]) -> None:
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(source,), daemon=True) for source in sources
        ]
        self._begun: float | None = None
        self._lock = threading.Lock()
        self._series: dict[tuple[str, str], list[dict[str, float]]] = {}
        self._problems: dict[tuple[str, str], int] = {}

    def start(self) -> None:
        """Begin to keep; times are counted from now."""
        self._begun = time.monotonic()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(_LIMIT_SECONDS)

    def series(self) -> list[dict[str, Any]]:
        """Return what was read: of each engine, its `samples` by `seconds` since the start."""
        with self._lock:
            return [
                {"platform": platform, "engine": engine, "samples": list(samples)}
                for (platform, engine), samples in sorted(self._series.items())
            ]

    def problems(self) -> list[dict[str, Any]]:
        """Return what could not be read, and how often."""
        with self._lock:
            return [
                {"platform": platform, "problem": problem, "count": count}
                for (platform, problem), count in sorted(self._problems.items())
            ]

    def _run(self, source: Source) -> None:
        while not self._stop.is_set():
            asked = time.monotonic()
            read, problem = _read(source)
            now, begun = time.monotonic(), self._begun
            if begun is not None and asked >= begun:
                with self._lock:
                    for engine, values in read.items():
                        samples = self._series.setdefault((source.platform, engine), [])
                        samples.append({"seconds": round(now - begun, 2), **values})
                    if problem is not None:
                        counted = (source.platform, problem)
                        self._problems[counted] = self._problems.get(counted, 0) + 1
            self._stop.wait(max(0.0, asked + _INTERVAL_SECONDS - now))


def _read(source: Source) -> tuple[dict[str, dict[str, float]], str | None]:
    try:
        return source.read(), None
    except OpsError as error:
        return {}, str(error)


def _ready(pod: Any) -> bool:
    return any(item.type == "Ready" and item.status == "True" for item in pod.status.conditions or [])
