"""The command line of `berth`: its commands, and how each of them ends."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from ops import console
from ops.commands.bench import bench
from ops.commands.destroy import destroy
from ops.commands.drift import drift
from ops.commands.env import env
from ops.commands.example import example
from ops.commands.hub import hub
from ops.commands.jobs import jobs
from ops.commands.leftovers import leftovers
from ops.commands.load import load
from ops.commands.logs import logs
from ops.commands.output import output
from ops.commands.plan import plan
from ops.commands.preflight import preflight
from ops.commands.preview import preview
from ops.commands.refresh import refresh
from ops.commands.report import report
from ops.commands.scan import scan
from ops.commands.smoke import smoke
from ops.commands.test import test
from ops.commands.up import up
from ops.commands.workers import workers
from ops.errors import OpsError


class _Commands(TyperGroup):
    """Ends a command with a message and an exit status where it raises an error meant for its user."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except OpsError as error:
            if str(error):
                console.error(str(error))
            raise typer.Exit(error.exit_status) from None
        except KeyboardInterrupt:
            console.error("interrupted: run the same command again to go on")
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Deploys one open-weights model to AWS EKS and RunPod from one definition.\n\n"
    "Exit status: 0 yes or done, 1 no or failed, 2 wrong command line, 130 interrupted.",
)
_COMMANDS = (
    plan, preflight, up, preview, smoke, load, output, workers, logs, drift, scan, refresh, destroy,
    leftovers, report, env, hub,
)  # fmt: skip
for _command in _COMMANDS:
    app.command()(_command)
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(test)
# An example has options of its own.
app.command(context_settings={"allow_extra_args": True, "allow_interspersed_args": False})(example)
app.add_typer(bench, name="bench")
app.add_typer(jobs, name="jobs")
