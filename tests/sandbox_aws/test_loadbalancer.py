from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from botocore.exceptions import ClientError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.sandbox_aws.support import Sandbox, make_network, make_role, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class App(ThreadingHTTPServer):
    """A target that echoes, streams, and can be made ill."""

    daemon_threads = True

    def __init__(self, address: str, port: int = 0) -> None:
        super().__init__((address, port), Handler)
        self.healthy = True
        self.next_event = threading.Event()
        self.client_gone = threading.Event()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: App

    def answer(self) -> None:
        if self.path == "/health":
            self.reply(200 if self.server.healthy else 503, b"")
        elif self.path == "/v1/stream":
            self.stream()
        elif self.path == "/v1/hang":
            time.sleep(30)
        elif self.path == "/v1/drop":
            self.connection.shutdown(socket.SHUT_RDWR)
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Transfer-Encoding") == "chunked":
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
            seen = {
                "method": self.command,
                "path": self.path,
                "headers": {key.lower(): value for key, value in self.headers.items()},
                "body": body.decode(),
                "port": self.server.port,
                "client": list(self.client_address),
            }
            self.reply(200, json.dumps(seen).encode())

    do_GET = do_POST = do_DELETE = answer  # noqa: N815

    def reply(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        with contextlib.suppress(OSError):
            for number in range(1000):
                event = f"data: {number}\n\n".encode()
                self.wfile.write(f"{len(event):x}\r\n".encode() + event + b"\r\n")
                if number < 2:
                    assert self.server.next_event.wait(20)
                    self.server.next_event.clear()
                else:
                    time.sleep(0.01)
            self.wfile.write(b"0\r\n\r\n")
            return
        self.server.client_gone.set()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


class Balancer:
    """A load balancer on the sandbox with a listener whose default is a plain 404."""

    def __init__(self, sandbox: Sandbox, name: str, subnets: list[str], vpc: str) -> None:
        self.elb = sandbox.client("elbv2")
        self.vpc, self.name = vpc, name
        made = self.elb.create_load_balancer(Name=name, Subnets=subnets)["LoadBalancers"][0]
        self.arn, self.address = made["LoadBalancerArn"], made["DNSName"]
        self.listener = self.elb.create_listener(
            LoadBalancerArn=self.arn,
            Protocol="HTTP",
            Port=8000,
            DefaultActions=[
                {
                    "Type": "fixed-response",
                    "FixedResponseConfig": {
                        "StatusCode": "404",
                        "ContentType": "application/json",
                        "MessageBody": '{"error": "no such path"}',
                    },
                }
            ],
        )["Listeners"][0]["ListenerArn"]
        self.url = f"http://{self.address}:8000"

    def group(self, name: str, kind: str = "ip", port: int = 8000, health_port: int | None = None) -> str:
        arn: str = self.elb.create_target_group(
            Name=name,
            Protocol="HTTP",
            Port=port,
            VpcId=self.vpc,
            TargetType=kind,
            HealthCheckPath="/health",
            HealthCheckPort=str(health_port or "traffic-port"),
            HealthCheckIntervalSeconds=5,
            HealthCheckTimeoutSeconds=2,
            HealthyThresholdCount=2,
            UnhealthyThresholdCount=2,
        )["TargetGroups"][0]["TargetGroupArn"]
        self.elb.modify_target_group_attributes(
            TargetGroupArn=arn, Attributes=[{"Key": "deregistration_delay.timeout_seconds", "Value": "2"}]
        )
        return arn

    def rule(self, priority: int, conditions: list[dict[str, Any]], action: dict[str, Any]) -> str:
        made = self.elb.create_rule(
            ListenerArn=self.listener, Priority=priority, Conditions=conditions, Actions=[action]
        )
        arn: str = made["Rules"][0]["RuleArn"]
        return arn

    def states(self, group: str) -> list[str]:
        described = self.elb.describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"]
        return [each["TargetHealth"]["State"] for each in described]

    def get(self, path: str, **options: Any) -> httpx.Response:
        return httpx.get(self.url + path, **options)


def path_is(*patterns: str) -> dict[str, Any]:
    return {"Field": "path-pattern", "PathPatternConfig": {"Values": list(patterns)}}


@pytest.fixture(scope="module")
def app(sandbox: Sandbox) -> Iterator[App]:
    running = App(f"127.{sandbox.block}.1.200")
    yield running
    running.shutdown()


@pytest.fixture(scope="module")
def network(sandbox: Sandbox) -> tuple[str, list[str]]:
    return make_network(sandbox)


@pytest.fixture(scope="module")
def balancer(sandbox: Sandbox, network: tuple[str, list[str]]) -> Balancer:
    vpc, subnets = network
    return Balancer(sandbox, "main", subnets, vpc)


@pytest.fixture(scope="module")
def served(balancer: Balancer, app: App) -> str:
    """A target group behind `/v1/*` with the app in it."""
    group = balancer.group("served")
    balancer.rule(10, [path_is("/v1/*", "/health")], {"Type": "forward", "TargetGroupArn": group})
    target = {"Id": str(app.server_address[0]), "Port": app.port}
    balancer.elb.register_targets(TargetGroupArn=group, Targets=[target])
    wait_for(lambda: balancer.states(group) == ["healthy"])
    return group


@pytest.mark.usefixtures("served")
def test_paths_that_no_rule_allows_get_the_default(balancer: Balancer) -> None:
    answer = balancer.get("/metrics")
    assert (answer.status_code, answer.json()) == (404, {"error": "no such path"})
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.usefixtures("served")
def test_requests_reach_the_target_whole(balancer: Balancer) -> None:
    sent = httpx.post(
        f"{balancer.url}/v1/chat/completions?a=b%20c&a=d",
        content=b"x" * 100_000,
        headers={"Authorization": "Bearer key", "X-Forwarded-For": "10.9.9.9", "Host": "model.example"},
    )
    seen = sent.json()
    assert seen["path"] == "/v1/chat/completions?a=b%20c&a=d"
    assert len(seen["body"]) == 100_000
    headers = seen["headers"]
    assert headers["authorization"] == "Bearer key"
    assert headers["host"] == "model.example"
    assert headers["x-forwarded-for"] == "10.9.9.9, 127.0.0.1"
    assert (headers["x-forwarded-proto"], headers["x-forwarded-port"]) == ("http", "8000")
    assert headers["x-amzn-trace-id"].startswith("Root=1-")
    chunked = httpx.post(f"{balancer.url}/v1/x", content=iter([b"one", b"two"])).json()
    assert chunked["body"] == "onetwo"


@pytest.mark.usefixtures("served")
def test_streams_are_passed_on_as_they_come(balancer: Balancer, app: App) -> None:
    with httpx.stream("GET", f"{balancer.url}/v1/stream", timeout=10) as stream:
        lines = stream.iter_lines()
        assert next(lines) == "data: 0"  # the target waits for us before it sends the next
        next(lines)
        app.next_event.set()
        assert next(lines) == "data: 1"
        app.next_event.set()
    assert app.client_gone.wait(10)


@pytest.mark.usefixtures("served")
def test_targets_that_break_off_or_are_silent(balancer: Balancer) -> None:
    assert balancer.get("/v1/drop").status_code == 502
    balancer.elb.modify_load_balancer_attributes(
        LoadBalancerArn=balancer.arn, Attributes=[{"Key": "idle_timeout.timeout_seconds", "Value": "1"}]
    )

    def times_out() -> bool:
        return balancer.get("/v1/hang", timeout=40).status_code == 504

    wait_for(times_out)
    balancer.elb.modify_load_balancer_attributes(
        LoadBalancerArn=balancer.arn, Attributes=[{"Key": "idle_timeout.timeout_seconds", "Value": "60"}]
    )


def test_rules_look_at_all_of_a_request_in_order(balancer: Balancer) -> None:
    def fixed(text: str) -> dict[str, Any]:
        config = {"StatusCode": "200", "ContentType": "text/plain", "MessageBody": text}
        return {"Type": "fixed-response", "FixedResponseConfig": config}

    def rule(priority: int, text: str, **condition: Any) -> str:
        return balancer.rule(priority, [path_is("/r/*"), condition], fixed(text))

    rule(21, "host", Field="host-header", HostHeaderConfig={"Values": ["*.Example.com"]})
    rule(22, "header", Field="http-header", HttpHeaderConfig={"HttpHeaderName": "X-Kind", "Values": ["a*"]})
    rule(23, "method", Field="http-request-method", HttpRequestMethodConfig={"Values": ["DELETE"]})
    rule(24, "query", Field="query-string", QueryStringConfig={"Values": [{"Key": "k", "Value": "v?"}]})
    rule(25, "ip", Field="source-ip", SourceIpConfig={"Values": ["127.0.0.0/8"]})
    redirect = {"Type": "redirect", "RedirectConfig": {"Path": "/new/#{path}", "StatusCode": "HTTP_301"}}
    moved = balancer.rule(20, [path_is("/r/old?")], redirect)
    wait_for(lambda: balancer.get("/r/x").status_code == 200)
    assert balancer.get("/r/x", headers={"Host": "a.example.com"}).text == "host"
    assert balancer.get("/r/x", headers={"X-Kind": "Abc"}).text == "header"
    assert httpx.delete(f"{balancer.url}/r/x").text == "method"
    assert balancer.get("/r/x?k=v1").text == "query"
    assert balancer.get("/r/x?k=v12").text == "ip"
    answer = balancer.get("/r/old1?q=1")
    assert answer.status_code == 301
    assert answer.headers["location"] == f"http://{balancer.address}:8000/new/r/old1?q=1"
    balancer.elb.delete_rule(RuleArn=moved)
    wait_for(lambda: balancer.get("/r/old1").text == "ip")


def test_health_decides_where_requests_go(balancer: Balancer, sandbox: Sandbox) -> None:
    apps = [App(f"127.{sandbox.block}.1.{number}") for number in (201, 202)]
    group = balancer.group("two")
    described = balancer.elb.describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"]
    assert described == []
    balancer.rule(30, [path_is("/two")], {"Type": "forward", "TargetGroupArn": group})
    wait_for(lambda: balancer.get("/two").status_code == 503)  # no target is registered
    targets = [{"Id": str(app.server_address[0]), "Port": app.port} for app in apps]
    balancer.elb.register_targets(TargetGroupArn=group, Targets=targets)
    wait_for(lambda: balancer.states(group) == ["healthy", "healthy"])
    assert {balancer.get("/two").json()["port"] for _ in range(4)} == {app.port for app in apps}
    apps[0].healthy = False
    wait_for(lambda: balancer.states(group) == ["unhealthy", "healthy"])
    health = balancer.elb.describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"][0]
    assert health["TargetHealth"]["Reason"] == "Target.ResponseCodeMismatch"
    assert health["TargetHealth"]["Description"] == "Health checks failed with these codes: [503]"
    assert {balancer.get("/two").json()["port"] for _ in range(4)} == {apps[1].port}
    balancer.elb.deregister_targets(TargetGroupArn=group, Targets=targets[1:])
    # Only an ill target is left: an ALB fails open and sends requests there.
    wait_for(lambda: balancer.get("/two").json()["port"] == apps[0].port)
    for app in apps:
        app.shutdown()


def test_deregistered_target_finishes_what_it_has(balancer: Balancer, sandbox: Sandbox) -> None:
    app = App(f"127.{sandbox.block}.1.203")
    group = balancer.group("drained")
    balancer.rule(5, [path_is("/v1/stream")], {"Type": "forward", "TargetGroupArn": group})
    target = {"Id": str(app.server_address[0]), "Port": app.port}
    balancer.elb.register_targets(TargetGroupArn=group, Targets=[target])
    wait_for(lambda: balancer.states(group) == ["healthy"])
    with httpx.stream("GET", f"{balancer.url}/v1/stream", timeout=10) as stream:
        lines = stream.iter_lines()
        assert next(lines) == "data: 0"
        balancer.elb.deregister_targets(TargetGroupArn=group, Targets=[target])
        assert balancer.states(group) == ["draining"]
        app.next_event.set()
        next(lines)
        assert next(lines) == "data: 1"
        assert balancer.states(group) == ["draining"]
        with pytest.raises(httpx.RemoteProtocolError):  # the delay of 2 seconds is over
            list(lines)
    wait_for(lambda: balancer.states(group) == [])
    app.shutdown()


def test_target_group_in_use_stays(balancer: Balancer, served: str) -> None:
    with pytest.raises(ClientError, match="currently in use by a listener or a rule") as caught:
        balancer.elb.delete_target_group(TargetGroupArn=served)
    assert caught.value.response["Error"]["Code"] == "ResourceInUse"


def test_port_in_use_is_said_plainly(balancer: Balancer) -> None:
    with socket.socket() as taken:
        taken.bind((balancer.address, 8011))
        taken.listen()
        action = {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "404"}}
        with pytest.raises(ClientError, match=f"port 8011 of {balancer.address} is in use on this machine"):
            balancer.elb.create_listener(
                LoadBalancerArn=balancer.arn, Protocol="HTTP", Port=8011, DefaultActions=[action]
            )


