"""Measures the endpoints of a stack that is up."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from ops import smoke
from ops.bench import capacity, matrix
from ops.bench.calls import Target
from ops.bench.record import described
from ops.endpoints import endpoints_of
from ops.errors import OpsError
from ops.reasons import Looker
from ops.stacks import LOCAL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ops.bench.capacity import Price
    from ops.bench.figures import Capacity
    from ops.bench.workload import Workload
    from ops.endpoints import Endpoint
    from ops.progress import Progress
    from ops.stacks import Stack


class StackBench:
    """One run against a stack's endpoints.

    Args:
        stack: the stack.
        workloads: what its endpoints are asked for.
        platform: the only one to ask; None asks all.

    Attributes:
        document: the record; its rows are there as soon as they are measured.

    Raises:
        OpsError: the stack is not up, or a key is not in the environment.
        UsageError: the stack is not on this platform.
    """

    def __init__(self, stack: Stack, workloads: Sequence[Workload], platform: str | None) -> None:
        self._stack = stack
        self._workloads = workloads
        self._outputs = stack.outputs(show_secrets=True)
        self._endpoints = endpoints_of(stack, self._outputs, platform)
        self._prices = capacity.prices_of(stack.settings)
        self._costs = {
            item.platform: capacity.price_of(stack.settings, item.platform, self._prices)
            for item in self._endpoints
        }
        self.document: dict[str, Any] = {
            "command": "matrix",
            **described(stack.settings),
            "image": self._outputs.get("image"),
            "endpoints": {
                item.platform: {"type": item.type, **self._costs[item.platform].as_json()}
                for item in self._endpoints
            },
            "ok": False,
            "rows": [],
        }

    def announcement(self) -> list[str]:
        """Say what is about to be sent, and what it costs."""
        requests = sum(workload.all_requests for workload in self._workloads)
        tokens_in = sum(workload.input_tokens for workload in self._workloads)
        tokens_out = sum(workload.all_output_tokens for workload in self._workloads)
        tokens = f", {tokens_in:,} tokens of prompts and {tokens_out:,} of answers" if tokens_in else ""
        asked = " and ".join(self._costs) + (" each" if len(self._costs) > 1 else "")
        lines = [f"Sends {asked} {requests:,} requests in {len(self._workloads)} workloads{tokens}."]
        lines += [self._cost(platform, price) for platform, price in self._costs.items()]
        if self._stack.name == LOCAL:
            lines.append(
                "Here it costs nothing: costs are of the stack's GPUs, at the speed of this machine."
            )
        return lines

    def _cost(self, platform: str, price: Price) -> str:
        seconds = capacity.estimated_seconds(
            self._stack.settings, platform, price, self._prices, self._workloads
        )
        per_hour = price.of(1).usd_per_hour
        if seconds is None or per_hour is None:
            return f"{platform}: {price}; what all of it costs cannot be estimated"
        return (
            f"{platform}: {price}; by the plan's throughput {seconds:,.0f} s of one server:"
            f" ${per_hour * seconds / 3600:.4f}"
        )

    def measure(
        self, progress: Progress, *, request_limit_seconds: float, ready_limit_seconds: float
    ) -> None:
        """Measure one endpoint after the other, so that none slows another.

        Args:
            progress: shows how far it is.
            request_limit_seconds: how long one request may take.
            ready_limit_seconds: how long to wait until an endpoint is ready.

        Raises:
            OpsError: an endpoint does not get ready, or does not take the key.
        """
        api, environment = self._stack.runpod_api(), self._stack.environment()
        kubeconfig = self._outputs.get("kubeconfig")
        look = Looker(api, environment, kubeconfig)
        for endpoint in self._endpoints:
            problem = smoke.wait(
                smoke.Report(endpoint), limit_seconds=ready_limit_seconds, look=look, say=progress.report
            )
            if problem is not None:
                raise OpsError(f"{endpoint.platform}: {problem}")
            counter = capacity.Counter(endpoint, api, environment, kubeconfig)
            matrix.run(
                self._target(endpoint),
                self._workloads,
                limit_seconds=request_limit_seconds,
                capacity=partial(_capacity, counter, self._costs[endpoint.platform]),
                report=partial(progress.report, endpoint.platform),
                keep=partial(self._keep, endpoint.platform),
            )
        self.document["ok"] = all(row["complete"] and not row["errors"] for row in self.document["rows"])

    def _target(self, endpoint: Endpoint) -> Target:
        settings = self._stack.settings
        return Target(
            endpoint.url,
            endpoint.key,
            self._outputs["model"],
            settings.model.task,
            endpoint.jobs,
            takes_tokens=settings.server is None,
        )

    def _keep(self, platform: str, row: dict[str, Any]) -> None:
        self.document["rows"].append({"platform": platform, **row})


def _capacity(counter: capacity.Counter, price: Price) -> Capacity | None:
    replicas = counter.replicas()
    return None if replicas is None else price.of(replicas)
