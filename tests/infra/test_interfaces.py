"""The sweep of what the CNI leaves behind, against the sandbox's AWS: what it deletes, and what never."""

from __future__ import annotations

import pickle
import threading
from io import BytesIO
from typing import TYPE_CHECKING, Any

import dill
import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ClientError, ConnectionClosedError
from botocore.httpsession import URLLib3Session
from urllib3 import HTTPResponse

from infra.eks import interfaces
from infra.eks.interfaces import InterfaceSweepError, InterfaceSweepProvider
from tests.sandbox_aws import support

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CLUSTER = "berth-test-cluster"


class _Vpc:
    """A VPC with the security group of a cluster, and the interfaces that a test plants in it."""

    def __init__(self, sandbox: support.Sandbox) -> None:
        self.ec2 = sandbox.client("ec2")
        self.id, self.subnets = support.make_network(sandbox)
        self.group = self._security_group("eks-cluster-sg")
        self.props: dict[str, Any] = {
            "vpc_id": self.id,
            "cluster": _CLUSTER,
            "security_group_id": self.group,
            "region": "us-east-1",
            "endpoint": sandbox.endpoint,
        }

    def _security_group(self, name: str) -> str:
        made = self.ec2.create_security_group(GroupName=name, Description="a test's", VpcId=self.id)
        group: str = made["GroupId"]
        return group

    def plant(
        self, *, cluster: str | None = _CLUSTER, ours: bool = True, words: str = "aws-K8S-i-0123456789abcdef0"
    ) -> str:
        group = self.group if ours else self._security_group(f"another-{words}-{cluster}")
        tags = {"node.k8s.amazonaws.com/instance_id": "i-0123456789abcdef0"}
        if cluster is not None:
            tags["cluster.k8s.amazonaws.com/name"] = cluster
        made = self.ec2.create_network_interface(
            SubnetId=self.subnets[0],
            Groups=[group],
            Description=words,
            TagSpecifications=[
                {
                    "ResourceType": "network-interface",
                    "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
                }
            ],
        )
        interface: str = made["NetworkInterface"]["NetworkInterfaceId"]
        return interface

    def attach(self, interface: str) -> tuple[str, str]:
        """Attach an interface to a machine; return the attachment's id and the machine's."""
        image = self.ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
        launched = self.ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, SubnetId=self.subnets[0])
        machine: str = launched["Instances"][0]["InstanceId"]
        made = self.ec2.attach_network_interface(
            NetworkInterfaceId=interface, InstanceId=machine, DeviceIndex=1
        )
        return made["AttachmentId"], machine

    def interfaces(self) -> set[str]:
        found = self.ec2.describe_network_interfaces(Filters=[{"Name": "vpc-id", "Values": [self.id]}])
        return {item["NetworkInterfaceId"] for item in found["NetworkInterfaces"]}


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[support.Sandbox]:
    directory: Path = tmp_path_factory.mktemp("aws") / "state"
    directory.mkdir()
    running = support.Sandbox(directory).start()
    yield running
    running.kill()  # it has started nothing, and nobody reads what it holds


@pytest.fixture
def vpc(sandbox: support.Sandbox, monkeypatch: pytest.MonkeyPatch) -> _Vpc:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", support.KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", support.SECRET)
    monkeypatch.setattr(interfaces, "_POLL_SECONDS", 0.05)
    monkeypatch.setattr(interfaces, "_LIMIT_SECONDS", 20.0)
    return _Vpc(sandbox)


def _sweep(vpc: _Vpc) -> None:
    InterfaceSweepProvider().delete("id", vpc.props)


def test_what_the_cni_left_is_deleted_and_its_subnet_is_free(vpc: _Vpc) -> None:
    vpc.plant()
    vpc.plant(cluster=None)  # made, and the machine was gone before it was tagged
    vpc.plant(ours=False)  # a pod's own security group
    assert len(vpc.interfaces()) == 3
    _sweep(vpc)
    assert vpc.interfaces() == set()
    vpc.ec2.delete_subnet(SubnetId=vpc.subnets[0])
    vpc.ec2.delete_security_group(GroupId=vpc.group)


def test_what_is_of_others_in_the_same_vpc_stays(vpc: _Vpc) -> None:
    kept = {
        vpc.plant(cluster="another", ours=False),
        vpc.plant(cluster=None, ours=False),
        # EKS's own interfaces of the control plane, in the cluster's group: they go with the cluster.
        vpc.plant(cluster=None, words=f"Amazon EKS {_CLUSTER}"),
    }
    vpc.plant()
    _sweep(vpc)
    assert vpc.interfaces() == kept


def test_another_vpc_is_left_alone(vpc: _Vpc, sandbox: support.Sandbox) -> None:
    other = _Vpc(sandbox)
    kept = other.plant()
    _sweep(vpc)
    assert other.interfaces() == {kept}


def test_a_sweep_that_finds_nothing_and_a_second_one_succeed(vpc: _Vpc) -> None:
    _sweep(vpc)
    vpc.plant()
    _sweep(vpc)
    _sweep(vpc)
    assert vpc.interfaces() == set()


