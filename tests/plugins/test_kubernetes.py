"""The Kubernetes plugin against a real control plane; what a kubelet would say of pods, the tests say."""

from __future__ import annotations

import base64
import time
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from sandbox.engine.values import UNKNOWN, Secret, Unknown
from tests.plugins.driver import InitializationFailed, Plugin, Refused, Resource
from tests.plugins.kubelet import deployment, in_background, made, service, wait_for

if TYPE_CHECKING:
    from sandbox.plugins.kubernetes.cluster import Cluster
    from tests.plugins.kubelet import Kubelet

NAMESPACE = "kubernetes:core/v1:Namespace"
SECRET = "kubernetes:core/v1:Secret"
SERVICE = "kubernetes:core/v1:Service"
DEPLOYMENT = "kubernetes:apps/v1:Deployment"
JOB = "kubernetes:batch/v1:Job"


# Check ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "property_", "words"),
    [
        ({"replcas": 1}, "spec.replcas", 'unknown field "spec.replcas"'),
        ({"replicas": "two"}, "spec.replicas", "cannot unmarshal string"),
        ({"selector": None}, "spec", "spec.selector: Required value"),
    ],
)
def test_refuses_by_name(kubernetes: Plugin, change: dict[str, Any], property_: str, words: str) -> None:
    inputs = deployment("refused")
    spec = {key: value for key, value in {**inputs["spec"], **change}.items() if value is not None}
    _, failures = kubernetes.check(DEPLOYMENT, "refused", {**inputs, "spec": spec})
    assert words in failures[property_]


def test_a_value_that_is_not_known_yet_is_not_missed(kubernetes: Plugin) -> None:
    inputs = deployment("unknown")
    inputs["spec"]["selector"] = UNKNOWN
    assert kubernetes.check(DEPLOYMENT, "unknown", inputs)[1] == {}
    inputs["spec"]["replcas"] = 1
    assert "spec.replcas" in kubernetes.check(DEPLOYMENT, "unknown", inputs)[1]


def test_an_object_for_a_namespace_to_come_is_checked_all_the_same(kubernetes: Plugin) -> None:
    inputs = deployment("early")
    inputs["metadata"]["namespace"] = "to-come"
    assert kubernetes.check(DEPLOYMENT, "early", inputs)[1] == {}


def test_a_secret_value_is_not_in_the_refusal(kubernetes: Plugin) -> None:
    inputs = deployment("loud")
    inputs["spec"]["template"]["spec"]["containers"][0]["env"] = [
        {
            "name": "KEY",
            "value": Secret("hunter2"),
            "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}},
        },
        {"name": Secret("hunter3 !="), "value": "x"},
    ]
    _, failures = kubernetes.check(DEPLOYMENT, "loud", inputs)
    text = str(failures)
    assert "Invalid value" in text
    assert "[secret]" in text
    assert "hunter" not in text


def test_refuses_kinds_that_nobody_serves(kubernetes: Plugin) -> None:
    failures = kubernetes.check("kubernetes:apps/v1:Nothing", "n", {})[1]
    assert failures["kind"] == 'no matches for kind "Nothing" in version "apps/v1"'
    with pytest.raises(Refused, match=r"helm\.sh/v3:Release is not supported.*leave charts out here"):
        kubernetes.check("kubernetes:helm.sh/v3:Release", "r", {})


def test_makes_up_the_same_name_every_time(kubernetes: Plugin) -> None:
    first, _ = kubernetes.check(SERVICE, "Model", {"spec": {"ports": [{"port": 1}]}})
    again, _ = kubernetes.check(SERVICE, "Model", {"spec": {"ports": [{"port": 1}]}}, first)
    assert first["metadata"]["name"].startswith("model-")
    assert first["metadata"]["annotations"] == {"pulumi.com/autonamed": "true"}
    assert first["metadata"]["namespace"] == "default"
    assert again["metadata"] == first["metadata"]


