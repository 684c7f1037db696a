"""What must hold of a stack whose model is served by vLLM, and of one whose server is somebody else's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra.settings.problems import show

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infra.settings.eks import EksSettings
    from infra.settings.model import ModelSettings
    from infra.settings.runpod import RunpodSettings
    from infra.settings.sections import ImageSettings, ServingSettings
    from infra.settings.server import ServerSettings
    from infra.settings.vocabulary import Section

# What holds whatever the server is; all else in these sections is said to vLLM.
_OF_ANY_MODEL = {"name", "revision", "served_name", "task"}
_OF_ANY_SERVING = {"environment", "startup_timeout_seconds", "drain_seconds"}


def of_vllm(model: ModelSettings, *, on_sandbox: bool) -> Iterator[tuple[str, str]]:
    """Yield what a model that vLLM serves lacks, as pairs of dotted key and reason."""
    if not model.revision:
        yield (
            "model.revision",
            " is missing: must be a commit of the model's repository, 40 hexadecimal digits: branches move",
        )
    if not model.max_model_len:
        yield "model.max_model_len", " is missing: must be a whole number of tokens, 1 or more"
    if model.task == "speak":
        yield (
            "model.task",
            ' = "speak": vLLM has no route for it: name a server that has, in berth:server and berth:image',
        )
    for host in model.allowed_media_hosts:
        if host.startswith("127.") and not on_sandbox:
            yield (
                "model.allowed_media_hosts",
                f" has {host}: must be hosts' full names, an address of this machine only on the sandbox",
            )


def of_another_server(
    server: ServerSettings,
    *,
    model: ModelSettings,
    serving: ServingSettings,
    image: ImageSettings,
    eks: EksSettings | None,
    runpod: RunpodSettings | None,
) -> Iterator[tuple[str, str]]:
    """Yield what somebody else's server cannot take, as pairs of dotted key and reason.

    Args:
        server: the section `server`.
        model: the section `model`.
        serving: the section `serving`.
        image: the section `image`.
        eks: the section `eks`, where it is a target.
        runpod: the section `runpod`, where it is a target.
    """
    yield from _without_effect("model", model, _OF_ANY_MODEL)
    yield from _without_effect("serving", serving, _OF_ANY_SERVING)
    if image.builder != "prebuilt":
        yield "image.builder", ' must be "prebuilt" with berth:server: its image is not built here'
    if server.api_key_variable in serving.environment:
        yield f"serving.environment.{server.api_key_variable}", ": server.api_key_variable decides it"
    if runpod is not None:
        yield from _on_runpod(server, runpod)
    if eks is not None:
        yield from _on_eks(server, eks)


def _without_effect(name: str, section: Section, known: set[str]) -> Iterator[tuple[str, str]]:
    for key in type(section).model_fields:
        if key in section.model_fields_set and key not in known:
            yield (
                f"{name}.{key}",
                (
                    f" = {show(section.model_dump()[key])} is said to vLLM only: with berth:server, put what "
                    "its server takes into server.args or serving.environment"
                ),
            )


def _on_runpod(server: ServerSettings, runpod: RunpodSettings) -> Iterator[tuple[str, str]]:
    if runpod.endpoint_type == "QUEUE":
        yield (
            "runpod.endpoint_type",
            (
                ' = "QUEUE": must be "LOAD_BALANCER" with berth:server: a queue\'s jobs are fetched by a '
                "program in the image, which somebody else's does not have"
            ),
        )
    if server.command:
        yield (
            "server.command",
            ": RunPod passes arguments to the image's own entry point and cannot replace it: use server.args",
        )


def _on_eks(server: ServerSettings, eks: EksSettings) -> Iterator[tuple[str, str]]:
    if server.api_key_variable is None and not eks.load_balancer.internal:
        yield (
            "eks.load_balancer.internal",
            " must be true without server.api_key_variable: the server asks for no key",
        )
    if eks.s3_weights is not None:
        yield "eks.s3_weights", ": vLLM streams them, and a server of berth:server does not"
    for key in ("autoscaling", "monitoring"):
        if getattr(eks, key) is not None:
            yield f"eks.{key}", ": follows vLLM's metrics, which a server of berth:server does not have"
