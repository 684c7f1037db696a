"""Runs CodeBuild's builds: source out of S3, the buildspec's commands in bash, output to CloudWatch Logs."""

from __future__ import annotations

import io
import logging
import os
import shutil
import sys
import threading
import time
import zipfile
from typing import TYPE_CHECKING, Any

from moto.s3.exceptions import S3ClientError
from moto.s3.models import s3_backends

from sandbox import processes
from sandbox.aws import buildspec
from sandbox.aws.cloud import ACCOUNT_ID, Cloud
from sandbox.aws.codebuild import ended_phase

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox.aws.codebuild import CodeBuildState

_log = logging.getLogger(__name__)
_POLL_SECONDS = 0.2
_INTERRUPTED = "The sandbox was stopped during the build"
_LOG_SECONDS = 1.0
_LINES_PER_BATCH = 1000


class Builds:
    """Starts a thread for each build that is in progress.

    Args:
        cloud: the account.
        state: CodeBuild's state.
        environment: what every build's environment starts from.
    """

    def __init__(self, cloud: Cloud, state: CodeBuildState, environment: dict[str, str]) -> None:
        self._cloud = cloud
        self._state = state
        self._environment = environment
        self._running: dict[str, _Build] = {}
        self._guard = threading.Lock()
        self._stopped = False
        self._tools = cloud.directory / "builds" / "bin"
        cloud.on_change(self._look)

    def recover(self) -> None:
        """End the builds that were under way when the sandbox was killed; they are not run again."""
        for build_id, build in list(self._state.builds.items()):
            if not build["buildComplete"]:
                now = time.time()
                context = {
                    "statusCode": "INTERNAL_SERVICE_ERROR",
                    "message": _INTERRUPTED,
                }
                last = build["phases"][-1]
                phase = ended_phase(last["phaseType"], last["startTime"], "FAULT", now, context)
                phases = [*build["phases"][:-1], phase, {"phaseType": "COMPLETED", "startTime": now}]
                changes = {
                    "buildStatus": "FAULT",
                    "endTime": now,
                    "currentPhase": "COMPLETED",
                    "buildComplete": True,
                }
                self._cloud.record(
                    "codebuild.progress", build_id=build_id, changes={**changes, "phases": phases}
                )

    def _look(self) -> None:
        def seen() -> tuple[list[dict[str, Any]], set[str]]:
            going = [build for build in self._state.builds.values() if not build["buildComplete"]]
            return going, set(self._state.stopping)

        going, stopping = self._cloud.inside(seen)
        with self._guard:
            if self._stopped:
                return
            for build in going:
                if build["id"] not in self._running:
                    self._install_tools()
                    runner = _Build(self._cloud, dict(build), self._environment, self._tools)
                    self._running[build["id"]] = runner
                    runner.start()
                elif build["id"] in stopping:
                    self._running[build["id"]].stop("STOPPED")

    def _install_tools(self) -> None:
        """Put a `docker` on the builds' PATH that is the sandbox's own."""
        docker = self._tools / "docker"
        if not docker.exists():
            self._tools.mkdir(parents=True, exist_ok=True)
            docker.write_text(f'#!/bin/sh\nexec {sys.executable} -m sandbox.docker "$@"\n')
            docker.chmod(0o755)

    def stop(self) -> None:
        """Stop all builds."""
        with self._guard:
            self._stopped = True
            running = list(self._running.values())
        for runner in running:
            runner.stop("FAULT")
        for runner in running:
            runner.join()