def test_instances_of_an_auto_scaling_group_are_targets(
    sandbox: Sandbox, network: tuple[str, list[str]]
) -> None:
    vpc, subnets = network
    eks, autoscaling = sandbox.client("eks"), sandbox.client("autoscaling")
    cluster_role = make_role(sandbox, "lb-cluster", "eks.amazonaws.com")
    node_role = make_role(sandbox, "lb-node", "ec2.amazonaws.com", "AmazonEKSWorkerNodePolicy")
    eks.create_cluster(name="lb", roleArn=cluster_role, resourcesVpcConfig={"subnetIds": subnets})
    eks.get_waiter("cluster_active").wait(name="lb", WaiterConfig={"Delay": 1})
    group = {"clusterName": "lb", "nodegroupName": "n"}
    scaling = {"minSize": 1, "desiredSize": 1, "maxSize": 2}
    eks.create_nodegroup(**group, subnets=subnets, nodeRole=node_role, scalingConfig=scaling)
    eks.get_waiter("nodegroup_active").wait(**group, WaiterConfig={"Delay": 1})
    name = eks.describe_nodegroup(**group)["nodegroup"]["resources"]["autoScalingGroups"][0]["name"]
    balancer = Balancer(sandbox, "instances", subnets, vpc)
    targets = balancer.group("instances", kind="instance", port=30080)
    balancer.rule(1, [path_is("/v1/*")], {"Type": "forward", "TargetGroupArn": targets})
    autoscaling.attach_load_balancer_target_groups(AutoScalingGroupName=name, TargetGroupARNs=[targets])
    first = App(f"127.{sandbox.block}.1.1", 30080)  # the node's port of a Service
    wait_for(lambda: balancer.states(targets) == ["healthy"])
    assert balancer.get("/v1/models").json()["port"] == 30080
    eks.update_nodegroup_config(**group, scalingConfig={**scaling, "desiredSize": 2})
    second = App(f"127.{sandbox.block}.1.2", 30080)
    wait_for(lambda: balancer.states(targets) == ["healthy", "healthy"])
    eks.get_waiter("nodegroup_active").wait(**group, WaiterConfig={"Delay": 1})
    eks.update_nodegroup_config(**group, scalingConfig=scaling)
    wait_for(lambda: balancer.states(targets) == ["healthy"])
    first.shutdown()
    second.shutdown()
    eks.get_waiter("nodegroup_active").wait(**group, WaiterConfig={"Delay": 1})
    eks.delete_nodegroup(**group)
    eks.get_waiter("nodegroup_deleted").wait(**group, WaiterConfig={"Delay": 1})
    eks.delete_cluster(name="lb")
    eks.get_waiter("cluster_deleted").wait(name="lb", WaiterConfig={"Delay": 1})


