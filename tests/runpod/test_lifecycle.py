"""The whole life of RunPod's resources under the embedded engine: made, changed, repaired, deleted.

Few and long tests: an engine takes a second or more to start its program and its providers.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from infra.runpod.body import MARKER_VARIABLE
from sandbox.engine import EngineError
from tests.engine.conftest import Shop, salt
from tests.runpod.conftest import IMAGE, KEY, OTHER_IMAGE, REPOSITORY_ARN
from tests.runpod.platform_process import RemotePlatform, remote_platform
from tests.runpod.small_engine import USERNAME

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["salt"]

PROGRAM = """
import json
import pathlib
import pulumi
from infra.runpod.provider import EcrDelegation, Endpoint, Marker
from infra.runpod.registry import RegistryCredential
from infra.runpod.volume import NetworkVolume

wanted = json.loads((pathlib.Path(__file__).parent / "wanted.json").read_text())
marker = Marker("marker", api_url=wanted["apiUrl"], owner="shop/local/runpod")
at = {"api_url": wanted["apiUrl"], "marker": marker.value}
delegation = EcrDelegation("delegation", **at, repository_arn=wanted["repository"])
registry = None
if wanted["password"]:
    registry = RegistryCredential(
        "credential", **at, username=wanted["username"], password=pulumi.Output.secret(wanted["password"])
    ).id
volumes = [
    NetworkVolume(f"volume-{item['data_center']}", **at, name="llm", **item) for item in wanted["volumes"]
]
if wanted["endpoint"]:
    endpoint = Endpoint(
        "endpoint",
        **at,
        **wanted["endpoint"],
        network_volumes=[volume.id for volume in volumes],
        registry=registry,
        opts=pulumi.ResourceOptions(depends_on=[delegation]),
    )
    pulumi.export("url", endpoint.url)
