# ruff: noqa: D102, N803  # the methods are AWS's operations, with the names of their parameters
"""The CodeBuild API: projects and builds as they are described. What runs a build is in `builds`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from moto.logs.models import logs_backends
from moto.moto_api._internal import mock_random
from moto.sts.models import sts_backends

from sandbox.aws.cloud import ACCOUNT_ID, REGION, Cloud
from sandbox.aws.errors import AwsError
from sandbox.aws.service import JsonService, trusts

if TYPE_CHECKING:
    from sandbox.aws.messages import HttpRequest, HttpResponse

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{1,149}")
_OVERRIDES = {
    "projectName",
    "environmentVariablesOverride",
    "buildspecOverride",
    "sourceVersion",
    "sourceLocationOverride",
    "timeoutInMinutesOverride",
    "idempotencyToken",
}


@dataclass
class CodeBuildState:
    """All projects and builds.

    Args:
        projects: by name, as BatchGetProjects gives them.
        builds: by id, as BatchGetBuilds gives them.
        numbers: by project, how many builds there were.
        stopping: ids of builds that StopBuild has named.
    """

    projects: dict[str, dict[str, Any]] = field(default_factory=dict)
    builds: dict[str, dict[str, Any]] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    stopping: set[str] = field(default_factory=set)


class CodeBuild(JsonService):
    """The operations on projects and builds.

    Args:
        cloud: the account.
        state: what has been made so far.
    """

    name = "codebuild"
    invalid_code = "InvalidInputException"

    def __init__(self, cloud: Cloud, state: CodeBuildState) -> None:
        super().__init__(cloud)
        self.state = state
        self.region = REGION
        cloud.on_event("codebuild.progress", self._progress)
        cloud.on_event("codebuild.log", self._log)
        cloud.on_event("codebuild.session", self._session)

    def call(self, request: HttpRequest) -> HttpResponse:
        """Answer a request, in its region."""
        if request.credential is not None:
            self.region = request.credential[1]
        return super().call(request)

    def _check(self, project: dict[str, Any]) -> None:
        role = project["serviceRole"]
        if not trusts(role, "codebuild.amazonaws.com"):
            raise self.invalid(f"CodeBuild is not authorized to perform: sts:AssumeRole on {role}")
        source = project["source"]
        if source["type"] not in {"S3", "NO_SOURCE"}:
            raise AwsError("NotImplemented", f"The sandbox's CodeBuild has no source {source['type']}.", 501)
        if source["type"] == "S3" and "/" not in source.get("location", ""):
            raise self.invalid("Invalid project source: location must be <bucket>/<path of the object>")
        if source["type"] == "NO_SOURCE" and not source.get("buildspec"):
            raise self.invalid(
                "Invalid project source: buildspec is required when the source type is NO_SOURCE"
            )
        if project["artifacts"]["type"] != "NO_ARTIFACTS":
            raise AwsError("NotImplemented", "The sandbox's CodeBuild takes NO_ARTIFACTS only.", 501)
        for variable in project["environment"].get("environmentVariables", []):
            if variable.get("type", "PLAINTEXT") != "PLAINTEXT":
                raise AwsError(
                    "NotImplemented",
                    f"The sandbox's CodeBuild does not read {variable['type']} variables.",
                    501,
                )

    def create_project(self, name: str, **options: Any) -> dict[str, Any]:
        if not _NAME.fullmatch(name):
            raise self.invalid(f"Invalid project name: {name}")
        if name in self.state.projects:
            arn = self.state.projects[name]["arn"]
            raise AwsError("ResourceAlreadyExistsException", f"Project already exists: {arn}")
        now = self.cloud.now()
        project = {
            "name": name,
            "arn": f"arn:aws:codebuild:{self.region}:{self.account_id}:project/{name}",
            "cache": {"type": "NO_CACHE"},
            "timeoutInMinutes": 60,
            "queuedTimeoutInMinutes": 480,
            "encryptionKey": f"arn:aws:kms:{self.region}:{self.account_id}:alias/aws/s3",
            "tags": [],
            "badge": {"badgeEnabled": False},
            "projectVisibility": "PRIVATE",
            **_completed(options),
            "created": now,
            "lastModified": now,
        }
        self._check(project)
        self.state.projects[name] = project
        return {"project": project}

    def update_project(self, name: str, **changes: Any) -> dict[str, Any]:
        project = {**self._project(name), **_completed(changes), "lastModified": self.cloud.now()}
        self._check(project)
        self.state.projects[name] = project
        return {"project": project}

    def _project(self, name: str) -> dict[str, Any]:
        project = self.state.projects.get(name)
        if project is None:
            arn = f"arn:aws:codebuild:{self.region}:{self.account_id}:project/{name}"
            raise AwsError("ResourceNotFoundException", f"Project cannot be found: {arn}")
        return project

    def delete_project(self, name: str) -> None:
        self.state.projects.pop(name, None)
        for build_id in [key for key, build in self.state.builds.items() if build["projectName"] == name]:
            if self.state.builds[build_id]["buildComplete"]:
                del self.state.builds[build_id]

    def list_projects(self, **_: Any) -> dict[str, Any]:
        return {"projects": sorted(self.state.projects)}

    def batch_get_projects(self, names: list[str]) -> dict[str, Any]:
        by_arn = {project["arn"]: project for project in self.state.projects.values()}
        found = {name: self.state.projects.get(name) or by_arn.get(name) for name in names}
        return {
            "projects": [project for project in found.values() if project],
            "projectsNotFound": [name for name, project in found.items() if not project],
        }

    def start_build(self, projectName: str, **overrides: Any) -> dict[str, Any]:
        project = self._project(projectName)
        for name in overrides.keys() - _OVERRIDES:
            raise AwsError("NotImplemented", f"The sandbox's CodeBuild does not implement {name}.", 501)
        stream = str(mock_random.uuid4())
        build_id = f"{projectName}:{stream}"
        number = self.state.numbers.get(projectName, 0) + 1
        self.state.numbers[projectName] = number
        source = dict(project["source"])
        if "buildspecOverride" in overrides:
            source["buildspec"] = overrides["buildspecOverride"]
        if "sourceLocationOverride" in overrides:
            source["location"] = overrides["sourceLocationOverride"]
        environment = dict(project["environment"])
        variables = {each["name"]: each for each in environment.get("environmentVariables", [])}
        variables.update({each["name"]: each for each in overrides.get("environmentVariablesOverride", [])})
        environment["environmentVariables"] = list(variables.values())
        now = self.cloud.now().timestamp()
        build = {
            "id": build_id,
            "arn": f"arn:aws:codebuild:{self.region}:{self.account_id}:build/{build_id}",
            "buildNumber": number,
            "startTime": now,
            "currentPhase": "QUEUED",
            "buildStatus": "IN_PROGRESS",
            "projectName": projectName,
            "phases": [
                ended_phase("SUBMITTED", now, "SUCCEEDED", now),
                {"phaseType": "QUEUED", "startTime": now},
            ],
            "source": source,
            "artifacts": {"location": ""},
            "cache": project["cache"],
            "environment": environment,
            "serviceRole": project["serviceRole"],
            "logs": self._log_location(project, stream),
            "timeoutInMinutes": overrides.get("timeoutInMinutesOverride", project["timeoutInMinutes"]),
            "queuedTimeoutInMinutes": project["queuedTimeoutInMinutes"],
            "buildComplete": False,
            "initiator": "deployer",
            "encryptionKey": project["encryptionKey"],
            "exportedEnvironmentVariables": [],
        }
        if "sourceVersion" in overrides:
            build["sourceVersion"] = overrides["sourceVersion"]
        self.state.builds[build_id] = build
        return {"build": build}

    def _log_location(self, project: dict[str, Any], stream: str) -> dict[str, Any]:
        wanted = project.get("logsConfig", {}).get("cloudWatchLogs", {"status": "ENABLED"})
        if wanted["status"] == "DISABLED":
            return {"cloudWatchLogs": wanted}
        group = wanted.get("groupName", f"/aws/codebuild/{project['name']}")
        if "streamName" in wanted:
            stream = f"{wanted['streamName']}/{stream}"
        return {
            "groupName": group,
            "streamName": stream,
            "deepLink": f"https://console.aws.amazon.com/cloudwatch/home?region={self.region}#logsV2:log-groups/"
            f"log-group/{group}/log-events/{stream}",
            "cloudWatchLogsArn": f"arn:aws:logs:{self.region}:{self.account_id}:log-group:{group}:log-stream:"
            f"{stream}",
            "cloudWatchLogs": wanted,
        }

    def stop_build(self, id: str) -> dict[str, Any]:  # noqa: A002  # AWS's name
        build = self.state.builds.get(id)
        if build is None:
            raise AwsError("ResourceNotFoundException", f"Build does not exist: {id}")
        if not build["buildComplete"]:
            self.state.stopping.add(id)
        return {"build": build}

    def batch_get_builds(self, ids: list[str]) -> dict[str, Any]:
        by_arn = {build["arn"]: build for build in self.state.builds.values()}
        found = {each: self.state.builds.get(each) or by_arn.get(each) for each in ids}
        return {
            "builds": [build for build in found.values() if build],
            "buildsNotFound": [each for each, build in found.items() if not build],
        }

    def list_builds(self, **_: Any) -> dict[str, Any]:
        return {"ids": list(reversed(self.state.builds))}

    def list_builds_for_project(self, projectName: str, **_: Any) -> dict[str, Any]:
        self._project(projectName)
        ids = [key for key, build in self.state.builds.items() if build["projectName"] == projectName]
        return {"ids": list(reversed(ids))}

    def _progress(self, build_id: str, changes: dict[str, Any]) -> None:
        build = self.state.builds.get(build_id)
        if build is not None:
            build.update(changes)
            if build["buildComplete"]:
                self.state.stopping.discard(build_id)

    def _log(self, arn: str, group: str, stream: str, lines: list[str]) -> None:
        logs = logs_backends[ACCOUNT_ID][arn.split(":")[3]]
        if group not in logs.groups:
            logs.create_log_group(group, {})
        if stream not in logs.groups[group].streams:
            logs.create_log_stream(group, stream)
        now = int(self.cloud.now().timestamp() * 1000)
        logs.put_log_events(group, stream, [{"timestamp": now, "message": line} for line in lines])

    def _session(self, role_arn: str, name: str, region: str) -> dict[str, str]:
        session = sts_backends[ACCOUNT_ID]["aws"].assume_role(
            region_name=region,
            role_session_name=name,
            role_arn=role_arn,
            policy="",
            duration=3600,
            external_id="",
        )
        return {
            "AWS_ACCESS_KEY_ID": session.access_key_id,
            "AWS_SECRET_ACCESS_KEY": session.secret_access_key,
            "AWS_SESSION_TOKEN": session.session_token,
        }


def _completed(options: dict[str, Any]) -> dict[str, Any]:
    """Return a project's settings with the values that CodeBuild fills in."""
    done = dict(options)
    if "environment" in done:
        done["environment"] = {
            "privilegedMode": False,
            "imagePullCredentialsType": "CODEBUILD",
            "environmentVariables": [],
            **done["environment"],
        }
        done["environment"]["environmentVariables"] = [
            {"type": "PLAINTEXT", **each} for each in done["environment"]["environmentVariables"]
        ]
    if "source" in done:
        done["source"] = {"insecureSsl": False, **done["source"]}
    if "badgeEnabled" in done:
        done["badge"] = {"badgeEnabled": done.pop("badgeEnabled")}
    return done


def ended_phase(
    kind: str, start: float, status: str, end: float, context: dict[str, str] | None = None
) -> dict[str, Any]:
    """Return a phase that is over, as BatchGetBuilds gives it; times in seconds since 1970."""
    return {
        "phaseType": kind,
        "phaseStatus": status,
        "startTime": start,
        "endTime": end,
        "durationInSeconds": int(end - start),
        "contexts": [context] if context else [],
    }