def test_listeners_come_back_after_a_kill(own_sandbox: Sandbox) -> None:
    vpc, subnets = make_network(own_sandbox)
    balancer = Balancer(own_sandbox, "kept", subnets, vpc)
    app = App(f"127.{own_sandbox.block}.1.200")
    group = balancer.group("kept")
    balancer.rule(1, [path_is("/v1/*")], {"Type": "forward", "TargetGroupArn": group})
    target = {"Id": str(app.server_address[0]), "Port": app.port}
    balancer.elb.register_targets(TargetGroupArn=group, Targets=[target])
    wait_for(lambda: balancer.get("/v1/x").status_code == 200)
    rules = balancer.elb.describe_rules(ListenerArn=balancer.listener)["Rules"]
    own_sandbox.kill()
    with pytest.raises(httpx.ConnectError):
        balancer.get("/v1/x")
    own_sandbox.start()
    assert balancer.elb.describe_rules(ListenerArn=balancer.listener)["Rules"] == rules
    described = balancer.elb.describe_load_balancers()["LoadBalancers"][0]
    assert (described["LoadBalancerArn"], described["DNSName"]) == (balancer.arn, balancer.address)

    def answers() -> bool:
        with contextlib.suppress(httpx.TransportError):
            return balancer.get("/v1/x").status_code == 200
        return False

    wait_for(answers)
    balancer.elb.delete_load_balancer(LoadBalancerArn=balancer.arn)
    with pytest.raises(httpx.TransportError):
        wait_for(lambda: balancer.get("/v1/x").status_code == 0, seconds=5)
    app.shutdown()


