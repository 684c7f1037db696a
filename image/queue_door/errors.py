"""What a job is told when it fails: a message, a kind and an HTTP status, as OpenAI's API has them."""

from __future__ import annotations

import json
from typing import Any

MESSAGE_LIMIT = 2000


class JobError(Exception):
    """A job cannot be done.

    Args:
        message: what is wrong, for the one who sent the job.
        kind: its kind, as vLLM names them.
        code: the HTTP status that says the same.
        param: the field of the input that is wrong, where it is one.
    """

    def __init__(
        self, message: str, kind: str = "BadRequestError", code: int = 400, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message[:MESSAGE_LIMIT]
        self.kind = kind
        self.code = code
        self.param = param

    def result(self) -> dict[str, str]:
        """Return what the handler gives to RunPod's SDK.

        The SDK makes a string of whatever an error is, Python's own notation if it is a dictionary: so it is
        made here, in JSON.
        """
        fields = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return {"error": json.dumps(fields, ensure_ascii=False)}


def of_response(status: int, route: str, content: bytes) -> JobError:
    """Return the error that vLLM answered with.

    Args:
        status: the HTTP status.
        route: what was asked.
        content: the answer's body.
    """
    fields = _fields(content)
    message = str(fields.get("message") or content.decode(errors="replace").strip() or "no reason given")
    if status == 404 and message == "Not Found":
        message = f"vLLM serves no {route} for this endpoint's model"
    param = fields.get("param")
    kind = str(fields.get("type") or ("BadRequestError" if status < 500 else "InternalServerError"))
    return JobError(message, kind, status, None if param is None else str(param))


def of_event(error: dict[str, Any]) -> JobError:
    """Return the error that vLLM sent in an answer that had begun well."""
    code = error.get("code")  # a word, in OpenAI's newer routes
    kind = str(error.get("type") or code)
    return JobError(str(error.get("message")), kind, code if isinstance(code, int) else 500)


def _fields(content: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(content)
    except ValueError:
        return {}
    if not isinstance(parsed, dict):
        return {}
    found = parsed.get("error", parsed.get("detail"))
    if isinstance(found, dict):
        return found
    return {"message": found if isinstance(found, str) else json.dumps(found)} if found else parsed
