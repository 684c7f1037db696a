"""One build of the image as a resource: CodeBuild builds and pushes it, ECR says its digest."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from pulumi.dynamic import (
    CreateResult,
    DiffResult,
    ReadResult,
    Resource,
    ResourceProvider,
    UpdateResult,
)

if TYPE_CHECKING:
    import pulumi

_POLL_SECONDS = 2.0
_LOG_LINES = 30
_INPUTS = ("project", "repository", "tag", "region", "endpoint")
"""What makes an image another one; how long its build may take does not."""
TAG_VARIABLE = "IMAGE_TAG"
"""The variable of a build that holds the tag it is to push."""


class ImageBuildError(RuntimeError):
    """The build failed; the message says how, and ends with the last lines of its log."""


# The class's module and name are in the state of every stack: moving it builds every image again.
class ImageBuildProvider(ResourceProvider):
    """Builds the image whose tag is the hash of its source, unless the registry has it already.

    A deployment that is interrupted, even killed, leaves the build running: the next one finds the image, or
    the build and waits for it. None makes a second build beside it.
    """

    serialize_as_secret_always = False

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Return the digest of the tag, after a build if there is no such image yet."""
        return CreateResult(f"{props['repository']}:{props['tag']}", self._built(props))

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        """See an update where the source, or the place of the image, is another."""
        return DiffResult(changes=any(_olds.get(key) != _news.get(key) for key in _INPUTS))

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        """Build what the registry does not have."""
        return UpdateResult(outs=self._built(_news))

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        """Look the image up; one that is gone is built again by the next update."""
        digest = _digest(_client("ecr", props), props["repository"], props["tag"])
        return ReadResult(id_ if digest else None, {**props, "digest": digest} if digest else {})

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        """Leave the image: it goes with its repository, or when ten newer ones are there."""

    def _built(self, props: dict[str, Any]) -> dict[str, Any]:
        ecr = _client("ecr", props)
        digest = _digest(ecr, props["repository"], props["tag"])
        if digest is None:
            _build(_client("codebuild", props), _client("logs", props), props)
            digest = _digest(ecr, props["repository"], props["tag"])
        if digest is None:
            raise ImageBuildError(f"the build succeeded, but pushed no {props['repository']}:{props['tag']}")
        return {**{key: props.get(key) for key in (*_INPUTS, "timeout_minutes")}, "digest": digest}


def _client(service: str, props: dict[str, Any]) -> Any:
    import boto3  # noqa: PLC0415  # slow to import, and only needed where something is built

    # Credentials come from the environment, as for every tool of AWS: they are no part of the state.
    return boto3.client(service, region_name=props["region"], endpoint_url=props.get("endpoint"))


def _digest(ecr: Any, repository: str, tag: str) -> str | None:
    missing = (ecr.exceptions.ImageNotFoundException, ecr.exceptions.RepositoryNotFoundException)
    try:
        found = ecr.describe_images(repositoryName=repository, imageIds=[{"imageTag": tag}])
    except missing:
        return None
    digest: str = found["imageDetails"][0]["imageDigest"]
    return digest


def _build(codebuild: Any, logs: Any, props: dict[str, Any]) -> None:
    project, tag, minutes = props["project"], props["tag"], int(props["timeout_minutes"])
    deadline = time.monotonic() + 60 * minutes
    build = _running(codebuild, project, tag) or codebuild.start_build(projectName=project)["build"]
    phase = None
    while build["buildStatus"] == "IN_PROGRESS":
        if build.get("currentPhase") != phase:
            phase = build.get("currentPhase")
            print(f"build {build['id']}: {phase}")
        if time.monotonic() >= deadline:
            raise ImageBuildError(
                f"build {build['id']} is still in phase {phase} after {minutes} minutes, when CodeBuild "
                "should have ended it: stop it there; while it runs, the next deployment waits for it"
            )
        time.sleep(_POLL_SECONDS)
        build = codebuild.batch_get_builds(ids=[build["id"]])["builds"][0]
    if build["buildStatus"] != "SUCCEEDED":
        raise ImageBuildError(_failure(build, logs))


def _running(codebuild: Any, project: str, tag: str) -> dict[str, Any] | None:
    """Return the build that an earlier, interrupted deployment left at work on this very tag."""
    found = codebuild.list_builds_for_project(projectName=project, sortOrder="DESCENDING")
    ids = found.get("ids", [])[:10]
    builds: list[dict[str, Any]] = codebuild.batch_get_builds(ids=ids)["builds"] if ids else []
    for build in builds:
        variables = {item["name"]: item["value"] for item in build["environment"]["environmentVariables"]}
        if build["buildStatus"] == "IN_PROGRESS" and variables.get(TAG_VARIABLE) == tag:
            return build
    return None


def _failure(build: dict[str, Any], logs: Any) -> str:
    """Return what went wrong: the failed phase in CodeBuild's words, and the end of the log."""
    words = [f"build {build['id']} ended as {build['buildStatus']}"]
    for phase in build.get("phases", []):
        if phase.get("phaseStatus") not in (None, "SUCCEEDED"):
            reasons = [item.get("message", "") for item in phase.get("contexts", [])]
            words.append(f"phase {phase['phaseType']}: {' '.join(filter(None, reasons))}".rstrip(" :"))
    place = build.get("logs", {})
    if place.get("groupName") and place.get("streamName"):
        events = logs.get_log_events(
            logGroupName=place["groupName"], logStreamName=place["streamName"], limit=_LOG_LINES
        )["events"]
        words += ["the last lines of its log:", *(f"  {item['message'].rstrip()}" for item in events)]
    return "\n".join(words)


class ImageBuild(Resource, module="image", name="Build"):
    """The image of one content tag, built where it is missing.

    Args:
        name: the logical name.
        project: the CodeBuild project that builds it.
        repository: the name of the ECR repository.
        tag: the content tag.
        region: AWS's region of both.
        endpoint: another endpoint of AWS's API; None for AWS itself.
        timeout_minutes: how long to wait for a build, its time in the queue included.
    """

    digest: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        *,
        project: pulumi.Input[str],
        repository: pulumi.Input[str],
        tag: str,
        region: pulumi.Input[str],
        endpoint: pulumi.Input[str] | None,
        timeout_minutes: int,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__(
            ImageBuildProvider(),
            name,
            {
                "project": project,
                "repository": repository,
                "tag": tag,
                "region": region,
                "endpoint": endpoint,
                "timeout_minutes": timeout_minutes,
                "digest": None,
            },
            opts,
        )