def certificate(name: str) -> tuple[bytes, bytes]:
    """Return a certificate that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return made.public_bytes(pem), private


def test_tls_ends_at_the_load_balancer(sandbox: Sandbox, balancer: Balancer, tmp_path: Path) -> None:
    acm = sandbox.client("acm")
    public, private = certificate("model.example.com")
    arn = acm.import_certificate(Certificate=public, PrivateKey=private)["CertificateArn"]
    wanted: dict[str, Any] = {
        "LoadBalancerArn": balancer.arn,
        "Protocol": "HTTPS",
        "Port": 8443,
        "SslPolicy": "ELBSecurityPolicy-TLS13-1-3-2021-06",
        "Certificates": [{"CertificateArn": arn}],
        "DefaultActions": [{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "404"}}],
    }
    create = balancer.elb.create_listener
    pending = acm.request_certificate(DomainName="x.example.com")["CertificateArn"]
    refused: list[tuple[dict[str, Any], str]] = [
        ({"Certificates": []}, "ValidationError"),
        ({"Certificates": [{"CertificateArn": arn[:-1] + "z"}]}, "CertificateNotFound"),
        ({"Certificates": [{"CertificateArn": pending}]}, "UnsupportedCertificate"),
        ({"SslPolicy": "ELBSecurityPolicy-None"}, "SSLPolicyNotFound"),
        ({"Protocol": "HTTP"}, "ValidationError"),
    ]
    for changes, code in refused:
        with pytest.raises(ClientError) as caught:
            create(**{**wanted, **changes})
        assert caught.value.response["Error"]["Code"] == code
    listener = create(**wanted)["Listeners"][0]["ListenerArn"]
    redirect = {"Protocol": "HTTPS", "Port": "8443", "StatusCode": "HTTP_301"}
    plain = create(
        LoadBalancerArn=balancer.arn,
        Protocol="HTTP",
        Port=8080,
        DefaultActions=[{"Type": "redirect", "RedirectConfig": redirect}],
    )["Listeners"][0]["ListenerArn"]
    trust = tmp_path / "ca.pem"
    trust.write_bytes(public)
    context = ssl.create_default_context(cafile=str(trust))

    def get(context: ssl.SSLContext) -> httpx.Response:
        with httpx.Client(verify=context) as client:
            return client.get(
                f"https://{balancer.address}:8443/x", extensions={"sni_hostname": "model.example.com"}
            )

    def answers() -> bool:
        with contextlib.suppress(httpx.ConnectError):
            return get(context).status_code == 404
        return False

    wait_for(answers)
    moved = httpx.get(f"http://{balancer.address}:8080/v1/models?a=b")
    assert moved.status_code == 301
    assert moved.headers["location"] == f"https://{balancer.address}:8443/v1/models?a=b"
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(httpx.ConnectError):
        get(context)
    with pytest.raises(ClientError, match="is in use"):
        acm.delete_certificate(CertificateArn=arn)
    for each in (listener, plain):
        balancer.elb.delete_listener(ListenerArn=each)
    acm.delete_certificate(CertificateArn=arn)


def test_connections_are_kept_and_come_from_the_load_balancer(balancer: Balancer, sandbox: Sandbox) -> None:
    app, checks = App(f"127.{sandbox.block}.1.204"), App(f"127.{sandbox.block}.1.204")
    group = balancer.group("kept-alive", health_port=checks.port)
    balancer.rule(40, [path_is("/kept")], {"Type": "forward", "TargetGroupArn": group})
    target = {"Id": str(app.server_address[0]), "Port": app.port}
    balancer.elb.register_targets(TargetGroupArn=group, Targets=[target])
    wait_for(lambda: balancer.states(group) == ["healthy"])
    wait_for(lambda: balancer.get("/kept").status_code == 200)
    clients = [balancer.get("/kept").json()["client"] for _ in range(3)]
    assert [address for address, _ in clients] == [balancer.address] * 3
    assert len({port for _, port in clients}) == 1  # one connection for three requests
    # The port of the requests answers still; that of the health checks says that there should be no more.
    other = App(f"127.{sandbox.block}.1.205", checks.port)
    balancer.elb.register_targets(
        TargetGroupArn=group, Targets=[{"Id": str(other.server_address[0]), "Port": other.port}]
    )
    wait_for(lambda: balancer.states(group) == ["healthy", "healthy"])
    checks.healthy = False
    wait_for(lambda: balancer.states(group) == ["unhealthy", "healthy"])
    assert {balancer.get("/kept").json()["port"] for _ in range(3)} == {other.port}
    known = httpx.get(f"{sandbox.endpoint}/_sandbox/addresses").json()
    assert known[balancer.address].startswith("10.0.")
    for each in (app, checks, other):
        each.shutdown()
