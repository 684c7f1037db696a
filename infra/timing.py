"""The two budgets of a server, to start and to stop, and every wait that is computed from them.

Kubernetes, the load balancer and vLLM each have clocks of their own. They all come from here, so that none
runs out while another still counts on it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Probe:
    """How often a server is asked for its health, and how many answers in a row decide.

    Attributes:
        period_seconds: from one question to the next.
        timeout_seconds: how long an answer may take.
        failure_threshold: after how many wrong answers in a row the server counts as unhealthy.
    """

    period_seconds: int
    timeout_seconds: int
    failure_threshold: int


LOAD_BALANCER_CHECK = Probe(period_seconds=5, timeout_seconds=4, failure_threshold=2)
"""The load balancer's question to a machine; AWS allows no shorter period and no smaller threshold."""
READINESS = Probe(period_seconds=5, timeout_seconds=3, failure_threshold=2)
LIVENESS = Probe(period_seconds=10, timeout_seconds=5, failure_threshold=6)
"""vLLM ends itself when its engine is dead; a minute without an answer is a server that hangs."""

_STARTUP_PERIOD_SECONDS = 5
# Until a machine's proxy has heard that its pod goes, and until each address of the load balancer has asked.
_PROPAGATION_SECONDS = 5
PRE_STOP_SECONDS = (
    LOAD_BALANCER_CHECK.period_seconds * LOAD_BALANCER_CHECK.failure_threshold + _PROPAGATION_SECONDS
)
"""How long a pod that is to go still serves: until no address of the load balancer sends requests to it."""

_LEAST_SHUTDOWN_SECONDS = 2
_LEAST_EXIT_SECONDS, _MOST_EXIT_SECONDS = 3, 15  # the engine's processes and the GPU's memory
LEAST_DRAIN_SECONDS = PRE_STOP_SECONDS + _LEAST_SHUTDOWN_SECONDS + _LEAST_EXIT_SECONDS
"""The shortest drain budget of a server behind a load balancer."""

# A machine that comes up first, and ten gigabytes of image.
SCHEDULE_AND_PULL_SECONDS = 900


@dataclass(frozen=True)
class Timing:
    """What the budgets come to.

    Attributes:
        startup_seconds: the startup budget: from the start of the container to its first 200.
        drain_seconds: the drain budget: from the notice to stop until the process is gone.
        startup: the only probe that asks while the model loads.
        pre_stop_seconds: how long a server that is to stop still takes requests, while its address is taken
            out of use everywhere; 0 where no load balancer of ours is in front of it.
        shutdown_timeout_seconds: how long vLLM then finishes what it has.
    """

    startup_seconds: int
    drain_seconds: int
    startup: Probe
    pre_stop_seconds: int
    shutdown_timeout_seconds: int

    @property
    def termination_grace_seconds(self) -> int:
        """When the platform kills what is left: at the end of the drain budget."""
        return self.drain_seconds

    @property
    def deregistration_delay_seconds(self) -> int:
        """How long the load balancer leaves requests to a machine that goes: as long as they are answered."""
        return self.pre_stop_seconds + self.shutdown_timeout_seconds

    @property
    def cold_start_seconds(self) -> int:
        """From a pod that waits for a machine to one that serves, at worst."""
        return SCHEDULE_AND_PULL_SECONDS + self.startup_seconds

    @property
    def progress_deadline_seconds(self) -> int:
        """How long one replica's replacement may take: without a spare GPU, the old one goes first."""
        return self.drain_seconds + self.cold_start_seconds

    def rollout_minutes(self, replicas: int) -> int:
        """Return how long a rollout may take: one replica after the other, at worst."""
        return math.ceil(self.progress_deadline_seconds * replicas / 60) + 5


def timing(*, startup_seconds: int, drain_seconds: int, behind_load_balancer: bool) -> Timing:
    """Return what the two budgets come to.

    Args:
        startup_seconds: from the start of the container to its first 200.
        drain_seconds: from the notice to stop until the process is gone: at least `LEAST_DRAIN_SECONDS`
            behind a load balancer, else at least 1.
        behind_load_balancer: whether a load balancer of ours must first stop sending requests.
    """
    pre_stop = PRE_STOP_SECONDS if behind_load_balancer else 0
    exit_seconds = min(_MOST_EXIT_SECONDS, max(_LEAST_EXIT_SECONDS, drain_seconds // 8))
    return Timing(
        startup_seconds=startup_seconds,
        drain_seconds=drain_seconds,
        startup=Probe(
            period_seconds=_STARTUP_PERIOD_SECONDS,
            timeout_seconds=5,
            failure_threshold=math.ceil(startup_seconds / _STARTUP_PERIOD_SECONDS),
        ),
        pre_stop_seconds=pre_stop,
        # A budget of a second or two is all for requests.
        shutdown_timeout_seconds=max(1, drain_seconds - pre_stop - exit_seconds),
    )
