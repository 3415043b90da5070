"""The verbs that steer a rollout: pause, resume, promote, approve, retry, skip, abort and revert."""

from typing import Any

import click

from controller.cli.rollouts.following import follow, show_rollout, watch_options
from controller.cli.session import ROLLOUT_NAME, Session, calls, examples

_REMARK = click.option("--remark", default="", help="Recorded with who asked.")
_NAME = click.argument("name", type=ROLLOUT_NAME)


@click.command(
    "pause",
    short_help="Admit no further host; hosts in flight finish.",
    epilog=examples("kernroll rollout pause swap-table-phase3 --remark 'incident in zone b'"),
)
@_NAME
@_REMARK
@calls
def pause(session: Session, name: str, remark: str) -> None:
    """Admit no further host. Hosts in flight finish their journey, and the kernel can still be condemned."""
    _ask(session, name, "pause", remark)


@click.command(
    "resume",
    short_help="Go on after a pause.",
    epilog=examples("kernroll rollout resume swap-table-phase3 --watch"),
)
@_NAME
@_REMARK
@watch_options
@calls
@click.pass_context
def resume(
    ctx: click.Context, session: Session, /, *, name: str, remark: str, watch: bool, until: str, timeout: float
) -> None:
    """Go on after a pause. Hosts whose rig failed are left out of their wave; `retry` sends them again instead.

    The checks of the open wave are asked again.
    """
    _ask(session, name, "resume", remark, watch=(ctx, until, timeout, "promoted") if watch else None)


@click.command(
    "promote",
    short_help="Go on to the next wave: past an approval, a hold, or to all waves at once.",
    epilog=examples(
        """
kernroll rollout promote swap-table-phase3
kernroll rollout promote swap-table-phase3 --skip --remark 'claim checked by hand on two hosts'
kernroll rollout promote swap-table-phase3 --full --remark 'security fix, canaries are well'
"""
    ),
)
@_NAME
@click.option("--skip", is_flag=True, help="Go past a wave that the gate held, or past its checks; needs --remark.")
@click.option("--full", is_flag=True, help="Open all waves at once, within the budget; needs --remark.")
@_REMARK
@watch_options
@calls
@click.pass_context
def promote(ctx: click.Context, session: Session, /, **given: Any) -> None:
    """Go on to the next wave.

    Without options: approve a wave that awaits approval, or resume. --skip goes on although the gate held the wave or
    its checks have not passed, --full opens all waves that are left at once, once a wave has been judged. Both stay on
    record with their remark.
    """
    watch = (ctx, given["until"], given["timeout"], "promoted") if given["watch"] else None
    options = {"full": given["full"], "skip": given["skip"]}
    _ask(session, given["name"], "promote", given["remark"], watch=watch, **options)


@click.command(
    "approve",
    short_help="Approve the wave that awaits it.",
    epilog=examples("kernroll rollout approve swap-table-phase3 --remark 'canaries look well'"),
)
@_NAME
@_REMARK
@calls
def approve(session: Session, name: str, remark: str) -> None:
    """Give one of the approvals that the open wave needs (spec.waves[].approvals); each person counts once."""
    _ask(session, name, "approve", remark)


@click.command(
    "retry",
    short_help="Send hosts whose rig failed on their way again.",
    epilog=examples(
        """
kernroll rollout retry swap-table-phase3
kernroll rollout retry swap-table-phase3 web-17 web-18 --remark 'disks replaced'
"""
    ),
)
@_NAME
@click.argument("hosts", nargs=-1, metavar="[HOST]...")
@_REMARK
@watch_options
@calls
@click.pass_context
def retry(ctx: click.Context, session: Session, /, **given: Any) -> None:
    """Send hosts whose rig failed on their way again, all of them without HOST, and go on if the rollout is paused.

    A host that speaks against the kernel is never tried again.
    """
    watch = (ctx, given["until"], given["timeout"], "promoted") if given["watch"] else None
    _ask(session, given["name"], "retry", given["remark"], watch=watch, hosts=given["hosts"])


@click.command(
    "skip",
    short_help="Leave hosts out whose turn has not come.",
    epilog=examples("kernroll rollout skip swap-table-phase3 db-1 db-2 --remark 'end of quarter'"),
)
@_NAME
@click.argument("hosts", nargs=-1, required=True, metavar="HOST...")
@_REMARK
@calls
def skip(session: Session, name: str, hosts: tuple[str, ...], remark: str) -> None:
    """Leave hosts out whose turn has not come: they stay on their kernel."""
    _ask(session, name, "skip", remark, hosts=hosts)


@click.command(
    "abort",
    short_help="Start nothing new and bring hosts in flight back.",
    epilog=examples("kernroll rollout abort swap-table-phase3 --remark 'wrong kernel'"),
)
@_NAME
@_REMARK
@watch_options
@calls
@click.pass_context
def abort(
    ctx: click.Context, session: Session, /, *, name: str, remark: str, watch: bool, until: str, timeout: float
) -> None:
    """Start nothing new, bring hosts in flight back, and leave finished hosts on the new kernel."""
    _ask(session, name, "abort", remark, watch=(ctx, until, timeout, "aborted") if watch else None)


@click.command(
    "revert",
    short_help="Return every touched host to its former kernel.",
    epilog=examples(
        """
kernroll rollout revert swap-table-phase3 --watch
kernroll rollout revert swap-table-phase3 --emergency --remark 'data loss'
"""
    ),
)
@_NAME
@click.option(
    "--emergency",
    is_flag=True,
    help="All hosts at once, without regard to the disruption budget; also hastens a revert that is under way.",
)
@_REMARK
@watch_options
@calls
@click.pass_context
def revert(ctx: click.Context, session: Session, /, **given: Any) -> None:
    """Return every touched host to its former kernel, finished hosts too, within the disruption budget."""
    watch = (ctx, given["until"], given["timeout"], "reverted") if given["watch"] else None
    _ask(session, given["name"], "revert", given["remark"], watch=watch, emergency=given["emergency"])


@click.command(
    "check",
    short_help="Say whether a manual check of the open wave passes.",
    epilog=examples(
        """
kernroll rollout check swap-table-phase3 database-team --pass --remark 'replicas are in step'
kernroll rollout check swap-table-phase3 database-team --fail --remark 'replication lags on db-7'
"""
    ),
)
@_NAME
@click.argument("check", metavar="CHECK")
@click.option("--pass/--fail", "passed", default=None, help="What the check says; one of the two is needed.")
@_REMARK
@calls
def check(session: Session, /, *, name: str, check: str, passed: bool | None, remark: str) -> None:
    """Say whether a manual check (spec.checks[].manual) of the open wave passes; who said so is recorded."""
    if passed is None:
        raise click.UsageError("say --pass or --fail")
    with session.client() as client:
        after = client.report_check(name, check, passed=passed, remark=remark)
    show_rollout(session, after)


COMMANDS = (pause, resume, promote, approve, check, retry, skip, abort, revert)

# The command, until when it is watched, the timeout in seconds, and the state that counts as success.
_Watch = tuple[click.Context, str, float, str]


def _ask(session: Session, name: str, verb: str, remark: str, *, watch: _Watch | None = None, **options: Any) -> None:
    # Not before it is needed: the help must not wait for it.
    from controller.domain.record.control import Verb

    with session.client() as client:
        after = client.control_rollout(name, Verb(verb), remark, **options)
    if watch is None:
        show_rollout(session, after)
        return
    ctx, until, timeout_s, wanted = watch
    ctx.exit(follow(session, name, until=until, timeout_s=timeout_s, wanted=wanted))
