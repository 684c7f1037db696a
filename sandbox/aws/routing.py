"""What a load balancer is set up to do, as plain values, and which of its rules a request falls under.

The conditions: https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-listeners.html
"""

from __future__ import annotations

import ipaddress
import random
import re
from dataclasses import dataclass, field
from functools import cache
from typing import Any


@dataclass(frozen=True)
class Target:
    """A registered target.

    Args:
        id: the instance's id or the address, as it was registered.
        address: where it is reached; None when it has no address on this machine.
        port: the port it was registered with.
    """

    id: str
    address: str | None
    port: int


@dataclass(frozen=True)
class HealthCheck:
    """How targets of a group are checked.

    Args:
        path: what is asked for.
        port: a port, or None for the one that gets the requests.
        codes: pairs of lowest and highest status that are good.
    """

    path: str
    port: int | None
    interval_seconds: float
    timeout_seconds: float
    healthy_threshold: int
    unhealthy_threshold: int
    codes: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class TargetGroup:
    """A target group that a load balancer sends requests to.

    Args:
        arn: its ARN.
        source: the address of its load balancer, from which its health checks come.
    """

    arn: str
    source: str
    targets: tuple[Target, ...]
    check: HealthCheck
    deregistration_delay_seconds: float


@dataclass(frozen=True)
class Rule:
    """A rule: all conditions must hold; the action is the one that answers."""

    conditions: tuple[dict[str, Any], ...] = field(hash=False)
    action: dict[str, Any] = field(hash=False)


@dataclass(frozen=True)
class Tls:
    """What a listener ends TLS with.

    Args:
        certificate: the certificate and its chain, in PEM.
        private_key: its key, in PEM.
        only_1_3: whether the security policy allows TLS 1.3 only; else 1.2 too.
    """

    certificate: bytes
    private_key: bytes = field(repr=False)
    only_1_3: bool


@dataclass(frozen=True)
class Listener:
    """A port that a load balancer listens on, with its rules in order; the last one has no conditions."""

    arn: str
    address: str
    port: int
    idle_timeout_seconds: float
    rules: tuple[Rule, ...]
    tls: Tls | None = None

    @property
    def protocol(self) -> str:
        """HTTP or HTTPS."""
        return "HTTPS" if self.tls else "HTTP"


@dataclass(frozen=True)
class Request:
    """What rules look at."""

    method: str
    path: str
    host: str
    query: tuple[tuple[str, str], ...]
    headers: tuple[tuple[str, str], ...]
    client: str


def choose(listener: Listener, request: Request) -> dict[str, Any]:
    """Return the action of the first rule whose conditions all hold."""
    for rule in listener.rules:
        if all(_holds(condition, request) for condition in rule.conditions):
            return rule.action
    raise LookupError(f"listener {listener.arn} has no default rule")


def group_of(action: dict[str, Any]) -> str:
    """Return the ARN of the group that a forward action sends a request to; weights decide among several."""
    groups = (action.get("ForwardConfig") or {}).get("TargetGroups") or []
    if not groups:
        return str(action["TargetGroupArn"])
    weights = [float(each.get("Weight", 1)) for each in groups]
    if not any(weights):
        return ""
    return str(random.choices(groups, weights)[0]["TargetGroupArn"])  # noqa: S311  # not a secret


@cache
def _pattern(text: str, *, ignore_case: bool) -> re.Pattern[str]:
    parts = (".*" if each == "*" else "." if each == "?" else re.escape(each) for each in text)
    return re.compile("".join(parts), re.DOTALL | (re.IGNORECASE if ignore_case else 0))


def _matches(patterns: list[str], value: str, *, ignore_case: bool) -> bool:
    return any(_pattern(each, ignore_case=ignore_case).fullmatch(value) for each in patterns)


def _values(condition: dict[str, Any], config: str) -> list[Any]:
    values: list[Any] = (condition.get(config) or {}).get("Values") or condition.get("Values") or []
    return values


def _holds(condition: dict[str, Any], request: Request) -> bool:
    kind = condition["Field"]
    if kind == "path-pattern":
        return _matches(_values(condition, "PathPatternConfig"), request.path, ignore_case=False)
    if kind == "host-header":
        host = request.host.partition(":")[0]
        return _matches(_values(condition, "HostHeaderConfig"), host, ignore_case=True)
    if kind == "http-request-method":
        return request.method in _values(condition, "HttpRequestMethodConfig")
    if kind == "http-header":
        name = condition["HttpHeaderConfig"]["HttpHeaderName"].lower()
        wanted = _values(condition, "HttpHeaderConfig")
        return any(_matches(wanted, value, ignore_case=True) for key, value in request.headers if key == name)
    if kind == "query-string":
        return any(
            ("Key" not in wanted or _matches([wanted["Key"]], key, ignore_case=True))
            and _matches([wanted["Value"]], value, ignore_case=True)
            for wanted in _values(condition, "QueryStringConfig")
            for key, value in request.query
        )
    if kind == "source-ip":
        client = ipaddress.ip_address(request.client)
        return any(client in ipaddress.ip_network(each) for each in _values(condition, "SourceIpConfig"))
    raise LookupError(f"unknown condition {kind}")


def redirect_location(config: dict[str, Any], request: Request, listener: Listener, raw_query: str) -> str:
    """Return where a redirect action sends a request."""
    known = {
        "protocol": listener.protocol,
        "host": request.host.partition(":")[0],
        "port": str(listener.port),
        "path": request.path.lstrip("/"),
        "query": raw_query,
    }

    def filled(key: str, default: str) -> str:
        return re.sub(r"#\{(\w+)\}", lambda found: known[found[1]], str(config.get(key) or default))

    query = filled("Query", "#{query}")
    location = f"{filled('Protocol', '#{protocol}').lower()}://{filled('Host', '#{host}')}"
    location += f":{filled('Port', '#{port}')}{filled('Path', '/#{path}')}"
    return f"{location}?{query}" if query else location
