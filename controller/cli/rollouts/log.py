"""`kernroll rollout log`: what happened in a rollout, and what was done on its hosts."""

import time
from typing import TYPE_CHECKING, Final

import click

from controller.cli.session import DURATION, HOST_NAME, ROLLOUT_NAME, Session, calls, examples

if TYPE_CHECKING:
    from controller.adapters.rpc.fleet_client import FleetClient
    from controller.views.models import LogLineView, RolloutLogView, RolloutView

# As many as one call returns.
_MOST: Final = 1000
# What happens within so much time is fetched together.
_GATHER_S: Final = 0.5


@click.command(
    "log",
    short_help="Show what happened, and what was done on hosts.",
    epilog=examples(
        """
kernroll rollout log swap-table-phase3
kernroll rollout log swap-table-phase3 --host canary-1
kernroll rollout log swap-table-phase3 --host canary-1 --last 30 --follow
kernroll rollout log swap-table-phase3 --output json | jq -r '.lines[] | select(.text | contains("failed")).host'
"""
    ),
)
@click.argument("name", type=ROLLOUT_NAME)
@click.option("--host", type=HOST_NAME, default="", help="Of this host alone.")
@click.option(
    "--last", type=click.IntRange(1, _MOST), default=_MOST, show_default=True, help="Only so many of the newest lines."
)
@click.option("-f", "--follow", is_flag=True, help="Stay, and show each line as it comes, until the rollout ends.")
@click.option(
    "--timeout", type=DURATION, default="7d", show_default=True, help="With --follow: leave with code 8 after this."
)
@calls
def log(session: Session, name: str, host: str, last: int, *, follow: bool, timeout: float) -> int | None:
    """Show what was decided and learnt so far, and what was done on hosts: by ssh or through their agents.

    Of a play it tells when it began, each task that changed something or failed, and how it ended. The last lines say
    what is under way now. With --follow and --output json every line is a document of its own.
    """
    from controller.cli import output

    with session.client() as client:
        if follow:
            return _follow(session, client, name, host=host, last=last, timeout_s=timeout)
        found = client.rollout_log(name, host=host, most=last)
    if session.output == "json":
        output.show_json(found)
        return None
    if found.left_out:
        click.echo(f"{found.left_out} older lines are not shown", err=True)
    for line in found.lines:
        click.echo(_shown(line))
    for line in found.under_way:
        click.echo(_shown(line, now=True))
    return None


def _follow(
    session: Session, client: "FleetClient", name: str, *, host: str, last: int, timeout_s: float
) -> int | None:
    from controller.cli.exit_codes import ExitCode
    from controller.cli.rollouts.watch import follow_into

    sink = LogSink(client, name, host=host, last=last, as_json=session.output == "json")
    try:
        follow_into(sink, session, name, settled_is_enough=False, timeout_s=timeout_s, wanted="promoted")
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    # However the rollout ended: it was its log that was asked for.
    return None


class LogSink:
    """Prints what is new in a rollout's log whenever the rollout has changed."""

    def __init__(self, client: "FleetClient", name: str, *, host: str, last: int, as_json: bool) -> None:
        """Begin with the newest lines, `last` of them."""
        self._client = client
        self._name = name
        self._host = host
        self._last = last
        self._as_json = as_json
        # How many lines the log had when it was read; None before.
        self._read: int | None = None
        self._due_at: float | None = None
        self._silent = False

    def show(self, view: "RolloutView") -> None:
        """Take note of a change; the last one is shown at once."""
        self._silent = False
        if view.terminal or self._read is None:
            self._fetch()
        elif self._due_at is None:
            self._due_at = time.monotonic() + _GATHER_S

    def tick(self) -> None:
        """Show what has come together."""
        if self._due_at is not None and time.monotonic() >= self._due_at:
            self._fetch()

    def unheard(self, sentence: str) -> None:
        """Say it once until the controller is heard again."""
        if not self._silent:
            click.echo(f"{sentence}; trying again", err=True)
        self._silent = True

    def _fetch(self) -> None:
        from controller.domain.errors import Temporary

        self._due_at = None
        try:
            found = self._client.rollout_log(self._name, host=self._host, most=self._last if self._read is None else 0)
        except Temporary as error:
            # Shown with the next change; the watch comes back with one.
            self.unheard(str(error))
            return
        self._print(found)
        self._read = found.left_out + len(found.lines)

    def _print(self, found: "RolloutLogView") -> None:
        from controller.cli import output

        fresh = found.lines
        if self._read is not None:
            fresh = found.lines[max(0, self._read - found.left_out) :]
            if found.left_out > self._read:
                click.echo(f"{found.left_out - self._read} lines came too fast to be shown", err=True)
        elif found.left_out:
            click.echo(f"{found.left_out} older lines are not shown", err=True)
        for line in fresh:
            if self._as_json:
                output.show_json(line, indent=None)
            else:
                click.echo(_shown(line))


def _shown(line: "LogLineView", *, now: bool = False) -> str:
    from controller.cli.output import cell
    from controller.domain.printable import printable
    from controller.words import offset_text

    at = "now" if now else offset_text(line.offset_s)
    return f"{at:>10}  {cell(line.host):<20} {printable(line.text, 1000)}"