class _FailedError(Exception):
    """A build that has failed before its commands ran."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.context = {"statusCode": code, "message": message}


class _Build(threading.Thread):
    """Runs one build."""

    def __init__(self, cloud: Cloud, build: dict[str, Any], environment: dict[str, str], tools: Path) -> None:
        super().__init__(name=f"build-{build['id']}", daemon=True)
        self._cloud = cloud
        self._build = build
        self._environment = environment
        self._tools = tools
        self._directory = cloud.directory / "builds" / build["id"].replace(":", "-")
        self._phases: list[dict[str, Any]] = list(build["phases"])
        self._outcome: str | None = None  # STOPPED, TIMED_OUT or FAULT, when the build is ended from outside
        self._process: processes.Process | None = None
        self._read = 0
        self._steps_read = 0
        self._flushed = 0.0

    def stop(self, outcome: str) -> None:
        """End the build."""
        self._outcome = self._outcome or outcome

    def run(self) -> None:
        try:
            status, exported = self._run()
        except Exception as error:  # noqa: BLE001  # whatever it is, the build has to end
            _log.exception("build %s", self._build["id"])
            status, exported = "FAULT", []
            self._end_phase("FAULT", {"statusCode": "INTERNAL_SERVICE_ERROR", "message": str(error)})
        shutil.rmtree(self._directory, ignore_errors=True)
        self._begin_phase("COMPLETED")
        self._save(
            buildStatus=status,
            endTime=time.time(),
            buildComplete=True,
            exportedEnvironmentVariables=exported,
        )

    def _save(self, **changes: Any) -> None:
        changes = {"phases": self._phases, "currentPhase": self._phases[-1]["phaseType"], **changes}
        self._cloud.record("codebuild.progress", build_id=self._build["id"], changes=changes)

    def _begin_phase(self, kind: str) -> None:
        self._phases = [*self._phases, {"phaseType": kind, "startTime": time.time()}]

    def _end_phase(self, status: str = "SUCCEEDED", context: dict[str, str] | None = None) -> None:
        last = self._phases[-1]
        if "endTime" not in last:
            ended = ended_phase(last["phaseType"], last["startTime"], status, time.time(), context)
            self._phases = [*self._phases[:-1], ended]

    def _say(self, lines: list[str]) -> None:
        location = self._build["logs"]
        if "groupName" in location:
            for start in range(0, len(lines), _LINES_PER_BATCH):
                self._cloud.record(
                    "codebuild.log",
                    arn=self._build["arn"],
                    group=location["groupName"],
                    stream=location["streamName"],
                    lines=lines[start : start + _LINES_PER_BATCH],
                )

    def _run(self) -> tuple[str, list[dict[str, str]]]:
        self._end_phase()  # QUEUED
        self._begin_phase("PROVISIONING")
        source = self._directory / "src"
        shutil.rmtree(self._directory, ignore_errors=True)
        source.mkdir(parents=True)
        self._end_phase()
        self._begin_phase("DOWNLOAD_SOURCE")
        self._save()
        try:
            self._fetch_source(source)
            spec = self._load_spec(source)
        except _FailedError as error:
            self._end_phase("FAILED", error.context)
            self._say(
                [f"[Container] Phase context status code: {error.context['statusCode']} Message: {error}"]
            )
            return "FAILED", []
        self._end_phase()
        return self._run_commands(source, spec)

    def _fetch_source(self, target: Path) -> None:
        source = self._build["source"]
        if source["type"] == "NO_SOURCE":
            return
        bucket, _, key = source["location"].removeprefix("arn:aws:s3:::").partition("/")

        def get() -> bytes | None:
            try:
                found = s3_backends[ACCOUNT_ID]["aws"].get_object(bucket, key)
            except S3ClientError as error:
                raise _FailedError(
                    "CLIENT_ERROR", f"error while downloading key {key}, error: {error.code}: {error.message}"
                ) from error
            return bytes(found.value) if found is not None else None

        data = self._cloud.inside(get)
        if data is None:
            message = (
                f"error while downloading key {key}, error: NoSuchKey: The specified key does not exist."
            )
            raise _FailedError("CLIENT_ERROR", message)
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                for member in archive.infolist():
                    path = archive.extract(member, target)
                    if not member.is_dir() and (mode := member.external_attr >> 16 & 0o777):
                        os.chmod(path, mode)  # noqa: PTH101  # `extract` gives a string
        except zipfile.BadZipFile as error:
            raise _FailedError("CLIENT_ERROR", f"error while unzipping {key}: {error}") from error

    def _load_spec(self, source: Path) -> buildspec.Buildspec:
        text = self._build["source"].get("buildspec", "")
        if "\n" not in text:
            name = text or "buildspec.yml"
            try:
                text = (source / name).read_text()
            except OSError as error:
                raise _FailedError("YAML_FILE_ERROR", f"stat {name}: no such file or directory") from error
        try:
            return buildspec.parse(text)
        except buildspec.BuildspecError as error:
            raise _FailedError("YAML_FILE_ERROR", str(error)) from error

    def _variables(self, source: Path, spec: buildspec.Buildspec) -> dict[str, str]:
        build = self._build
        region = build["arn"].split(":")[3]
        session = self._cloud.record(
            "codebuild.session",
            role_arn=build["serviceRole"],
            name=f"AWSCodeBuild-{build['id'].partition(':')[2]}",
            region=region,
        )
        path = [str(self._tools), os.path.dirname(sys.executable), self._environment.get("PATH", os.defpath)]  # noqa: PTH120
        return {
            **self._environment,
            **session,
            "PATH": os.pathsep.join(path),
            "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
            "HOME": str(self._directory),
            "DOCKER_CONFIG": str(self._directory / ".docker"),
            "AWS_REGION": region,
            "AWS_DEFAULT_REGION": region,
            "AWS_PAGER": "",
            "CODEBUILD_BUILD_ARN": build["arn"],
            "CODEBUILD_BUILD_ID": build["id"],
            "CODEBUILD_BUILD_IMAGE": build["environment"]["image"],
            "CODEBUILD_BUILD_NUMBER": str(build["buildNumber"]),
            "CODEBUILD_INITIATOR": build["initiator"],
            "CODEBUILD_LOG_PATH": build["logs"].get("streamName", ""),
            "CODEBUILD_RESOLVED_SOURCE_VERSION": build.get("sourceVersion", ""),
            "CODEBUILD_SOURCE_REPO_URL": build["source"].get("location", ""),
            "CODEBUILD_SOURCE_VERSION": build.get("sourceVersion", ""),
            "CODEBUILD_SRC_DIR": str(source),
            "CODEBUILD_START_TIME": str(int(build["startTime"] * 1000)),
            **spec.variables,
            **{each["name"]: each["value"] for each in build["environment"]["environmentVariables"]},
        }

    def _run_commands(self, source: Path, spec: buildspec.Buildspec) -> tuple[str, list[dict[str, str]]]:
        steps, exported, script = (self._directory / name for name in ("steps", "exported", "script"))
        script.write_text(buildspec.script(spec, str(steps), str(exported)))
        output = self._directory / "output"
        temporary = self._directory / "tmp"
        temporary.mkdir()
        self._process = processes.spawn_contained(
            [shutil.which("bash") or "/bin/bash", str(script)],
            name=f"build {self._build['id']}",
            log_path=output,
            env={**self._variables(source, spec), "TMPDIR": str(temporary)},
            cwd=source,
        )
        commands = buildspec.commands(spec)
        report = _Report(commands)
        deadline = time.monotonic() + 60 * self._build["timeoutInMinutes"]
        while self._process.alive() and self._outcome is None:
            self._follow(steps, output, report)
            if time.monotonic() > deadline:
                self._outcome = "TIMED_OUT"
            time.sleep(_POLL_SECONDS)
        exit_status = self._process.stop(5.0)
        self._flushed = 0.0
        self._follow(steps, output, report)
        if self._outcome is not None:
            message = {"TIMED_OUT": "Build timed out.", "STOPPED": "Build was stopped."}.get(
                self._outcome, ""
            )
            context = {"statusCode": f"BUILD_{self._outcome}", "message": message}
            self._end_phase(self._outcome, context)
            return self._outcome, []
        if "endTime" not in self._phases[-1]:  # the command ended the shell itself
            report.status = exit_status or 1
            self._end_phase("FAILED", report.context())
            self._say_end(self._phases[-1])
        return ("FAILED" if report.failed else "SUCCEEDED"), _exported(exported)

    def _follow(self, steps: Path, output: Path, report: _Report) -> None:
        """Take up what the script has said since the last look."""
        lines = self._new_steps(steps)
        for line in lines:
            word, *rest = line.split()
            if word == "phase":
                self._drain_output(output)
                self._begin_phase(rest[0].upper())
                self._say([f"[Container] Entering phase {rest[0].upper()}"])
            elif word == "start":
                report.number, report.status = int(rest[0]), 0
                self._drain_output(output)
                self._say([f"[Container] Running command {report.command}"])
            elif word == "end":
                report.finish(int(rest[1]))
            elif word == "done":
                self._drain_output(output)
                failed = rest[1] != "0"
                self._end_phase("FAILED" if failed else "SUCCEEDED", report.context() if failed else None)
                self._say_end(self._phases[-1])
        if lines:
            self._save()
        if time.monotonic() - self._flushed > _LOG_SECONDS:
            self._drain_output(output)

    def _say_end(self, phase: dict[str, Any]) -> None:
        lines = [f"[Container] Phase complete: {phase['phaseType']} State: {phase['phaseStatus']}"]
        lines += [
            f"[Container] Phase context status code: {each['statusCode']} Message: {each['message']}"
            for each in phase["contexts"]
        ]
        self._say(lines)

    def _new_steps(self, steps: Path) -> list[str]:
        if not steps.exists():
            return []
        whole = steps.read_text().split("\n")[:-1]
        new, self._steps_read = whole[self._steps_read :], len(whole)
        return new

    def _drain_output(self, output: Path) -> None:
        self._flushed = time.monotonic()
        with output.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        if self._process is not None and self._process.alive():
            data = data[: data.rfind(b"\n") + 1]
        self._read += len(data)
        if lines := data.decode(errors="replace").splitlines():
            self._say(lines)


class _Report:
    """Which command runs, and which one failed."""

    def __init__(self, commands: list[str]) -> None:
        self._commands = commands
        self.number = 0
        self.status = 0
        self._failure: dict[str, str] | None = None

    @property
    def command(self) -> str:
        return self._commands[self.number]

    @property
    def failed(self) -> bool:
        return self._failure is not None

    def finish(self, status: int) -> None:
        """Take note of a command's exit status."""
        self.status = status
        if status:
            self.context()

    def context(self) -> dict[str, str]:
        """Return the phase context of the failed command, in CodeBuild's words."""
        if self.status:
            self._failure = {
                "statusCode": "COMMAND_EXECUTION_ERROR",
                "message": f"Error while executing command: {self.command}. "
                f"Reason: exit status {self.status}",
            }
        return self._failure or {}


def _exported(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    pairs = [item.partition("=") for item in path.read_text().split("\0") if item]
    return [{"name": name, "value": value} for name, _, value in pairs]