"""
ENDPOINT: dict[str, Any] = {
    "name": "llm",
    "type": "LOAD_BALANCER",
    "image": IMAGE,
    "args": "model --max-model-len 2048",
    "disk": 20,
    "env": {"PORT": "8000", "PORT_HEALTH": "8001"},
    "ports": ["8000/http", "8001/http"],
    "gpu": {"pools": ["AMPERE_24"], "count": 1, "minCudaVersion": "12.8"},
    "workers": {"min": 0, "max": 1, "idleTimeout": 60},
    "scaling": {"type": "REQUEST_COUNT", "requestCount": 4},
    "timeout": 330000,
}
VOLUME = {"data_center": "EU-RO-1", "size": 20, "type": "STANDARD"}


class Project(Shop):
    """A project whose program makes what a file beside it says, on a platform."""

    def __init__(self, folder: Path, salt: str, platform: RemotePlatform) -> None:
        super().__init__(folder, salt)
        self.platform = platform
        self.environment["RUNPOD_API_KEY"] = KEY
        self.wanted: dict[str, Any] = {
            "apiUrl": platform.endpoint,
            "repository": REPOSITORY_ARN,
            "username": USERNAME,
            "password": None,
            "volumes": [],
            "endpoint": ENDPOINT,
        }
        (self.root / "program" / "__main__.py").write_text(PROGRAM)

    def want(self, *, endpoint: dict[str, Any] | None = None, **changes: Any) -> None:
        self.wanted.update(changes)
        if endpoint is not None:
            self.wanted["endpoint"] = {**self.wanted["endpoint"], **endpoint}
        (self.root / "program" / "wanted.json").write_text(json.dumps(self.wanted))

    def listed(self, path: str, key: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.platform.api.get(path).json()[key]
        return found

    def lose_the_engine_with_the_endpoint(self) -> None:
        """Kill the engine when RunPod has made the endpoint, and before an answer says so."""
        self.platform.fault("POST", "/v2/serverless", kind="drop_after")
        self.kill_when("up", lambda: bool(self.listed("/serverless", "endpoints")))
        self.platform.forget_faults()

    def endpoint(self) -> dict[str, Any]:
        (found,) = self.listed("/serverless", "endpoints")
        return found


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RemotePlatform]:
    yield from remote_platform(tmp_path_factory.mktemp("runpod"))


@pytest.fixture
def project(tmp_path: Path, salt: str, platform: RemotePlatform) -> Iterator[Project]:
    project = Project(tmp_path, salt, platform)
    yield project
    for process in project.started:
        process.kill()
        process.wait()
    platform.forget_faults()
    for path, key in (("/serverless", "endpoints"), ("/network-volumes", "networkVolumes")):
        for item in project.listed(path, key):
            platform.api.delete(f"{path}/{item['id']}")


def test_the_whole_life_of_everything(project: Project) -> None:
    # A preview asks RunPod nothing: no request of any kind is answered while it runs.
    project.want(password="first-secret", volumes=[VOLUME])
    for method in ("GET", "POST", "PATCH", "DELETE"):
        project.platform.fault(method, ".*", kind="status", status=418, count=100)
    assert project.preview() == {"create": 6}
    project.platform.forget_faults()

    assert project.up() == {"create": 6}
    made = project.endpoint()
    (volume,) = project.listed("/network-volumes", "networkVolumes")
    (credential,) = project.listed("/registries", "registries")
    (delegation,) = project.listed("/registries/delegations", "delegations")
    marker = made["env"][MARKER_VARIABLE]
    assert delegation["name"] == marker
    assert volume["name"] == f"llm {marker}"
    assert credential["name"].startswith(f"{marker}/")
    assert (made["networkVolumes"], made["registry"]) == ([volume["id"]], credential["id"])
    assert project.engine().outputs() == {"url": made["requestUrls"]["base"]}
    assert "first-secret" not in project.path.read_text() + project.shown.getvalue()
    assert KEY not in project.path.read_text()
    assert project.up() == {}

    # Another password is another credential: the endpoint is moved to it, then the old one goes.
    project.want(password="second-secret", volumes=[{**VOLUME, "size": 40}])
    assert project.up() == {"replace": 1, "update": 2}
    assert "second-secret" not in project.path.read_text() + project.shown.getvalue()
    (rotated,) = project.listed("/registries", "registries")
    assert rotated["id"] != credential["id"]
    assert project.listed("/network-volumes", "networkVolumes") == [{**volume, "size": 40}]
    assert (project.endpoint()["id"], project.endpoint()["registry"]) == (made["id"], rotated["id"])

    # What the platform does to an idle endpoint and people do in its console is seen, and put right.
    url = f"/serverless/{made['id']}"
    project.platform.api.patch(url, json={"workers": {"max": 0}, "env": {"EDITED": "by hand"}})
    assert project.engine().refresh().changes.get("update") == 1
    assert project.preview() == {"update": 1}
    assert "workers.max: 0 => 1" in project.shown.getvalue()
    assert project.up() == {"update": 1}
    assert project.endpoint()["workers"]["max"] == 1
    assert project.endpoint()["env"] == {**ENDPOINT["env"], MARKER_VARIABLE: marker}

    # Another type, and smaller volumes, are other objects; without a credential the delegation is enough.
    queue = {
        "type": "QUEUE",
        "scaling": {"type": "QUEUE_DELAY", "queueDelay": 4},
        "ports": [],
        "env": {},
    }
    project.want(endpoint=queue, password=None, volumes=[{**VOLUME, "size": 10}])
    assert project.up() == {"replace": 2, "delete": 1}
    replaced = project.endpoint()
    assert (replaced["type"], replaced["env"]) == ("QUEUE", {MARKER_VARIABLE: marker})
    assert replaced["id"] != made["id"]
    assert project.engine().outputs() == {"url": replaced["requestUrls"]["run"].removesuffix("/run")}
    (smaller,) = project.listed("/network-volumes", "networkVolumes")
    assert (smaller["size"], replaced["networkVolumes"]) == (10, [smaller["id"]])
    assert project.listed("/registries", "registries") == []

    assert project.engine().destroy().changes == {"delete": 5}
    assert project.listed("/serverless", "endpoints") == []
    assert project.listed("/network-volumes", "networkVolumes") == []
    assert project.listed("/registries/delegations", "delegations") == []


def test_an_engine_that_is_killed_while_it_creates_makes_nothing_twice(project: Project) -> None:
    project.want()
    project.lose_the_engine_with_the_endpoint()
    made = project.endpoint()
    assert "endpoint" not in project.resources()
    project.up()
    assert project.endpoint()["id"] == made["id"] == project.resources()["endpoint"]["id"]
    project.engine().destroy()
    assert project.listed("/serverless", "endpoints") == []


def test_what_a_killed_engine_made_goes_with_the_stack(project: Project) -> None:
    project.want()
    project.lose_the_engine_with_the_endpoint()
    assert "endpoint" not in project.resources()
    project.engine().destroy()
    assert project.listed("/serverless", "endpoints") == []
    assert project.listed("/registries/delegations", "delegations") == []


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 429, "retry_after_seconds": 0.0},
        {"kind": "drop_after"},
    ],
    ids=lambda fault: f"{fault['kind']}-{fault.get('status', '')}",
)
def test_a_fault_in_each_step_is_got_over(project: Project, fault: dict[str, Any]) -> None:
    project.want(volumes=[VOLUME])
    for method in ("POST", "PATCH", "DELETE"):
        project.platform.fault(method, "/v2/serverless.*", **fault)
        project.platform.fault(method, "/v2/network-volumes.*", **fault)
    assert project.up() == {"create": 5}
    project.want(endpoint={"args": "other"}, volumes=[{**VOLUME, "size": 30}])
    assert project.up() == {"update": 2}
    assert project.endpoint()["args"] == "other"
    assert [item["size"] for item in project.listed("/network-volumes", "networkVolumes")] == [30]
    assert project.engine().destroy().changes == {"delete": 5}
    assert project.listed("/serverless", "endpoints") == []
    assert project.listed("/network-volumes", "networkVolumes") == []


def test_a_refusal_names_the_setting_and_its_file(project: Project) -> None:
    project.want(endpoint={"image": OTHER_IMAGE[:-1] + "f"})
    with pytest.raises(EngineError) as caught:
        project.engine().up()
    said = str(caught.value)
    assert "endpoint: RunPod: cannot create endpoint llm: 422 " in said
    assert said.endswith("See shop:image in stacks/Pulumi.local.yaml.")
    assert "Traceback" not in said
    project.engine().destroy()