def test_a_preview_leaves_open_what_the_server_decides(kubernetes: Plugin) -> None:
    planned = kubernetes.preview(SERVICE, "planned", service("planned", type="NodePort"))
    assert isinstance(planned["spec"]["clusterIP"], Unknown)
    assert isinstance(planned["spec"]["ports"][0]["nodePort"], Unknown)
    assert planned["metadata"]["name"] == "planned"


# The provider's own configuration ---------------------------------------------------------------------------


def test_the_cluster_identifier_alone_decides_on_another_cluster(kubernetes: Plugin) -> None:
    old = {"kubeconfig": _kubeconfig("https://a"), "clusterIdentifier": "one"}
    moved = kubernetes.diff_config(old, {**old, "kubeconfig": _kubeconfig("https://b")})
    assert moved.changes
    assert moved.replaces == []
    assert kubernetes.diff_config(old, {**old, "clusterIdentifier": "two"}).replaces == ["clusterIdentifier"]


def test_without_it_the_servers_address_decides(kubernetes: Plugin) -> None:
    old = {"kubeconfig": _kubeconfig("https://a")}
    assert kubernetes.diff_config(old, {"kubeconfig": _kubeconfig("https://b")}).replaces == ["kubeconfig"]
    assert kubernetes.diff_config(old, {"kubeconfig": _kubeconfig("https://a", "x")}).replaces == []


def test_refuses_settings(kubernetes: Plugin) -> None:
    failures = kubernetes.check_config({"kubeconfg": "x", "renderYamlToDirectory": "y"})
    assert "did you mean 'kubeconfig'" in failures["kubeconfg"]
    assert "not supported by this plugin" in failures["renderYamlToDirectory"]


def test_a_kubeconfig_without_its_context_is_named(kubernetes: Plugin) -> None:
    with pytest.raises(Refused, match="kubeconfig: 'x' is not among its contexts"):
        kubernetes.configure({"kubeconfig": _kubeconfig("https://a"), "context": "x"})
    kubernetes.configure(kubernetes.configuration)


def test_an_exec_credential_that_fails_says_why() -> None:
    plugin = Plugin("kubernetes")
    try:
        command = {"apiVersion": "client.authentication.k8s.io/v1", "command": "sh"}
        user = {"exec": {**command, "args": ["-c", "echo no such profile >&2; exit 3"]}}
        plugin.configure({"kubeconfig": _kubeconfig("https://127.0.0.1:1", user=user)})
        with pytest.raises(Refused, match=r"sh gave no token for https://127\.0\.0\.1:1: no such profile"):
            plugin.create(NAMESPACE, "n", {"metadata": {"name": "n"}})
    finally:
        plugin.close()


def test_objects_of_a_cluster_that_is_gone_can_be_dropped() -> None:
    plugin = Plugin("kubernetes")
    gone = Resource(NAMESPACE, "n", "n", {"metadata": {"name": "n"}}, {})
    settings = {"kubeconfig": _kubeconfig("https://127.0.0.1:1", user={"token": "t"})}
    try:
        plugin.configure(settings)
        with pytest.raises(Refused, match=r"does not answer.*PULUMI_K8S_DELETE_UNREACHABLE=true"):
            plugin.delete(gone)
        plugin.configure({**settings, "deleteUnreachable": "true"})
        plugin.delete(gone)
    finally:
        plugin.close()


# Life -------------------------------------------------------------------------------------------------------


