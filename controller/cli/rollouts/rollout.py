"""`kernroll rollout`: plan, start, watch, explain and report rollouts."""

from pathlib import Path

import click

from controller.cli.exit_codes import ExitCode
from controller.cli.rollouts import control
from controller.cli.rollouts.following import follow, show_rollout, watch_options
from controller.cli.rollouts.log import log
from controller.cli.session import ROLLOUT_FILE, ROLLOUT_NAME, Session, calls, examples, read_spec
from controller.domain.errors import Conflict, InvalidInput, NotFound
from controller.views.models import RolloutView

_FORMATS = {".md": "markdown", ".json": "json"}
_AA_HELP = "Old against old: every host keeps its kernel and only reboots."


@click.group()
def rollout() -> None:
    """Plan, start, watch, steer, end and report rollouts."""


for _verb in (*control.COMMANDS, log):
    rollout.add_command(_verb)


@rollout.command(
    "plan",
    short_help="Show kernels, waves, claims and what stands in the way.",
    epilog=examples(
        """
kernroll rollout plan rollout.yaml
kernroll rollout plan rollout.yaml --aa
"""
    ),
)
@click.argument("file", type=ROLLOUT_FILE)
@click.option("--aa", is_flag=True, help=_AA_HELP)
@calls
@click.pass_context
def plan(ctx: click.Context, session: Session, file: str, aa: bool) -> None:
    """Show kernels, waves, claims, what the fleet can see and what stands in the way; change nothing.

    Code 6 when there are blockers.
    """
    from controller.cli import output
    from controller.cli.rollouts.tables import plan_parts

    text, name = read_spec(file)
    with session.client() as client:
        planned = client.plan_rollout(text, name, aa=aa)
    if session.output == "json":
        output.show_json(planned)
    else:
        output.show(*plan_parts(planned))
    if planned.blockers:
        ctx.exit(ExitCode.CONFLICT)


@rollout.command(
    "start",
    epilog=examples(
        """
kernroll rollout start rollout.yaml
kernroll rollout start rollout.yaml --watch --timeout 2h
kernroll rollout start rollout.yaml --aa --watch
"""
    ),
)
@click.argument("file", type=ROLLOUT_FILE)
@click.option("--aa", is_flag=True, help=_AA_HELP)
@watch_options
@calls
@click.pass_context
def start(
    ctx: click.Context, session: Session, /, *, file: str, aa: bool, watch: bool, until: str, timeout: float
) -> None:
    """Start a rollout; with --watch stay until it ends.

    With --aa every host keeps its kernel: it is measured, reboots and is measured again, under the name NAME-aa. That
    teaches the ledger how noisy the measurements are (`kernroll gate ledger`), and whether the gate errs.
    """
    text, name = read_spec(file)
    with session.client() as client:
        started = client.start_rollout(text, name, aa=aa)
    if watch:
        wanted = "completed" if aa else "promoted"
        ctx.exit(follow(session, started.name, until=until, timeout_s=timeout, wanted=wanted))
    show_rollout(session, started)


@rollout.command("list", epilog=examples("kernroll rollout list --output json"))
@calls
def list_rollouts(session: Session) -> None:
    """List all rollouts with state and what each waits for."""
    from controller.cli import output
    from controller.cli.rollouts.tables import rollouts_table

    with session.client() as client:
        found = client.list_rollouts()
    if session.output == "json":
        output.show_json({"rollouts": found})
    else:
        width = output.console().width
        output.show(rollouts_table(found, width) if found else "No rollout yet; see `kernroll rollout start --help`.")


