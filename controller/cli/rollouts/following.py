"""Showing a rollout once, or staying with it until it ends."""

from collections.abc import Callable
from typing import Any

import click

from controller.cli.session import DURATION, Session
from controller.views.models import RolloutView


def watch_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of everything that can stay and watch."""
    for option in (
        click.option(
            "--timeout",
            type=DURATION,
            default="7d",
            show_default=True,
            help="With --watch: leave with code 8 after this.",
        ),
        click.option(
            "--until",
            type=click.Choice(["settled", "ended"]),
            default="settled",
            show_default=True,
            help="With --watch: whether a paused rollout in which no host moves counts as an end.",
        ),
        click.option("-w", "--watch", is_flag=True, help="Stay and show every change until the end."),
    ):
        command = option(command)
    return command


def show_rollout(session: Session, found: RolloutView) -> None:
    """Print a rollout, as tables or as JSON."""
    from controller.cli import output
    from controller.cli.rollouts.tables import status_parts

    if session.output == "json":
        output.show_json(found)
    else:
        output.show(*status_parts(found, session.now(), max_hosts=None, width=output.console().width))


def follow(session: Session, name: str, *, until: str, timeout_s: float, wanted: str) -> int:
    """Show every change until the end; return the exit code, 0 when the rollout ended as `wanted`."""
    from controller.cli.rollouts.watch import watch

    return watch(session, name, settled_is_enough=until == "settled", timeout_s=timeout_s, wanted=wanted)