def test_a_namespace_and_what_is_in_it(kubernetes: Plugin, cluster: Cluster) -> None:
    namespace = made(kubernetes, NAMESPACE, "serving", {"metadata": {"name": "serving"}})
    assert namespace.outputs["status"]["phase"] == "Active"
    place = {"name": "key", "namespace": "serving"}
    inputs = {"metadata": place, "stringData": Secret({"key": "hunter2"})}
    secret = made(kubernetes, SECRET, "key", inputs)
    assert isinstance(secret.inputs["stringData"], Secret)
    assert isinstance(secret.outputs["data"], Secret)
    rotated = kubernetes.diff(secret, {**inputs, "stringData": Secret({"key": "hunter3"})})
    assert rotated.replaces == ["stringData.key"]
    assert rotated.delete_before_replace
    budget = {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "x"}}}
    made(
        kubernetes,
        "kubernetes:policy/v1:PodDisruptionBudget",
        "model",
        {"metadata": {"name": "model", "namespace": "serving"}, "spec": budget},
    )
    changed = {"data": {"key": base64.b64encode(b"changed").decode()}}
    cluster.request(
        "PATCH",
        "/api/v1/namespaces/serving/secrets/key",
        body=changed,
        content_type="application/merge-patch+json",
    )
    read = kubernetes.read(secret)
    assert read is not None
    assert read.inputs["stringData"] == Secret({"key": "changed"})
    kubernetes.delete(namespace)
    assert kubernetes.read(namespace) is None
    kubernetes.delete(namespace)


def test_a_deployment_is_waited_for(kubernetes: Plugin, kubelet: Kubelet) -> None:
    seen = len(kubernetes.statuses)
    inputs = deployment("waited")
    thread, result = in_background(lambda: kubernetes.create(DEPLOYMENT, "waited", inputs))
    wait_for(lambda: any("0/1 ready, pod waited-" in line for line in kubernetes.statuses[seen:]))
    assert not result
    kubelet.ready("waited")
    thread.join(30)
    assert result[0].outputs["status"]["availableReplicas"] == 1
    assert not kubernetes.diff(result[0], inputs).changes
    deletion, _ = in_background(lambda: kubernetes.delete(result[0]))
    kubelet.end("waited")
    deletion.join(30)
    assert kubelet.pods("waited") == []
    assert kubernetes.read(result[0]) is None


@pytest.mark.parametrize(
    ("restarts", "words"), [(1, "vllm: error: unrecognized arguments: --max-model-length"), (2, "")]
)
def test_a_deployment_that_crashes_fails_early_with_its_last_words(
    kubernetes: Plugin, kubelet: Kubelet, restarts: int, words: str
) -> None:
    name = f"crashes-{restarts}"
    thread, result = in_background(lambda: kubernetes.create(DEPLOYMENT, name, deployment(name)))
    terminated = {"exitCode": 2, "message": words, "reason": "Error"}
    crash = {"restartCount": restarts, "lastState": {"terminated": terminated}}
    started = time.monotonic()
    kubelet.waits(name, "CrashLoopBackOff", f"back-off {restarts}0s", **crash)
    thread.join(30)
    assert time.monotonic() - started < 10
    failed = result[0]
    assert isinstance(failed, InitializationFailed)
    assert failed.id == f"default/{name}"
    assert failed.outputs["metadata"]["name"] == name
    assert f"exit status 2, restarted {restarts} times" in str(failed)
    assert words in str(failed)


def test_one_crash_is_not_the_end(kubernetes: Plugin, kubelet: Kubelet) -> None:
    seen = len(kubernetes.statuses)
    inputs = deployment("stumbles")
    thread, result = in_background(lambda: kubernetes.create(DEPLOYMENT, "stumbles", inputs))
    kubelet.waits("stumbles", "CrashLoopBackOff", "back-off 10s", restartCount=1)
    wait_for(lambda: any("CrashLoopBackOff: back-off 10s" in line for line in kubernetes.statuses[seen:]))
    assert not result
    kubelet.ready("stumbles")
    thread.join(30)
    assert isinstance(result[0], Resource)


