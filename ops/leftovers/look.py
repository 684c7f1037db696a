"""Looks for a stack's things in both of its accounts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import yaml

from infra.runpod.connection import KEY_VARIABLE
from ops.errors import OpsError
from ops.leftovers import aws
from ops.leftovers import runpod as runpod_account
from ops.leftovers.asker import Asker
from ops.leftovers.found import Found, Unseen
from ops.leftovers.kinds import KINDS
from ops.leftovers.owner import Owner
from ops.runpod import client
from ops.stacks import PROJECT_FOLDER, names

if TYPE_CHECKING:
    from ops.stacks import Stack

Ours = list[tuple[Found, str]]


@dataclass(frozen=True)
class Leftovers:
    """What was found of a stack.

    Args:
        account: of AWS; None where it did not answer.
        region: the only one that was looked at.
        found: each object with why it is thought to be the stack's, in the order to remove it in.
        unseen: what could not be looked at.
        looked_at: the kinds of objects that were; none where the sandbox's clouds are gone.
    """

    account: str | None
    region: str
    found: Ours
    unseen: list[Unseen]
    looked_at: list[str]

    @property
    def staying(self) -> Ours:
        """What does not go by itself."""
        return [(item, why) for item, why in self.found if item.going is None]


def look(stack: Stack) -> Leftovers:
    """Look in the account and region of a stack on AWS, and in its account on RunPod.

    Raises:
        OpsError: the credentials are of another account than the stack's.
    """
    if not stack.awake():
        # The sandbox's clouds are gone, and all that they held with them.
        return Leftovers(None, stack.settings.aws.region, [], [], [])
    project = yaml.safe_load((PROJECT_FOLDER / "Pulumi.yaml").read_text())["name"]
    owner = Owner(project, stack.name, tuple(name for name in names() if name != stack.name))
    account, on_aws, unseen_aws = _aws(stack, owner)
    on_runpod, unseen_runpod, kinds_on_runpod = _runpod(stack, owner)
    unseen = [*unseen_aws, *unseen_runpod]
    refused = {item.what for item in unseen}
    looked_at = [kind for kind in (*_kinds_on_aws(account), *kinds_on_runpod) if kind not in refused]
    return Leftovers(account, stack.settings.aws.region, [*on_runpod, *on_aws], unseen, looked_at)


def _aws(stack: Stack, owner: Owner) -> tuple[str | None, Ours, list[Unseen]]:
    settings = stack.settings
    environment = None if settings.sandbox is None else stack.environment()
    try:
        asker = Asker(environment, settings.aws.region)
    except aws.NO_ANSWER as error:
        return None, [], [Unseen("AWS", aws.reason(error))]
    wanted = settings.aws.account_id
    if wanted not in (None, asker.account):
        raise OpsError(
            f"the AWS credentials are of the account {asker.account}, and {settings.file} has"
            f" berth:aws.account_id: {wanted}: what is left there would not be seen"
        )
    return (asker.account, *aws.of_stack(asker, owner))


def _kinds_on_aws(account: str | None) -> list[str]:
    return [] if account is None else [f"AWS: {kind.name}" for kind in KINDS]


def _runpod(stack: Stack, owner: Owner) -> tuple[Ours, list[Unseen], list[str]]:
    if stack.settings.sandbox is not None and "runpod" not in stack.settings.targets:
        return [], [], []  # the sandbox has none then
    key = stack.environment().get(KEY_VARIABLE)
    if key:
        found, unseen = runpod_account.of_stack(client(stack.runpod_api(), key), stack.runpod_api(), owner)
        return found, unseen, [f"RunPod: {kind}" for kind in runpod_account.KINDS]
    # A stack that never was on RunPod has no key for it.
    if "runpod" in stack.settings.targets:
        return [], [Unseen("RunPod", f"{KEY_VARIABLE} is not in the environment")], []
    return [], [], []
