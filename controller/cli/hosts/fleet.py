"""`kernroll fleet`: what holds for the whole fleet, and stopping every rollout from going on."""

from datetime import datetime

import click

from controller.cli.session import DURATION, Session, calls, examples
from controller.domain.errors import InvalidInput
from controller.domain.fleet.limits import MOST_DECISIONS
from controller.views.hosts.fleet import FleetView
from controller.words import time_text


@click.group()
def fleet() -> None:
    """Freeze and thaw the whole fleet; show what holds for it."""


@fleet.command(
    "status",
    epilog=examples(
        """
kernroll fleet status
kernroll fleet status --output json | jq .freeze
"""
    ),
)
@calls
def status(session: Session) -> None:
    """Show the freeze, the quarantined hosts, the denied kernels, and hosts that are expected and not there."""
    with session.client() as client:
        show_fleet(session, client.get_fleet())


@fleet.command(
    "freeze",
    short_help="Let no rollout admit further hosts.",
    epilog=examples(
        """
kernroll fleet freeze --remark 'incident 4711'
kernroll fleet freeze --remark 'year-end close' --until 2027-01-04T08:00+01:00
kernroll fleet freeze --remark 'network work' --for 3h
"""
    ),
)
@click.option("--remark", required=True, help="Why; recorded with who asked.")
@click.option("--until", metavar="TIME", help="When it ends by itself, with offset: 2027-01-04T08:00+01:00.")
@click.option("--for", "for_s", type=DURATION, help="How long it lasts, for example 3h.")
@calls
def freeze(session: Session, /, *, remark: str, until: str | None, for_s: float | None) -> None:
    """Let no rollout admit further hosts, until the time has come or somebody thaws the fleet.

    Hosts in flight finish their journey, and reverts go on: a freeze never keeps a host on a bad kernel.
    """
    if until is not None and for_s is not None:
        raise InvalidInput("--until and --for both say when the freeze ends; give one of them")
    end = _moment(until) if until is not None else None if for_s is None else session.now() + for_s
    with session.client() as client:
        show_fleet(session, client.freeze_fleet(remark, end))


@fleet.command("thaw", epilog=examples("kernroll fleet thaw --remark 'incident 4711 is over'"))
@click.option("--remark", default="", help="Recorded with who asked.")
@calls
def thaw(session: Session, remark: str) -> None:
    """End a freeze: rollouts admit hosts again."""
    with session.client() as client:
        show_fleet(session, client.thaw_fleet(remark))


@fleet.command(
    "log",
    short_help="List who decided what about the fleet, and why.",
    epilog=examples(
        """
kernroll fleet log
kernroll fleet log --last 500 --output json | jq -r '.decisions[] | select(.by == "olga").sentence'
"""
    ),
)
@click.option(
    "--last", type=click.IntRange(1, MOST_DECISIONS), default=50, show_default=True, help="How many decisions."
)
@calls
def log(session: Session, last: int) -> None:
    """List who decided what about the fleet, and why, oldest first. What rollouts did is in their reports."""
    from controller.cli import output

    with session.client() as client:
        decisions = client.get_fleet_log(last)
    if session.output == "json":
        output.show_json({"decisions": decisions})
    elif decisions:
        rows = [output.cells(time_text(one.at), one.by, one.sentence) for one in decisions]
        output.show_rows(("WHEN", "WHO", "WHAT"), rows)
    else:
        output.show("Nobody has decided anything yet.")


def show_fleet(session: Session, found: FleetView) -> None:
    """Print the fleet for people or programs."""
    from controller.cli import output
    from controller.cli.hosts.fleet_tables import fleet_parts

    if session.output == "json":
        output.show_json(found)
    else:
        output.show(*fleet_parts(found))


def _moment(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidInput(f"--until: {text!r} is not a time such as 2027-01-04T08:00+01:00") from error
    if moment.tzinfo is None:
        raise InvalidInput(f"--until: {text!r} does not say in which offset from UTC; write {text}+01:00, or {text}Z")
    return moment.timestamp()
