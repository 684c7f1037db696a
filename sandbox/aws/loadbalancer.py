"""Ties moto's load balancers to the data plane: what is set up really listens, checks and forwards."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

from moto.ec2.models import ec2_backends
from moto.elbv2.models import ELBv2Backend, FakeHealthStatus, FakeListener, elbv2_backends
from moto.elbv2.responses import ELBV2Response
from moto.moto_api._internal import mock_random

from sandbox.aws.certificates import check_tls, tls_of
from sandbox.aws.cloud import ACCOUNT_ID, Cloud
from sandbox.aws.errors import AwsError
from sandbox.aws.guards import after, before
from sandbox.aws.proxy import DataPlane
from sandbox.aws.routing import HealthCheck, Listener, Rule, Target, TargetGroup
from sandbox.aws.sockets import listen, why_not

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_log = logging.getLogger(__name__)
_ANSWERING = {"forward", "fixed-response", "redirect"}
_DEFAULT_IDLE_SECONDS = 60.0


class LoadBalancers:
    """Keeps the data plane in line with moto's load balancers.

    Args:
        cloud: the account.
        node_address: gives the address of an instance on this machine, or None.
    """

    def __init__(self, cloud: Cloud, node_address: Callable[[str], str | None]) -> None:
        self._cloud = cloud
        self._node_address = node_address
        self._plane = DataPlane()
        self._guard = threading.Lock()
        self._wake = threading.Event()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load-balancer-control", daemon=True)
        self._failed: dict[str, str] = {}
        self._install()
        cloud.on_change(self._wake.set)

    def start(self) -> None:
        """Begin to follow the state."""
        self._thread.start()

    def stop(self) -> None:
        """Stop listening."""
        self._end.set()
        self._wake.set()
        self._thread.join()
        self._plane.stop()

    def _run(self) -> None:
        while not self._end.is_set():
            self._wake.wait()
            self._wake.clear()
            if not self._end.is_set():
                self._apply()

    def _apply(self) -> None:
        with self._guard:
            listeners, groups = self._cloud.inside(
                lambda: (tuple(self._listeners()), tuple(self._target_groups()))
            )
            failed = self._plane.apply(listeners, groups)
        for arn, why in failed.items():
            if self._failed.get(arn) != why:
                _log.error("listener %s: %s", arn, why)
        self._failed = failed

    def failures(self) -> list[str]:
        """Return why listeners cannot be listened on."""
        return sorted(self._failed.values())

    # What moto's state says

    def _balancers(self) -> Iterator[Any]:
        for elb in list(elbv2_backends[ACCOUNT_ID].values()):
            yield from elb.load_balancers.values()

    def _listeners(self) -> Iterator[Listener]:
        for balancer in self._balancers():
            idle = float(str(balancer.attrs.get("idle_timeout.timeout_seconds", _DEFAULT_IDLE_SECONDS)))
            for listener in balancer.listeners.values():
                rules = sorted(
                    listener.rules.values(),
                    key=lambda rule: (rule.is_default, 0 if rule.is_default else int(rule.priority)),
                )
                made = tuple(Rule(tuple(rule.conditions), _action(rule.actions)) for rule in rules)
                yield Listener(
                    listener.arn,
                    balancer.dns_name,
                    int(listener.port),
                    idle,
                    made,
                    tls_of(listener) if listener.protocol == "HTTPS" else None,
                )

    def _target_groups(self) -> Iterator[TargetGroup]:
        for region, elb in list(elbv2_backends[ACCOUNT_ID].items()):
            for group in elb.target_groups.values():
                source = self._source(group)
                if group.target_type == "lambda" or source is None:
                    continue
                targets = tuple(
                    Target(each["Id"], self._address(region, each["Id"]), int(each["Port"] or group.port))
                    for each in group.targets.values()
                )
                delay = float(str(group.attributes["deregistration_delay.timeout_seconds"]))
                yield TargetGroup(group.arn, source, targets, _check(group), delay)

    def _source(self, group: Any) -> str | None:
        """Return the address of the load balancer that uses a target group."""
        for balancer in self._balancers():
            if any(
                group.arn in _forwarded_to(rule)
                for listener in balancer.listeners.values()
                for rule in listener.rules.values()
            ):
                return str(balancer.dns_name)
        return None

    def _address(self, region: str, target_id: str) -> str | None:
        if not target_id.startswith("i-"):
            return target_id
        instance = ec2_backends[ACCOUNT_ID][region].get_instance_by_id(target_id)
        return self._node_address(target_id) if instance and instance.state == "running" else None

    # What is different from moto

    def _free_address(self) -> str:
        used = {balancer.dns_name for balancer in self._balancers()}
        candidates = (self._cloud.addresses.load_balancer(number) for number in range(1, 255))
        return next(address for address in candidates if address not in used)

    def _install(self) -> None:
        @after(ELBv2Backend, "create_load_balancer")
        def _give_address(_: Any, balancer: Any, *_args: Any, **_kwargs: Any) -> None:
            balancer.dns_name = self._free_address()

        @after(FakeListener, "__init__")
        def _name_default_rule(listener: Any, *_args: Any, **_kwargs: Any) -> None:
            # moto takes the object's place in memory, which is another one after a restart.
            rule = listener._default_rule[0]  # noqa: SLF001
            rule.arn = f"{rule.arn.rpartition('/')[0]}/{mock_random.get_random_hex(16)}"

        @before(ELBV2Response, "create_listener")
        def _can_listen(request: Any) -> None:
            params = request._get_params()  # noqa: SLF001
            self._check_listener(request, params, params["LoadBalancerArn"], None)

        @before(ELBV2Response, "modify_listener")
        def _can_still_listen(request: Any) -> None:
            params = request._get_params()  # noqa: SLF001
            for balancer in self._balancers():
                if listener := balancer.listeners.get(params["ListenerArn"]):
                    self._check_listener(request, params, balancer.arn, listener)

        @after(ELBv2Backend, "describe_target_health")
        def _tell_health(
            elb: Any, described: list[Any], target_group_arn: str, targets: list[dict[str, Any]]
        ) -> None:
            described[:] = self._health(elb, target_group_arn, targets)

    def _check_listener(self, request: Any, params: dict[str, Any], arn: str, current: Any) -> None:
        check_tls(params, current, replaying=self._cloud.replaying)
        for action in params.get("DefaultActions", []):
            if action["Type"] not in _ANSWERING:
                raise AwsError(
                    "NotImplemented", f"The sandbox's load balancers do not do {action['Type']}.", 501
                )
        balancer = request.elbv2_backend.load_balancers.get(arn)
        taken = int(current.port) if current is not None else None
        port = int(params.get("Port") or taken or 0)
        if balancer is None or port == taken or self._cloud.replaying:
            return
        if any(int(listener.port) == port for listener in balancer.listeners.values()):
            raise AwsError(
                "DuplicateListener", "A listener already exists on this port for this load balancer"
            )
        try:
            listen(balancer.dns_name, port).close()
        except OSError as error:
            raise AwsError("InvalidConfigurationRequest", why_not(error, balancer.dns_name, port)) from error

    def _health(self, elb: Any, arn: str, asked: list[dict[str, Any]]) -> list[Any]:
        group = elb.target_groups[arn]
        known, draining = self._plane.health(arn), self._plane.draining(arn)
        in_use = elb._any_listener_using(arn)  # noqa: SLF001
        gone = [each for each in group.deregistered_targets.values() if each["Id"] in draining]
        described = []
        for target in asked or [*group.targets.values(), *gone]:
            target_id = target["Id"]
            registered = group.targets.get(target_id)
            port = (registered or target).get("Port", group.port)
            if registered is None and target_id in draining:
                state = (
                    "draining",
                    "Target.DeregistrationInProgress",
                    "Target deregistration is in progress",
                )
            elif registered is None:
                state = ("unused", "Target.NotRegistered", "Target is not registered to the target group")
            elif not in_use:
                state = (
                    "unused",
                    "Target.NotInUse",
                    "Target group is not configured to receive traffic from the load balancer",
                )
            elif target_id in known:
                found = known[target_id]
                state = (found.state, found.reason or "", found.description or "")
            else:
                state = ("initial", "Elb.RegistrationInProgress", "Target registration is in progress")
            described.append(
                FakeHealthStatus(
                    target_id, port, group.health_check_port, state[0], state[1] or None, state[2] or None
                )
            )
        return described


def _forwarded_to(rule: Any) -> set[str]:
    """Return the ARNs of the target groups that a rule forwards to."""
    found: set[str] = set()
    for action in rule.actions:
        groups = (action.data.get("ForwardConfig") or {}).get("TargetGroups") or []
        found.update(each["TargetGroupArn"] for each in groups)
        if action.data.get("TargetGroupArn"):
            found.add(action.data["TargetGroupArn"])
    return found


def _action(actions: list[Any]) -> dict[str, Any]:
    """Return the action of a rule that answers."""
    data: dict[str, Any] = next(each.data for each in reversed(actions) if each.type in _ANSWERING)
    return data


def _check(group: Any) -> HealthCheck:
    port = str(group.health_check_port or "traffic-port")
    codes = []
    for part in (group.matcher or {}).get("HttpCode", "200").split(","):
        low, _, high = part.partition("-")
        codes.append((int(low), int(high or low)))
    return HealthCheck(
        path=group.health_check_path or "/",
        port=None if port == "traffic-port" else int(port),
        interval_seconds=float(group.health_check_interval_seconds),
        timeout_seconds=float(group.health_check_timeout_seconds),
        healthy_threshold=int(group.healthy_threshold_count),
        unhealthy_threshold=int(group.unhealthy_threshold_count),
        codes=tuple(codes),
    )
