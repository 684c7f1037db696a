"""`berth leftovers` against the sandbox: each kind is found, nobody else's is, by reading only."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import botocore.client
import botocore.waiter
import httpx
import pytest
from awscli.clidriver import create_clidriver

from tests.ops import planted
from tests.ops.accounts import Clouds, answering, clouds
from tests.sandbox_aws.support import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.ops.conftest import Project
    from tests.ops.runpod_platform import Said


REFUSAL = {
    "__type": "AccessDeniedException",
    "message": "User: arn:aws:iam::123456789012:user/ci is not authorized to perform this",
}
# As AWS's Price List Query API answers, without what nobody here reads.
PRICE = {
    "product": {"attributes": {"instanceType": "t3.micro", "regionCode": "us-east-1"}},
    "terms": {
        "OnDemand": {
            "SKU.TERM": {
                "priceDimensions": {"SKU.TERM.RATE": {"unit": "Hrs", "pricePerUnit": {"USD": "0.0104000000"}}}
            }
        }
    },
}


@dataclass(frozen=True)
class Accounts(Clouds):
    """Both accounts of a stack, with AWS's prices."""

    prices: str

    @property
    def variables(self) -> dict[str, str]:
        return super().variables | {
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL_PRICING": self.prices,
        }

    def leftovers(self, *options: str, exit_status: int = 0, stack: str = "dev", **more: str) -> Said:
        """Type the command; whatever it says, it never says a key."""
        return self.typed("leftovers", stack, *options, exit_status=exit_status, **more)

    def report(self, *options: str, exit_status: int = 0, **more: str) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(
            self.leftovers("--json", *options, exit_status=exit_status, **more).stdout
        )
        return document


@pytest.fixture(scope="module")
def accounts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Accounts]:
    # Moto has no price list.
    price_list = json.dumps({"FormatVersion": "aws_v1", "PriceList": [json.dumps(PRICE)]})
    with (
        clouds(tmp_path_factory.mktemp("accounts")) as (aws, runpod),
        answering(200, price_list.encode()) as prices,
    ):
        yield Accounts(aws, runpod, prices)


@pytest.fixture(scope="module")
def empty(accounts: Accounts) -> str:
    """What is said while there is nothing of anybody; it comes before all that is planted."""
    return accounts.leftovers("--expect-none").stdout


@pytest.fixture(scope="module")
def plants(accounts: Accounts, empty: str) -> dict[str, str]:  # noqa: ARG001
    """One leftover of each kind, by kind, and beside each one of somebody else."""
    return planted.plant(accounts.aws, accounts.runpod)


@pytest.fixture(scope="module")
def asked() -> set[str]:
    """What the command has asked for: operations of AWS, and methods of HTTP for RunPod."""
    return set()


@pytest.fixture(scope="module")
def report(accounts: Accounts, plants: dict[str, str], asked: set[str]) -> dict[str, Any]:  # noqa: ARG001
    call, send = botocore.client.BaseClient._make_api_call, httpx.Client.send

    def recorded(self: Any, operation_name: str, api_params: Any) -> Any:
        asked.add(operation_name)
        return call(self, operation_name, api_params)

    def sent(self: Any, request: httpx.Request, **options: Any) -> httpx.Response:
        asked.add(request.method)
        return send(self, request, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.client.BaseClient, "_make_api_call", recorded)
        patch.setattr(httpx.Client, "send", sent)
        return accounts.report("--expect-none", exit_status=1)


def test_an_account_with_nothing_of_the_stack_is_said_to_have_none(empty: str) -> None:
    assert empty == "Nothing of the stack dev is in AWS account 123456789012, us-east-1, and RunPod.\n"


@pytest.mark.parametrize("kind", planted.KINDS)
def test_a_leftover_is_found(report: dict[str, Any], plants: dict[str, str], kind: str) -> None:
    [row] = [row for row in report["found"] if row["what"] == kind and row["id"] == plants[kind]]
    assert row["where"]
    assert row["why"]
    assert row["goes_by_itself"] is None
    assert row["remove"] or row["part_of"] or kind == planted.OTHER


def test_what_is_found_is_all_that_is_there_of_the_stack(
    report: dict[str, Any], plants: dict[str, str]
) -> None:
    assert {row["id"] for row in report["found"]} == set(plants.values())
    assert report["not_looked_at"] == []


@pytest.mark.parametrize(
    ("kind", "hourly_usd"),
    [
        ("instance", 0.0104),
        ("NAT gateway", 0.045),
        ("elastic IP", 0.005),
        ("load balancer", 0.0225),
        ("EBS volume", 100 * 0.08 / 730),
        ("RunPod network volume", 50 * 0.07 / 730),
        ("VPC", 0.0),
        ("ECR repository", None),
    ],
)
def test_what_it_costs_is_said(report: dict[str, Any], kind: str, hourly_usd: float | None) -> None:
    [row] = [row for row in report["found"] if row["what"] == kind]
    assert row["hourly_usd"] == (hourly_usd if hourly_usd is None else pytest.approx(hourly_usd))


