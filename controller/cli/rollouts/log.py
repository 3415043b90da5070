"""`kernroll rollout log`: what happened in a rollout, and what was done on its hosts."""

from typing import TYPE_CHECKING

import click

from controller.cli.session import HOST_NAME, ROLLOUT_NAME, Session, calls, examples

if TYPE_CHECKING:
    from controller.views.models import LogLineView


@click.command(
    "log",
    short_help="Show what happened, and what was done on hosts.",
    epilog=examples(
        """
kernroll rollout log swap-table-phase3
kernroll rollout log swap-table-phase3 --host canary-1
watch -n 5 kernroll rollout log swap-table-phase3 --host canary-1 --last 30
kernroll rollout log swap-table-phase3 --output json | jq -r '.lines[] | select(.text | contains("failed")).host'
"""
    ),
)
@click.argument("name", type=ROLLOUT_NAME)
@click.option("--host", type=HOST_NAME, default="", help="Of this host alone.")
@click.option(
    "--last", type=click.IntRange(1, 1000), default=1000, show_default=True, help="Only so many of the newest lines."
)
@calls
def log(session: Session, name: str, host: str, last: int) -> None:
    """Show what was decided and learnt so far, and what was done on hosts: by ssh or through their agents.

    Of a play it tells when it began, each task that changed something or failed, and how it ended. The last lines say
    what is under way now.
    """
    from controller.cli import output

    with session.client() as client:
        found = client.rollout_log(name, host=host, most=last)
    if session.output == "json":
        output.show_json(found)
        return
    if found.left_out:
        click.echo(f"{found.left_out} older lines are not shown", err=True)
    for line in found.lines:
        click.echo(_shown(line))
    for line in found.under_way:
        click.echo(_shown(line, now=True))


def _shown(line: "LogLineView", *, now: bool = False) -> str:
    from controller.cli.output import cell
    from controller.domain.printable import printable
    from controller.words import offset_text

    at = "now" if now else offset_text(line.offset_s)
    return f"{at:>10}  {cell(line.host):<20} {printable(line.text, 1000)}"