def test_a_deployment_that_cannot_start_fails_early_with_the_events(
    kubernetes: Plugin, kubelet: Kubelet, cluster: Cluster
) -> None:
    thread, result = in_background(lambda: kubernetes.create(DEPLOYMENT, "stuck", deployment("stuck")))
    pod = wait_for(lambda: kubelet.pods("stuck"))[0]["metadata"]
    event = {
        "metadata": {"name": "stuck.1", "namespace": "default"},
        "involvedObject": {"kind": "Pod", "name": pod["name"], "namespace": "default", "uid": pod["uid"]},
        "type": "Warning",
        "reason": "Failed",
        "message": "no such digest",
    }
    cluster.request("POST", "/api/v1/namespaces/default/events", body=event)
    kubelet.waits("stuck", "ImagePullBackOff", "Back-off pulling image")
    thread.join(30)
    assert isinstance(result[0], InitializationFailed)
    assert "ImagePullBackOff: Back-off pulling image" in str(result[0])
    assert "Failed: no such digest" in str(result[0])


def test_a_deployment_that_came_late_is_continued(kubernetes: Plugin, kubelet: Kubelet) -> None:
    inputs = deployment("late")
    with pytest.raises(
        InitializationFailed, match=r"not ready after 1 s: Deployment late: 0/1 ready, pod late-"
    ):
        kubernetes.create(DEPLOYMENT, "late", inputs, timeout=1)
    checked, _ = kubernetes.check(DEPLOYMENT, "late", inputs)
    kubelet.ready("late")
    continued = kubernetes.update(Resource(DEPLOYMENT, "late", "default/late", checked, {}), inputs)
    assert continued.outputs["status"]["availableReplicas"] == 1


def test_changes_and_what_cannot_be_changed(kubernetes: Plugin) -> None:
    inputs = deployment("changes", replicas=0)
    resource = made(kubernetes, DEPLOYMENT, "changes", inputs)
    scaled = deployment("changes", replicas=0, image="other")
    assert kubernetes.diff(resource, scaled).paths == {"spec.template.spec.containers[0].image": "UPDATE"}
    resource = kubernetes.update(resource, scaled)
    assert resource.outputs["spec"]["template"]["spec"]["containers"][0]["image"] == "other"
    scaled["spec"]["selector"] = {"matchLabels": {"app": "changes", "tier": "x"}}
    scaled["spec"]["template"]["metadata"]["labels"] = {"app": "changes", "tier": "x"}
    difference = kubernetes.diff(resource, scaled)
    assert difference.replaces == ["spec.selector.matchLabels.tier"]
    assert difference.delete_before_replace


def test_a_property_that_is_no_longer_given_goes(kubernetes: Plugin) -> None:
    inputs = deployment("goes", replicas=0, resources={"limits": {"cpu": "1000m"}})
    resource = made(kubernetes, DEPLOYMENT, "goes", inputs)
    changed = kubernetes.update(resource, deployment("goes", replicas=0))
    container = changed.outputs["spec"]["template"]["spec"]["containers"][0]
    assert not container.get("resources")


def test_a_refresh_shows_what_others_changed_and_only_that(kubernetes: Plugin, cluster: Cluster) -> None:
    inputs = deployment("drifts", replicas=0, resources={"limits": {"cpu": "1000m", "memory": "1024Mi"}})
    resource = made(kubernetes, DEPLOYMENT, "drifts", inputs)
    cluster.request(
        "PATCH",
        "/apis/apps/v1/namespaces/default/deployments/drifts",
        body={
            "spec": {
                "paused": True,
                "template": {"spec": {"containers": [{"name": "vllm", "image": "theirs"}]}},
            }
        },
        content_type="application/strategic-merge-patch+json",
    )
    read = kubernetes.read(resource)
    assert read is not None
    assert kubernetes.diff_checked(read, resource.inputs).paths == {
        "spec.template.spec.containers[0].image": "UPDATE"
    }
    mended = kubernetes.update(read, inputs)
    assert mended.outputs["spec"]["template"]["spec"]["containers"][0]["image"] == "vllm"


def test_a_create_that_was_cut_short_is_taken_up_again(kubernetes: Plugin) -> None:
    inputs = deployment("again", replicas=0)
    first = kubernetes.create(DEPLOYMENT, "again", inputs)
    kubernetes.restart()
    second = kubernetes.create(DEPLOYMENT, "again", inputs)
    assert second.outputs["metadata"]["uid"] == first.outputs["metadata"]["uid"]


