"""Results of jobs that are posted to where their clients want them."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest

from tests.runpod.conftest import ECHO, Platform, job_status, run_job, wait_until


class _Receiver(BaseHTTPRequestHandler):
    received: ClassVar[list[dict[str, Any]]]
    statuses: ClassVar[list[int]]

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        self.received.append(json.loads(content))
        self.send_response(self.statuses.pop(0))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def _tries(receiver: type[_Receiver], job_id: str) -> int:
    return sum(document["id"] == job_id for document in receiver.received)


@pytest.mark.parametrize(("statuses", "posts"), [([200], 1), ([500, 302, 204], 3), ([500, 500, 500], 3)])
def test_a_webhook_gets_the_result_and_two_more_tries(
    fast_platform: Platform, statuses: list[int], posts: int
) -> None:
    class Receiver(_Receiver):
        received: ClassVar[list[dict[str, Any]]] = []

    Receiver.statuses = [*statuses, 500, 200, 200]
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever).start()
    try:
        made = fast_platform.create_queue()
        webhook = f"http://127.0.0.1:{server.server_address[1]}/done"
        jobs = fast_platform.jobs(made)
        job_id = run_job(jobs, webhook=webhook)
        worker = fast_platform.silent_worker(made)
        assert worker.take() == [{"id": job_id, "input": ECHO["input"], "webhook": webhook}]
        worker.done(job_id, {"output": 1})
        wait_until(lambda: len(Receiver.received) == posts, "the webhook is called")
        assert {document["id"] for document in Receiver.received} == {job_id}
        assert Receiver.received[0]["output"] == 1
        assert job_status(jobs, job_id)["status"] == "COMPLETED"
        # One more try, if there were one, would come before the second of a later job.
        later = run_job(jobs, webhook=webhook)
        assert len(worker.take()) == 1
        worker.done(later, {"output": 2})
        wait_until(lambda: _tries(Receiver, later) == 2, "the later job's result is posted again")
    finally:
        server.shutdown()
        server.server_close()
    assert _tries(Receiver, job_id) == posts
