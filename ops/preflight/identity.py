"""Who deploys, and whether IAM lets that principal do what the stack's resources need."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ops.preflight import actions
from ops.preflight.aws import NO_ANSWER, code_of, refused_credentials
from ops.preflight.findings import Check, Finding, no, unknown, yes

if TYPE_CHECKING:
    from infra.settings import Settings
    from ops.graph.record import Graph
    from ops.preflight.aws import Account

_ASSUMED = re.compile(r"arn:(?P<partition>[\w-]+):sts::(?P<account>\d+):assumed-role/(?P<role>[^/]+)/.+")
_SIMULATED = re.compile(r"arn:[\w-]+:iam::\d+:(user|role)/.+")
_AT_ONCE = 100
_SHOWN = 8


def checks(settings: Settings, account: Account, graph: Graph) -> list[Check]:
    """Return the questions about the deployer."""
    found = [
        Check("AWS", "credentials", lambda: _credentials(settings, account)),
        Check("AWS", "permissions", lambda: account.ask(lambda: _permissions(account, graph))),
    ]
    wanted = settings.require_eks().deployer_principal_arn if "eks" in settings.targets else None
    if wanted is not None:
        found.append(
            Check("AWS", "deployer", lambda: account.ask(lambda: _deployer(settings, account, wanted)))
        )
    return found


def _credentials(settings: Settings, account: Account) -> Finding:
    try:
        who = account.identity()
    except NO_ANSWER as error:
        return refused_credentials(error)
    wanted = settings.aws.account_id
    if wanted not in (None, who.account):
        return no(
            f"{who.arn} is of the account {who.account}, and {settings.file} has berth:aws.account_id:"
            f" {wanted}",
            "take credentials of that account: aws sts get-caller-identity says whose they are",
        )
    return yes(f"{who.arn} in {account.region}")


def _deployer(settings: Settings, account: Account, wanted: str) -> Finding:
    mine = principal(account)
    if mine == wanted:
        return yes(f"{wanted} deploys")
    return no(
        f"{mine} deploys, and {settings.file} has berth:eks.deployer_principal_arn: {wanted}: only that"
        " principal may use the cluster",
        f"aws sts assume-role --role-arn {wanted} --role-session-name berth",
    )


def principal(account: Account) -> str:
    """Return the ARN of the user or role that the credentials are of: of a session, its role's.

    Raises:
        BotoCoreError, ClientError: as of `Account.identity`.
    """
    arn = account.identity().arn
    session = _ASSUMED.fullmatch(arn)
    if session is None:
        return arn
    try:
        # A role's path is not in its session's name.
        found: str = account.client("iam").get_role(RoleName=session["role"])["Role"]["Arn"]
    except NO_ANSWER:
        return f"arn:{session['partition']}:iam::{session['account']}:role/{session['role']}"
    return found


def _permissions(account: Account, graph: Graph) -> Finding:
    wanted = actions.needed(graph)
    who = principal(account)
    if who.endswith(":root"):
        return yes("the account's root user may do everything; deploy by a role")
    if not _SIMULATED.fullmatch(who):
        return unknown(
            f"{who} is no user or role, and IAM simulates no other", "deploy by a role, or try berth preview"
        )
    try:
        denied = _denied(account, who, wanted)
    except NO_ANSWER as error:
        said = " ".join(str(error).split())
        return unknown(
            f"IAM does not simulate: {said}" if code_of(error) else f"IAM does not answer: {said}",
            f"let {who} do iam:SimulatePrincipalPolicy, or have an administrator look for these"
            f" {len(wanted)} actions (--json has them)",
        )
    if not denied:
        return yes(f"{who} may do the {len(wanted)} actions that the stack's resources need")
    more = f" and {len(denied) - _SHOWN} more" if len(denied) > _SHOWN else ""
    return no(
        f"{who} may not do {', '.join(denied[:_SHOWN])}{more} on every resource (*)",
        "allow them in IAM: https://console.aws.amazon.com/iam; a policy that names resources does not pass",
    )


def _denied(account: Account, who: str, wanted: list[str]) -> list[str]:
    found = []
    for start in range(0, len(wanted), _AT_ONCE):
        results = account.items(
            "iam",
            "simulate_principal_policy",
            "EvaluationResults",
            PolicySourceArn=who,
            ActionNames=wanted[start : start + _AT_ONCE],
        )
        found += [item["EvalActionName"] for item in results if item["EvalDecision"] != "allowed"]
    return found
