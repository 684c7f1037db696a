"""What the platform answers when it refuses: problem documents (RFC 9457), plain errors at the edge."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Problem(Exception):  # noqa: N818  # the standard's word
    """A refusal of the API.

    Args:
        status: the HTTP status.
        detail: what is wrong.
        errors: one line for each field that is.
    """

    def __init__(self, status: int, detail: str, errors: Sequence[str] = ()) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = list(errors)


def problem_response(problem: Problem, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return the problem document."""
    document = {
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail,
        **({"errors": problem.errors} if problem.errors else {}),
    }
    return JSONResponse(document, problem.status, headers, media_type="application/problem+json")


def edge_error(status: int, message: str) -> JSONResponse:
    """Return an error as the load balancer gives it."""
    return JSONResponse({"error": message}, status)


def unprocessable(*errors: str) -> Problem:
    """Return the refusal of a body that does not fit the schema."""
    return Problem(422, "Request validation failed.", errors)


def bad_request(detail: str) -> Problem:
    """Return the refusal of a body that breaks a rule of its resource."""
    return Problem(400, detail)


def not_found(what: str) -> Problem:
    """Return the refusal of an id that nothing has."""
    return Problem(404, f"{what} not found")