def test_more_than_one_page_is_swept(vpc: _Vpc, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(12):
        vpc.plant()
    real = interfaces._client

    def small_pages(props: dict[str, Any]) -> Any:
        client = real(props)
        client.meta.events.register(
            "before-parameter-build.ec2.DescribeNetworkInterfaces",
            lambda params, **_: params.update(MaxResults=5),
        )
        return client

    monkeypatch.setattr(interfaces, "_client", small_pages)
    _sweep(vpc)
    assert vpc.interfaces() == set()


def test_a_lost_reply_is_no_error(vpc: _Vpc, monkeypatch: pytest.MonkeyPatch) -> None:
    vpc.plant()
    real = interfaces._client
    lost: list[AWSResponse] = []

    def losing(props: dict[str, Any]) -> Any:
        client = real(props)

        def send_and_lose(request: Any, **_: Any) -> None:
            if not lost:
                lost.append(URLLib3Session().send(request))  # it got there
                raise ConnectionClosedError(endpoint_url=request.url)

        client.meta.events.register("before-send.ec2.DeleteNetworkInterface", send_and_lose)
        return client

    monkeypatch.setattr(interfaces, "_client", losing)
    _sweep(vpc)
    assert [response.status_code for response in lost] == [200]
    assert vpc.interfaces() == set()


def test_one_in_use_is_waited_for(vpc: _Vpc) -> None:
    interface = vpc.plant()
    attachment, machine = vpc.attach(interface)
    sweeping = threading.Thread(target=_sweep, args=[vpc])
    sweeping.start()
    loose = vpc.plant()
    support.wait_for(lambda: loose not in vpc.interfaces())
    assert interface in vpc.interfaces()
    vpc.ec2.detach_network_interface(AttachmentId=attachment)
    vpc.ec2.terminate_instances(InstanceIds=[machine])
    sweeping.join(20)
    assert not sweeping.is_alive()
    assert interface not in vpc.interfaces()


def test_one_that_stays_in_use_is_named_with_what_holds_it(
    vpc: _Vpc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interfaces, "_LIMIT_SECONDS", 0.0)
    interface = vpc.plant()
    _, machine = vpc.attach(interface)
    loose = vpc.plant()
    with pytest.raises(InterfaceSweepError) as caught:
        _sweep(vpc)
    said = str(caught.value).splitlines()
    assert _CLUSTER in said[0]
    assert vpc.id in said[0]
    assert said[1:] == [
        f"  {interface} (in-use), held by {machine}",
        "end what holds them, then run the same command again",
    ]
    assert loose not in vpc.interfaces()  # the others go all the same


def test_no_rights_are_not_taken_for_nothing_left(vpc: _Vpc, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = vpc.plant()
    real = interfaces._client
    refusal = (
        b"<Response><Errors><Error><Code>UnauthorizedOperation</Code><Message>You are not authorized to "
        b"perform this operation.</Message></Error></Errors></Response>"
    )

    def without_rights(props: dict[str, Any]) -> Any:
        client = real(props)

        def refuse(request: Any, **_: Any) -> AWSResponse:
            raw = HTTPResponse(BytesIO(refusal), status=403, preload_content=False)
            return AWSResponse(request.url, 403, {}, raw)

        client.meta.events.register("before-send.ec2.DeleteNetworkInterface", refuse)
        return client

    monkeypatch.setattr(interfaces, "_client", without_rights)
    with pytest.raises(ClientError, match="UnauthorizedOperation"):
        _sweep(vpc)
    assert vpc.interfaces() == {kept}


def test_state_names_the_provider_and_holds_no_code_and_no_credentials(vpc: _Vpc) -> None:
    pickled = dill.dumps(InterfaceSweepProvider(), recurse=True)
    assert len(pickled) < 100
    assert type(pickle.loads(pickled)) is InterfaceSweepProvider  # our own bytes
    created = InterfaceSweepProvider().create(vpc.props)
    assert created.id == f"{vpc.id}/{_CLUSTER}"
    assert created.outs == vpc.props


@pytest.mark.parametrize(
    ("changed", "changes", "replaces"),
    [
        ({}, False, []),
        ({"__provider": "new"}, False, []),
        ({"endpoint": "http://127.99.0.1:4566"}, True, []),
        ({"vpc_id": "vpc-2"}, True, ["vpc_id"]),
        ({"cluster": "other", "security_group_id": "sg-2"}, True, ["cluster", "security_group_id"]),
    ],
)
def test_another_place_is_another_sweep_and_the_old_one_is_swept(
    changed: dict[str, Any], changes: bool, replaces: list[str]
) -> None:
    olds = {
        "vpc_id": "vpc-1",
        "cluster": _CLUSTER,
        "security_group_id": "sg-1",
        "region": "us-east-1",
        "endpoint": None,
        "__provider": "old",
    }
    seen = InterfaceSweepProvider().diff("id", olds, {**olds, **changed})
    assert seen.changes is changes
    assert seen.replaces == replaces
    if changes and not replaces:
        assert InterfaceSweepProvider().update("id", olds, {**olds, **changed}).outs == {
            **{key: value for key, value in olds.items() if key != "__provider"},
            **changed,
        }


def test_refresh_keeps_it(vpc: _Vpc) -> None:
    read = InterfaceSweepProvider().read("id", vpc.props)
    assert (read.id, read.outs) == ("id", vpc.props)