def test_what_others_made_is_never_taken_over(kubernetes: Plugin, cluster: Cluster) -> None:
    theirs = {**deployment("theirs", replicas=0), "apiVersion": "apps/v1", "kind": "Deployment"}
    cluster.request("POST", "/apis/apps/v1/namespaces/default/deployments", body=theirs)
    with pytest.raises(Refused, match="Deployment default/theirs exists already, and was not made by this"):
        kubernetes.create(DEPLOYMENT, "theirs", deployment("theirs", replicas=3))
    found = cluster.get(cluster.kind("apps/v1", "Deployment"), "default", "theirs")
    assert found is not None
    assert found["spec"]["replicas"] == 0


def test_a_service_waits_for_its_endpoints(kubernetes: Plugin, kubelet: Kubelet) -> None:
    seen = len(kubernetes.statuses)
    thread, result = in_background(
        lambda: kubernetes.create(SERVICE, "model", service("model", type="NodePort"))
    )
    wait_for(lambda: "Service model: no pods match its selector yet" in kubernetes.statuses[seen:])
    other, pods = in_background(lambda: kubernetes.create(DEPLOYMENT, "model", deployment("model")))
    kubelet.ready("model")
    other.join(30)
    thread.join(30)
    assert isinstance(pods[0], Resource)
    assert result[0].outputs["spec"]["ports"][0]["nodePort"] >= 30000
    made(kubernetes, SERVICE, "headless", service("headless", clusterIP="None"))


def test_waiting_can_be_skipped(kubernetes: Plugin) -> None:
    inputs = deployment("skips")
    inputs["metadata"]["annotations"] = {"pulumi.com/skipAwait": "true"}
    assert kubernetes.create(DEPLOYMENT, "skips", inputs).id == "default/skips"


def test_a_job_that_fails_says_so(kubernetes: Plugin, kubelet: Kubelet) -> None:
    template = {
        "metadata": {"labels": {"app": "job"}},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "vllm", "image": "x"}]},
    }
    inputs = {
        "metadata": {"name": "job", "namespace": "default"},
        "spec": {"backoffLimit": 0, "template": template},
    }
    thread, result = in_background(lambda: kubernetes.create(JOB, "job", inputs))
    terminated = {"exitCode": 7, "message": "out of memory"}
    container = {
        "name": "vllm", "image": "x", "imageID": "", "ready": False, "restartCount": 0,
        "state": {"terminated": terminated},
    }  # fmt: skip
    kubelet.say("job", {"phase": "Failed", "containerStatuses": [container]})
    # The job's controller keeps a finalizer on its pods until it has counted them.
    thread.join(30)
    assert isinstance(result[0], InitializationFailed)
    assert "BackoffLimitExceeded" in str(result[0])


def test_a_delete_says_what_holds_the_object(kubernetes: Plugin, cluster: Cluster) -> None:
    inputs = deployment("held", replicas=0)
    inputs["metadata"]["finalizers"] = ["example.com/hold"]
    resource = kubernetes.create(DEPLOYMENT, "held", inputs)
    with pytest.raises(
        Refused, match=r"Deployment held: still there, held by .*example.com/hold.* after 1 s"
    ):
        kubernetes.delete(resource, timeout=1)
    cluster.request(
        "PATCH",
        "/apis/apps/v1/namespaces/default/deployments/held",
        body={"metadata": {"finalizers": None}},
        content_type="application/merge-patch+json",
    )
    wait_for(lambda: kubernetes.read(resource) is None)


def _kubeconfig(server: str, namespace: str = "default", user: dict[str, Any] | None = None) -> str:
    document = {
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": user or {}}],
        "contexts": [{"name": "d", "context": {"cluster": "c", "user": "u", "namespace": namespace}}],
        "current-context": "d",
    }
    return yaml.safe_dump(document)
