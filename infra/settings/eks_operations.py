"""Settings of what runs the cluster day by day: scaling, monitoring, logs."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from infra.settings.vocabulary import Allowed, Positive, Section


class AutoscalingSettings(Section):
    """Replicas by load: KEDA reads the queue and the time to the first token from Prometheus."""

    min_replicas: Positive = 1
    max_replicas: Positive
    waiting_requests_per_replica: Positive = Field(
        default=10, description="requests in vLLM's queue, over all replicas, that one more replica is for"
    )
    time_to_first_token_seconds: Annotated[
        float, Field(gt=0, le=600), Allowed("a number of seconds above 0, up to 600")
    ] = Field(default=5.0, description="the 95th percentile above which replicas are added")
    scale_down_after_seconds: (
        Annotated[int, Field(ge=1, le=3600), Allowed("a whole number of seconds, 1 to 3600")] | None
    ) = Field(
        default=None,
        description="how long load must stay low; else the startup budget with a machine's own start",
    )

    def problems(self) -> list[tuple[str, str]]:
        """Return bounds that are out of order."""
        if self.min_replicas <= self.max_replicas:
            return []
        return [("min_replicas", f"= {self.min_replicas} must be max_replicas ({self.max_replicas}) or less")]


class MonitoringSettings(Section):
    """Prometheus, Grafana, the GPU exporter, rules and alerts in the cluster."""

    retention_days: Positive = 15
    alert_waiting_requests: Positive = 50
    alert_time_to_first_token_seconds: Annotated[
        float, Field(gt=0, le=600), Allowed("a number of seconds above 0, up to 600")
    ] = 10.0
