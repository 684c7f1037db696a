"""The stack `local`'s clouds as one resource: the first created, the last destroyed.

The only module of `infra/` that knows the sandbox. What the providers of the stack `local` use comes from
this resource's outputs, so that nothing of the stack is touched before its clouds run or after they are gone.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pulumi
from pulumi.dynamic import (
    CreateResult,
    DiffResult,
    ReadResult,
    Resource,
    ResourceProvider,
    UpdateResult,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_PROJECT = Path(__file__).resolve().parent.parent
_INPUTS = ("block", "targets", "model", "revision", "task", "adapters")


# The class's module and name are in the state of every local stack: moving it orphans running clouds.
class SandboxProvider(ResourceProvider):
    """Starts, heals and stops the clouds; imports `sandbox` where it is used, for no other stack has it."""

    serialize_as_secret_always = False

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Install what the clouds run and start them."""
        return CreateResult(f"loopback-{int(props['block'])}", self._start(props))

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        """See an update where an input changed or a cloud died; another block is another sandbox."""
        from sandbox import clouds  # noqa: PLC0415

        changed = [key for key in _INPUTS if _olds.get(key) != _news.get(key)]
        return DiffResult(
            changes=bool(changed) or bool(clouds.dead(_PROJECT)),
            replaces=["block"] if "block" in changed else [],
            stables=[] if changed else ["aws_endpoint", "runpod_url"],
            delete_before_replace=True,
        )

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        """Start what is missing; what runs goes on."""
        return UpdateResult(outs=self._start(_news))

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        """Answer what is recorded: dead clouds come back with what they held, so they are not gone."""
        return ReadResult(id_, props)

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        """Stop the clouds and all they started, and remove what they wrote."""
        from sandbox import clouds  # noqa: PLC0415

        # The last of all resources to go: what is there now, a real account would be billed for.
        print(f"left on the clouds: {clouds.left(_PROJECT)}")
        clouds.stop(_PROJECT)

    def _start(self, props: dict[str, Any]) -> dict[str, Any]:
        from sandbox import clouds  # noqa: PLC0415
        from sandbox.model import Model  # noqa: PLC0415

        block = int(props["block"])
        clouds.prepare(
            props["targets"],
            Model(props["model"], props["revision"], props["task"], props["adapters"]),
            lambda part, line: print(f"{part}: {line}"),
        )
        endpoints = clouds.start(_PROJECT, block, props["targets"])
        return {
            **{key: props.get(key) for key in _INPUTS},
            "aws_endpoint": endpoints.aws,
            "runpod_url": endpoints.runpod,
        }


class Sandbox(Resource, module="sandbox", name="Clouds"):
    """AWS, Kubernetes and RunPod on this machine.

    Args:
        name: the logical name.
        block: the loopback network 127.`block`.0.0/16 that is theirs, 0 to 250; another one replaces them.
        targets: the platforms that the stack deploys to.
        model: the model's name on the hub, which the containers of the sandbox find in their cache.
        revision: its commit; empty where the server of the stack brings the model, and none is had.
        task: what the model is for, by which something stands in for it where no hub answers.
        adapters: the commits of its adapters, by their names on the hub.
    """

    aws_endpoint: pulumi.Output[str]
    runpod_url: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        *,
        block: int,
        targets: Sequence[str],
        model: str,
        revision: str,
        task: str,
        adapters: Mapping[str, str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__(
            SandboxProvider(),
            name,
            {
                "block": block,
                "targets": list(targets),
                "model": model,
                "revision": revision,
                "task": task,
                "adapters": dict(adapters),
                "aws_endpoint": None,
                "runpod_url": None,
            },
            pulumi.ResourceOptions.merge(
                pulumi.ResourceOptions(
                    custom_timeouts=pulumi.CustomTimeouts(create="30m", update="30m", delete="5m")
                ),
                opts,
            ),
        )
