"""What the tests share: an AWS API and a Kubernetes control plane per process, and plugins that use them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import httpx
import pytest
from moto.server import ThreadedMotoServer

from sandbox.plugins.kubernetes.cluster import Cluster
from sandbox.plugins.kubernetes.kubeconfig import parse
from tests.blocks import free_block
from tests.plugins.driver import Plugin
from tests.plugins.kubelet import Kubelet, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = Path(__file__).parents[2]
SERVICES = (
    "autoscaling", "budgets", "codebuild", "ec2", "ecr", "eks", "elbv2", "iam", "kms", "logs", "s3", "ssm",
    "sts", "wafv2",
)  # fmt: skip
DEFAULT_TAGS = {"project": "berth", "stack": "local"}


def aws_configuration(endpoint: str, key: str = "AKIDTEST", secret: str = "unused") -> dict[str, Any]:
    """Return provider settings as the SDK sends them: all but text as JSON."""
    return {
        "region": "us-east-1",
        "accessKey": key,
        "secretKey": secret,
        "endpoints": json.dumps([dict.fromkeys(SERVICES, endpoint)]),
        "defaultTags": json.dumps({"tags": DEFAULT_TAGS}),
        "s3UsePathStyle": "true",
    }


class Account:
    """An AWS account, looked at from the other side."""

    def __init__(self, endpoint: str, key: str = "AKIDTEST", secret: str = "unused") -> None:
        self.endpoint, self.key, self.secret = endpoint, key, secret

    def client(self, service: str) -> Any:
        return boto3.client(
            service,
            region_name="us-east-1",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.key,
            aws_secret_access_key=self.secret,
        )


@pytest.fixture(scope="session")
def account() -> Iterator[Account]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    yield Account(f"http://127.0.0.1:{port}")
    server.stop()


@pytest.fixture
def empty_account(account: Account) -> Account:
    """The account without anything in it."""
    httpx.post(f"{account.endpoint}/moto-api/reset").raise_for_status()
    return account


@pytest.fixture(scope="session")
def aws(account: Account) -> Iterator[Plugin]:
    plugin = Plugin("aws", aws_configuration(account.endpoint))
    yield plugin
    plugin.close()


@pytest.fixture(scope="session")
def admin_kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory = tmp_path_factory.mktemp("control-plane")
    block = free_block()
    command = [sys.executable, "-m", "sandbox.kubernetes"]
    command += ["--dir", str(directory), "--host", f"127.{block}.10.3"]
    with (directory / "stderr").open("w") as log:
        process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=log, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, (directory / "stderr").read_text()[-2000:]
    yield Path(json.loads(line)["admin_kubeconfig"]).read_text()
    process.terminate()
    process.wait(30)
    process.stdout.close()


@pytest.fixture(scope="session")
def cluster(admin_kubeconfig: str) -> Cluster:
    return Cluster(parse(admin_kubeconfig))


@pytest.fixture(scope="session")
def kubelet(cluster: Cluster) -> Kubelet:
    wait_for(lambda: cluster.list("v1", "ServiceAccount", "default"))
    return Kubelet(cluster)


@pytest.fixture(scope="session")
def kubernetes(admin_kubeconfig: str) -> Iterator[Plugin]:
    plugin = Plugin("kubernetes", {"kubeconfig": admin_kubeconfig, "clusterIdentifier": "test"})
    yield plugin
    plugin.close()