@rollout.command(
    "status",
    short_help="Show waves, every host's step, and what it waits for.",
    epilog=examples(
        """
kernroll rollout status swap-table-phase3
kernroll rollout status --watch
kernroll rollout status swap-table-phase3 --watch --until ended --timeout 1h
"""
    ),
)
@click.argument("name", type=ROLLOUT_NAME, required=False)
@watch_options
@calls
@click.pass_context
def status(
    ctx: click.Context, session: Session, /, *, name: str | None, watch: bool, until: str, timeout: float
) -> None:
    """Show waves, every host's step, and the one thing a rollout waits for. Without NAME: the newest rollout.

    With --watch the code is 0 for a promoted rollout and 7 for one that ended otherwise.
    """
    if watch:
        ctx.exit(follow(session, name or _newest(session).name, until=until, timeout_s=timeout, wanted="promoted"))
    if name is None:
        show_rollout(session, _newest(session))
        return
    with session.client() as client:
        found = client.get_rollout(name)
    show_rollout(session, found)


@rollout.command(
    "explain",
    short_help="Say in one sentence why a rollout stands where it stands.",
    epilog=examples("kernroll rollout explain swap-table-phase3"),
)
@click.argument("name", type=ROLLOUT_NAME)
@calls
def explain(session: Session, name: str) -> None:
    """Say in one sentence why a rollout stands where it stands, with the evidence and what to run next."""
    from controller.cli import output

    with session.client() as client:
        found = client.explain_rollout(name)
    if session.output == "json":
        output.show_json(found)
        return
    output.show(output.prose(found.sentence), *(output.prose(f"  - {line}") for line in found.evidence))
    if found.next_command:
        output.show(f"Next: {found.next_command}")


@rollout.command(
    "report",
    short_help="Print or write the before/after report.",
    epilog=examples(
        """
kernroll rollout report swap-table-phase3
kernroll rollout report swap-table-phase3 --write report.md
kernroll rollout report swap-table-phase3 --format json | jq .costs
kernroll rollout report swap-table-phase3 --format cover-letter
kernroll rollout report series-zswap series-zram series-bgsave --format cover-letter
kernroll rollout report swap-table-phase3 --plot verdicts.svg
"""
    ),
)
@click.argument("names", metavar="NAME…", type=ROLLOUT_NAME, nargs=-1, required=True)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "markdown", "json", "cover-letter"]),
    help="[default: by the ending of --write, else text]",
)
@click.option("--write", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), help="Write to a file.")
@click.option(
    "--plot",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Draw the verdicts into FILE.svg or FILE.png; the report follows only with --format or --write.",
)
@calls
def report(
    session: Session, /, *, names: tuple[str, ...], form: str | None, write: Path | None, plot: Path | None
) -> None:
    """Print the before/after report of a rollout, as plain text for a mailing list by default.

    Of several rollouts, each with tests of its own, --format cover-letter makes one letter.
    """
    name, *beside = names
    if beside and (form != "cover-letter" or plot is not None):
        raise InvalidInput("only --format cover-letter joins several rollouts; name one, or give that format")
    if plot is not None:
        _plot(session, name, plot)
    if plot is not None and form is None and write is None:
        return
    chosen = form or (_FORMATS.get(write.suffix) if write else None) or session.output
    with session.client() as client:
        made = client.report_rollout(name, *beside)
    forms = {"text": made.text, "markdown": made.markdown, "json": made.json, "cover-letter": made.letter}
    content = forms[chosen]
    if write is None:
        click.echo(content, nl=not content.endswith("\n"))
        return
    from controller.adapters.local.named_files import write_file

    write_file(write, content)
    click.echo(f"{write}: {chosen} report of {', '.join(names)}", err=True)


def _newest(session: Session) -> RolloutView:
    with session.client() as client:
        found = client.list_rollouts()
    if not found:
        raise NotFound("there is no rollout yet; start one with `kernroll rollout start FILE`")
    return max(found, key=lambda one: (not one.terminal, one.started_at or 0.0, one.name))


def _plot(session: Session, name: str, path: Path) -> None:
    from controller.adapters.local.plots import write_forest
    from controller.views.gate.forest import forest_of_rollout

    with session.client() as client:
        found = client.get_rollout(name)
    if not found.verdicts:
        raise Conflict(f"{name} has no verdict to draw yet; {found.blocking_reason}")
    write_forest(forest_of_rollout(found), path)
    click.echo(f"{path}: forest plot of {name}", err=True)