def test_the_table_says_what_where_why_and_how_to_remove_it(
    accounts: Accounts, plants: dict[str, str]
) -> None:
    lines = accounts.leftovers().stdout.splitlines()
    [row] = [line for line in lines if line.startswith("NAT gateway")]
    assert plants["NAT gateway"] in row
    assert "tagged project=berth, stack=dev" in row
    assert row.rstrip().endswith("0.0450")
    assert f"  aws ec2 delete-nat-gateway --nat-gateway-id {plants['NAT gateway']}" in "\n".join(lines)
    assert any(f"{len(plants)} things of the stack dev in AWS account 123456789012" in line for line in lines)


@pytest.mark.usefixtures("report")
def test_nothing_but_reading_is_asked_for(asked: set[str]) -> None:
    assert len(asked) > 30
    assert {name for name in asked if not name.startswith(("Describe", "List", "Get"))} == {"GET"}


def test_a_service_that_refuses_is_said_to_be_not_looked_at(
    accounts: Accounts, plants: dict[str, str]
) -> None:
    with answering(400, json.dumps(REFUSAL).encode()) as url:
        said = accounts.report(exit_status=1, AWS_ENDPOINT_URL_CODEBUILD=url, AWS_ENDPOINT_URL_KMS=url)
    assert [row["what"] for row in said["not_looked_at"]] == ["AWS: CodeBuild project", "AWS: KMS key"]
    assert all("is not authorized" in row["why"] for row in said["not_looked_at"])
    assert {"AWS: VPC", "AWS: NAT gateway", "RunPod: endpoints"} <= set(said["looked_at"])
    assert not {"AWS: CodeBuild project", "AWS: KMS key"} & set(said["looked_at"])
    # What the refusing service does not tell, the index of tags still does.
    assert plants["KMS key"] in str(said["found"])
    assert plants["NAT gateway"] in str(said["found"])


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("", "RunPod: RUNPOD_API_KEY is not in the environment"),
        ("rpa_of_somebody_else", "RunPod: endpoints: RunPod: cannot list the endpoints: 401"),
    ],
    ids=["none", "wrong"],
)
def test_without_credentials_nothing_is_taken_for_none(accounts: Accounts, key: str, why: str) -> None:
    wrong = {"AWS_SECRET_ACCESS_KEY": "wrong", "RUNPOD_API_KEY": key}
    said = accounts.leftovers("--expect-none", exit_status=1, **wrong).stdout
    assert "not looked at: AWS: An error occurred (SignatureDoesNotMatch)" in said
    assert f"not looked at: {why}" in said
    assert "Nothing of" not in said


def test_credentials_of_another_account_are_refused(accounts: Accounts, project: Project) -> None:
    path = project.root / "stacks/Pulumi.dev.yaml"
    path.write_text(
        path.read_text().replace("  berth:aws:\n", '  berth:aws:\n    account_id: "999988887777"\n')
    )
    said = project.berth(
        "leftovers", "--stack", "dev", exit_status=1, variables=accounts.variables | {"RUNPOD_API_KEY": "k"}
    ).stderr
    assert "are of the account 123456789012, and" in said
    assert "stacks/Pulumi.dev.yaml has berth:aws.account_id: 999988887777" in said


def test_the_commands_remove_it_all(accounts: Accounts, report: dict[str, Any]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in accounts.variables.items():
            patch.setenv(name, value)
        # `aws ... wait` asks every 15 s, which the sandbox is too fast for.
        pause = time.sleep
        patch.setattr(botocore.waiter, "time", SimpleNamespace(sleep=lambda _: pause(0.2)))
        aws = create_clidriver()
        for row in report["found"]:
            if row["what"].startswith("RunPod"):
                # What curl sends: a shell for each takes longer than all the rest.
                path = row["where"].removeprefix(accounts.runpod.cloud.endpoint)
                assert accounts.runpod.api.delete(path).status_code == 204
            elif row["remove"]:
                for command in row["remove"].split(" && "):
                    assert aws.main(command.split()[1:]) == 0, command
    planted.remove_other(accounts.aws)

    def left() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = accounts.report()["found"]
        return found

    wait_for(lambda: [row["what"] for row in left()] == ["KMS key"], 30)
    [key] = left()
    assert key["goes_by_itself"]
    assert key["hourly_usd"] == 0
    # It costs nothing and needs nobody: a destroy that leaves it has left nothing.
    accounts.report("--expect-none")
