from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import httpx
from botocore.config import Config

from tests.blocks import free_block

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
KEY, SECRET = "AKIATESTTESTTESTTEST", "not-a-real-secret"
PORT = 4566


@dataclass
class Sandbox:
    directory: Path
    block: int = field(default_factory=free_block)
    process: subprocess.Popen[str] | None = None
    ready: dict[str, str] = field(default_factory=dict)

    @property
    def endpoint(self) -> str:
        return f"http://127.{self.block}.0.1:{PORT}"

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PYTHONHASHSEED": "0",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.endpoint,
        }

    def start(self) -> Sandbox:
        argv = [sys.executable, str(Path(__file__).parent / "stand_ins.py"), "serve"]
        argv += ["--port", str(PORT), "--block", str(self.block), "--dir", str(self.directory)]
        with (self.directory.parent / "aws.log").open("ab") as log:
            self.process = subprocess.Popen(
                argv, stdout=subprocess.PIPE, stderr=log, env=self.environment, text=True, cwd=ROOT
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, (self.directory.parent / "aws.log").read_text()[-3000:]
        self.ready = json.loads(line)
        return self

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def client(self, service: str, *, key: str = KEY, secret: str = SECRET, token: str | None = None) -> Any:
        return boto3.client(
            service,
            region_name="us-east-1",
            endpoint_url=self.endpoint,
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            aws_session_token=token,
            config=Config(
                signature_version="s3v4" if service == "s3" else None,
                retries={"total_max_attempts": 1},
                parameter_validation=False,
            ),
        )

    def aws(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(Path(sys.executable).parent / "aws"), *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )


def wait_for(condition: Callable[[], Any], seconds: float = 90.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.05)
    return result


def admin(
    sandbox: Sandbox, method: str, path: str, body: dict[str, Any] | None = None, *, secret: str = SECRET
) -> httpx.Response:
    url = f"{sandbox.endpoint}/_sandbox/{path}"
    return httpx.request(method, url, json=body, headers={"x-sandbox-secret": secret}, timeout=30)


def make_role(sandbox: Sandbox, name: str, service: str, *policies: str) -> str:
    iam = sandbox.client("iam")
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": service},
                "Action": ["sts:AssumeRole", "sts:TagSession"],
            }
        ],
    }
    arn: str = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
    for policy in policies:
        iam.attach_role_policy(RoleName=name, PolicyArn=f"arn:aws:iam::aws:policy/{policy}")
    return arn


def make_network(sandbox: Sandbox, *, gateway: bool = True) -> tuple[str, list[str]]:
    ec2 = sandbox.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnets = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.0.{n}.0/24", AvailabilityZone=f"us-east-1{zone}")[
            "Subnet"
        ]["SubnetId"]
        for n, zone in enumerate("ab")
    ]
    if gateway:
        made = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
        ec2.attach_internet_gateway(InternetGatewayId=made, VpcId=vpc)
    return vpc, subnets
