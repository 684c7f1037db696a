"""One build of a CodeBuild project from its start to its end, for the resources that a build makes."""

from __future__ import annotations

import time
from typing import Any

_POLL_SECONDS = 2.0
_LOG_LINES = 30


class BuildError(RuntimeError):
    """The build failed; the message says how, and ends with the last lines of its log."""


def client(service: str, props: dict[str, Any]) -> Any:
    """Return a client of one of AWS's services.

    Args:
        service: such as "codebuild".
        props: a resource's: `region`, and `endpoint` for another endpoint of AWS's API.
    """
    import boto3  # noqa: PLC0415  # slow to import, and only needed where something is built

    # Credentials come from the environment, as for every tool of AWS: they are no part of the state.
    # A session of its own: the default one keeps the first credentials that it ever saw.
    return boto3.Session().client(service, region_name=props["region"], endpoint_url=props.get("endpoint"))


def run(codebuild: Any, logs: Any, *, project: str, variable: str, value: str, timeout_minutes: int) -> None:
    """Wait for a build of a project, one that is at work already if there is such a one.

    A deployment that is interrupted, even killed, leaves its build running: the next one finds it here, and
    starts none beside it.

    Args:
        codebuild: a client of CodeBuild.
        logs: a client of CloudWatch Logs.
        project: the project's name.
        variable: the variable of the project that says what it makes.
        value: that variable's value.
        timeout_minutes: how long to wait, the time in the queue included.

    Raises:
        BuildError: it failed, or does not end.
    """
    deadline = time.monotonic() + 60 * timeout_minutes
    build = _running(codebuild, project, variable, value)
    build = build or codebuild.start_build(projectName=project)["build"]
    phase = None
    while build["buildStatus"] == "IN_PROGRESS":
        if build.get("currentPhase") != phase:
            phase = build.get("currentPhase")
            print(f"build {build['id']}: {phase}")
        if time.monotonic() >= deadline:
            raise BuildError(
                f"build {build['id']} is still in phase {phase} after {timeout_minutes} minutes, when "
                "CodeBuild should have ended it: stop it; while it runs, the next deployment waits for it"
            )
        time.sleep(_POLL_SECONDS)
        build = codebuild.batch_get_builds(ids=[build["id"]])["builds"][0]
    if build["buildStatus"] != "SUCCEEDED":
        raise BuildError(_failure(build, logs))


def _running(codebuild: Any, project: str, variable: str, value: str) -> dict[str, Any] | None:
    """Return the build that an earlier, interrupted deployment left at work on this very thing."""
    found = codebuild.list_builds_for_project(projectName=project, sortOrder="DESCENDING")
    ids = found.get("ids", [])[:10]
    builds: list[dict[str, Any]] = codebuild.batch_get_builds(ids=ids)["builds"] if ids else []
    for build in builds:
        variables = {item["name"]: item["value"] for item in build["environment"]["environmentVariables"]}
        if build["buildStatus"] == "IN_PROGRESS" and variables.get(variable) == value:
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
