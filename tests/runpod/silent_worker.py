"""Speaks the worker protocol in the place of a container that does not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from sandbox.runpod.launcher import Launch


class SilentWorker:
    """A worker that does what a test says, with the addresses and the key that its container was given."""

    def __init__(self, launch: Launch) -> None:
        self.id = launch.name
        self.launch = launch
        headers = {"Authorization": launch.env["RUNPOD_AI_API_KEY"]}
        self.http = httpx.Client(headers=headers, timeout=30, trust_env=False)

    def take(self, count: int = 1) -> list[dict[str, Any]]:
        url = self.launch.env["RUNPOD_WEBHOOK_GET_JOB"].replace("$ID", self.id)
        if count > 1:
            url = url.replace("/job-take/", "/job-take-batch/") + f"&batch_size={count}"
        answer = self.http.get(f"{url}&job_in_progress=0")
        if answer.status_code == 204:
            return []
        assert answer.status_code == 200, answer.text
        jobs = answer.json()
        return jobs if isinstance(jobs, list) else [jobs]

    def stops(self) -> list[str]:
        url = self.launch.env["RUNPOD_WEBHOOK_GET_JOB"].replace("$ID", self.id)
        answer = self.http.get(url.replace("/job-take/", "/job-stop/"))
        ids: list[str] = answer.json()["jobsToStop"] if answer.status_code == 200 else []
        return ids

    def done(self, job_id: str, document: Any) -> httpx.Response:
        return self._post("RUNPOD_WEBHOOK_POST_OUTPUT", job_id, document)

    def piece(self, job_id: str, output: Any) -> httpx.Response:
        return self._post("RUNPOD_WEBHOOK_POST_STREAM", job_id, {"output": output})

    def ping(self, **query: str) -> httpx.Response:
        url = self.launch.env["RUNPOD_WEBHOOK_PING"].replace("$RUNPOD_POD_ID", self.id)
        return self.http.get(url + "".join(f"&{name}={value}" for name, value in query.items()))

    def _post(self, variable: str, job_id: str, document: Any) -> httpx.Response:
        url = self.launch.env[variable].replace("$RUNPOD_POD_ID", self.id).replace("$ID", job_id)
        headers = {"Content-Type": "application/x-www-form-urlencoded", "charset": "utf-8"}
        return self.http.post(f"{url}&isStream=false", content=json.dumps(document), headers=headers)
