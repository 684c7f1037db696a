"""The original's arguments: all that it knows by name and kind, and those that the stand-in follows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"([0-9.]+)(ns|us|µs|ms|s|m|h)")
_TRUE, _FALSE = ("1", "t", "T", "true", "TRUE", "True"), ("0", "f", "F", "false", "FALSE", "False")
_EXPANDERS = ("least-waste", "most-pods", "random")

# What the stand-in follows, with the original's defaults.
_FOLLOWED: Mapping[str, str] = {
    "address": ":8085",
    "balance-similar-node-groups": "false",
    "blocking-system-pod-distruption-timeout": "1h",
    "cloud-provider": "gce",
    "cordon-node-before-terminating": "true",
    "expander": "least-waste",
    "expendable-pods-priority-cutoff": "-10",
    "ignore-daemonsets-utilization": "false",
    "leader-elect": "true",
    "leader-elect-lease-duration": "15s",
    "leader-elect-resource-name": "cluster-autoscaler",
    "leader-elect-retry-period": "2s",
    "max-graceful-termination-sec": "600",
    "max-node-provision-time": "15m",
    "max-nodes-total": "0",
    "max-pod-eviction-time": "2m",
    "namespace": "kube-system",
    "new-pod-scale-up-delay": "0s",
    "node-delete-delay-after-taint": "5s",
    "node-group-auto-discovery": "",
    "scale-down-delay-after-add": "10m",
    "scale-down-delay-after-delete": "0s",
    "scale-down-delay-after-failure": "3m",
    "scale-down-enabled": "true",
    "scale-down-gpu-utilization-threshold": "0.5",
    "scale-down-unneeded-time": "10m",
    "scale-down-unready-time": "20m",
    "scale-down-utilization-threshold": "0.5",
    "scan-interval": "10s",
    "skip-nodes-with-custom-controller-pods": "true",
    "skip-nodes-with-local-storage": "true",
    "skip-nodes-with-system-pods": "true",
    "status-config-map-name": "cluster-autoscaler-status",
    "write-status-configmap": "true",
}
_KINDS: Mapping[str, str] = {
    "bool": """
        add-dir-header alsologtostderr async-node-groups aws-use-static-instance-list
        balance-similar-node-groups bulk-mig-instances-listing-enabled capacity-buffer-controller-enabled
        capacity-buffer-pod-injection-enabled check-capacity-batch-processing
        clusterapi-cloud-config-authoritative cordon-node-before-terminating
        daemonset-eviction-for-empty-nodes daemonset-eviction-for-occupied-nodes debugging-snapshot-enabled
        dynamic-node-delete-delay-after-taint-enabled emit-per-nodegroup-metrics
        enable-csi-node-aware-scheduling enable-dynamic-resource-allocation enable-proactive-scaleup
        enable-provisioning-requests enforce-node-group-min-size force-delete-failed-nodes
        force-delete-unregistered-nodes force-ds frequent-loops-enabled ignore-daemonsets-utilization
        ignore-mirror-pods-utilization leader-elect logtostderr max-node-skip-eval-time-tracker-enabled
        node-removal-latency-tracking-enabled one-output parallel-scale-up profiling
        record-duplicated-events regional scale-down-delay-type-local scale-down-enabled
        scale-down-unready-enabled scale-from-unschedulable scale-up-from-zero skip-headers
        skip-log-headers skip-nodes-with-custom-controller-pods skip-nodes-with-local-storage
        skip-nodes-with-system-pods write-status-configmap
    """,
    "number": """
        check-capacity-provisioning-request-max-batch-size cluster-snapshot-parallelism
        expendable-pods-priority-cutoff gce-concurrent-refreshes kube-client-burst kube-client-qps
        log-file-max-size max-allocatable-difference-ratio max-bulk-soft-taint-count max-drain-parallelism
        max-empty-bulk-delete max-free-difference-ratio max-graceful-termination-sec max-nodes-per-scaleup
        max-nodes-total max-scale-down-parallelism max-total-unready-percentage memory-difference-ratio
        min-replica-count ok-total-unready-count pod-injection-limit predicate-parallelism
        provisioning-request-max-backoff-cache-size scale-down-candidates-pool-min-count
        scale-down-candidates-pool-ratio scale-down-gpu-utilization-threshold
        scale-down-non-empty-candidates-count scale-down-utilization-threshold v
    """,
    "duration": """
        blocking-system-pod-distruption-timeout check-capacity-provisioning-request-batch-timebox
        gce-mig-instances-min-refresh-wait-time initial-node-group-backoff-duration
        leader-elect-lease-duration leader-elect-renew-deadline leader-elect-retry-period
        log-flush-frequency max-binpacking-time max-bulk-soft-taint-time max-failing-time max-inactivity
        max-node-group-backoff-duration max-node-provision-time max-nodegroup-binpacking-duration
        max-pod-eviction-time new-pod-scale-up-delay node-delete-delay-after-taint
        node-deletion-batcher-interval node-deletion-candidate-ttl node-deletion-delay-timeout
        node-group-backoff-reset-timeout node-info-cache-expire-time
        provisioning-request-initial-backoff-time provisioning-request-max-backoff-time
        scale-down-delay-after-add scale-down-delay-after-delete scale-down-delay-after-failure
        scale-down-simulation-timeout scale-down-unneeded-time scale-down-unready-time scan-interval
        unremovable-node-recheck-timeout
    """,
    "text": """
        address balancing-ignore-label balancing-label bypassed-scheduler-names
        check-capacity-processor-instance cloud-config cloud-provider cluster-name cores-total
        drain-priority-config estimator expander feature-gates gpu-total grpc-expander-cert grpc-expander-url
        ignore-taint kube-api-content-type kubeconfig kubernetes leader-elect-resource-lock
        leader-elect-resource-name leader-elect-resource-namespace log-backtrace-at log-dir log-file
        log-json-info-buffer-size log-json-split-stream log-text-info-buffer-size log-text-split-stream
        logging-format memory-total namespace node-group-auto-discovery nodes scheduler-config-file
        startup-taint status-config-map-name status-taint stderrthreshold user-agent vmodule
    """,
}
_KIND = {name: kind for kind, names in _KINDS.items() for name in names.split()}


class FlagError(RuntimeError):
    """The original refuses these arguments, or the stand-in does; the message says which and why."""


@dataclass(frozen=True)
class Flags:
    """What was asked for.

    Args:
        values: the followed arguments, with defaults.
        tags: for each auto-discovery, the tags that a group must have; an empty value fits any.
        ignored: the names of those given that the stand-in does not follow.
    """

    values: Mapping[str, str]
    tags: tuple[Mapping[str, str], ...]
    ignored: tuple[str, ...]

    def text(self, name: str) -> str:
        """Return a value as it was written."""
        return self.values[name]

    def on(self, name: str) -> bool:
        """Return a switch."""
        return self.values[name] in _TRUE

    def number(self, name: str) -> float:
        """Return a number."""
        return float(self.values[name])

    def seconds(self, name: str) -> float:
        """Return a duration."""
        return _seconds(self.values[name])


def parse(arguments: Sequence[str]) -> Flags:
    """Read the command line as the original does.

    Raises:
        FlagError: an argument is unknown or has a wrong value.
    """
    given: dict[str, list[str]] = {}
    left = list(arguments)
    while left:
        argument = left.pop(0)
        if not argument.startswith("--"):
            raise FlagError(f"unknown command or shorthand flag: {argument!r}")
        name, equals, value = argument[2:].partition("=")
        name = name.replace("_", "-")
        kind = _KIND.get(name)
        if kind is None:
            raise FlagError(f"unknown flag: --{name}")
        if not equals and kind == "bool":
            value = "true"
        elif not equals:
            if not left:
                raise FlagError(f"flag needs an argument: --{name}")
            value = left.pop(0)
        if not _fits(kind, value):
            raise FlagError(f'invalid argument "{value}" for "--{name}" flag: it must be a {kind}')
        given.setdefault(name, []).append(value)
    values = {**_FOLLOWED, **{name: texts[-1] for name, texts in given.items() if name in _FOLLOWED}}
    if values["cloud-provider"] != "aws":
        raise FlagError(f"the sandbox has --cloud-provider=aws only, not {values['cloud-provider']}")
    if "nodes" in given:
        raise FlagError("the stand-in finds groups by --node-group-auto-discovery only, not by --nodes")
    if values["expander"] not in _EXPANDERS:
        raise FlagError(f"the stand-in has --expander={'|'.join(_EXPANDERS)}, not {values['expander']}")
    tags = tuple(_tags(spec) for spec in given.get("node-group-auto-discovery", ()))
    if not tags:
        raise FlagError("no node group: give --node-group-auto-discovery=asg:tag=...")
    return Flags(values, tags, tuple(sorted(set(given) - set(_FOLLOWED))))


def _fits(kind: str, value: str) -> bool:
    if kind == "bool":
        return value in _TRUE + _FALSE
    if kind == "duration":
        return value == "0" or _DURATION.sub("", value.lstrip("-")) == "" != value
    if kind == "number":
        return re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", value) is not None
    return True


def _seconds(text: str) -> float:
    return sum(float(number) * _UNITS[unit] for number, unit in _DURATION.findall(text))


def _tags(spec: str) -> dict[str, str]:
    discoverer, _, parameter = spec.partition(":")
    key, _, value = parameter.partition("=")
    if discoverer != "asg":
        raise FlagError(f"unsupported discoverer specified: {discoverer}")
    if key != "tag" or not value:
        raise FlagError(f"--node-group-auto-discovery={spec}: the only supported key is tag, with a value")
    return {name: wanted for name, _, wanted in (part.partition("=") for part in value.split(","))}
