"""What every reply of REST v2 carries, and its rate limits."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import httpx

from tests.runpod.conftest import Platform, body, start_platform, wait_until

if TYPE_CHECKING:
    from pathlib import Path

POLICY = '"minute";q=60;w=60, "hour";q=3000;w=3600, "day";q=50000;w=86400'


def _left(response: httpx.Response) -> list[tuple[int, int]]:
    """Return requests and seconds that are left of each window."""
    return [(int(r), int(t)) for r, t in re.findall(r'"\w+";r=(\d+);t=(\d+)', response.headers["ratelimit"])]


def test_replies_say_their_id_and_what_is_left_of_the_published_limits(own_platform: Platform) -> None:
    first = own_platform.api.get("/serverless")
    assert first.headers["ratelimit-policy"] == POLICY
    assert _left(first) == [(59, 60), (2999, 3600), (49999, 86400)]
    second = own_platform.api.get("/serverless/none")
    assert second.status_code == 404
    assert [requests for requests, _ in _left(second)] == [58, 2998, 49998]
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    # Nobody else's requests count.
    stranger = httpx.get(f"{own_platform.cloud.endpoint}/serverless", trust_env=False)
    assert stranger.status_code == 401
    assert "ratelimit" not in stranger.headers
    assert stranger.headers["x-request-id"]


def test_the_published_limits_refuse_nothing(own_platform: Platform) -> None:
    answers = [own_platform.api.get("/serverless") for _ in range(65)]
    assert {answer.status_code for answer in answers} == {200}
    assert _left(answers[-1])[0][0] == 0


def test_a_limit_that_is_enforced_refuses_without_effect_until_its_window_is_over(tmp_path: Path) -> None:
    # A minute takes two seconds of the caller's.
    platform = start_platform(tmp_path, rate_limits={"minute": 3}, speed=30)
    try:
        platform.delegate()
        assert platform.api.get("/serverless").headers["ratelimit-policy"].startswith('"minute";q=3;w=60, ')
        last = platform.api.get("/serverless")
        assert _left(last)[0][0] == 0
        refused = platform.api.post("/serverless", json=body())
        assert refused.status_code == 429
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.json() == {
            "title": "Too Many Requests",
            "status": 429,
            "detail": "rate limit exceeded for the minute window",
        }
        assert 0 <= int(refused.headers["retry-after"]) <= 2
        # A refused request does not count towards the other windows.
        assert _left(refused)[1][0] == _left(last)[1][0]
        wait_until(lambda: platform.api.get("/serverless").status_code == 200, "a new minute")
        assert platform.api.get("/serverless").json() == {"endpoints": []}
    finally:
        platform.cloud.stop()
