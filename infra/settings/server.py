"""The section `server` of a stack file: somebody else's OpenAI-compatible server, in the place of vLLM."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from infra.settings.vocabulary import Allowed, Port, Positive, Section, Texts, UrlPath, UrlPaths, VariableName


def _folder(value: str) -> str:
    if not value.startswith("/") or value == "/":
        raise ValueError(value)
    return value


class ServerSettings(Section):
    """The image of `berth:image`, run as it is: its arguments, and where it is asked.

    Variables of it are in `serving.environment`, as those of vLLM are.
    """

    command: Texts = Field(default=(), description="else the image's own; RunPod can only pass arguments")
    args: Texts = ()
    port: Port = 8000
    health_path: UrlPath = Field(
        default="/health", description="answers 200 when the server serves, and asks no key"
    )
    routes: UrlPaths = Field(
        default=(), description="what is let through; else OpenAI's routes of the model's task"
    )
    api_key_variable: VariableName | None = Field(
        default=None, description="by which the server takes the key that it asks for; else it asks for none"
    )
    gpu_count: Positive = 1
    user_id: Annotated[int, Field(ge=1, le=65535), Allowed("a user's number, 1 to 65535: not root")] = 1000
    data_path: Annotated[
        str, AfterValidator(_folder), Allowed("an absolute path in the container, such as /data")
    ] = Field(default="/data", description="a folder of its own that it may write: weights, caches, its home")
