"""`kernroll hosts rehearse`: proves that hosts come back by themselves."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from controller.cli.exit_codes import ExitCode
from controller.cli.hosts.chosen import FORKS_HELP, chosen_hosts, tell_end
from controller.cli.session import DURATION, HOST_NAME, Session, calls, examples

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from controller.views.hosts.rehearsing import RehearsalView

_INVENTORY_TIMEOUT_S = 60.0


@click.command(
    "rehearse",
    short_help="Prove that hosts come back by themselves, by rebooting them.",
    epilog=examples(
        """
kernroll hosts rehearse -i inventory.yaml canary-1
kernroll hosts rehearse -i inventory.yaml --limit berlin --at-a-time 5 --wait 30m
kernroll hosts rehearse -i inventory.yaml -o json | jq -r '.hosts[] | select(.outcome != "proven").name'
kernroll hosts list --where '!boot_proven' -o json | jq -r '.hosts[].name' |
  xargs -r kernroll hosts rehearse -i inventory.yaml
"""
    ),
)
@click.argument("names", metavar="[HOST]…", type=HOST_NAME, nargs=-1)
@click.option("-i", "--inventory", type=click.Path(path_type=Path), required=True, help="What Ansible reads.")
@click.option("--limit", metavar="PATTERN,…", help="Only these hosts and groups; * and ? stand for any letters.")
@click.option(
    "--at-a-time", type=click.IntRange(1, 500), default=1, show_default=True, help="Hosts that reboot at one time."
)
@click.option("--forks", type=click.IntRange(1, 500), default=20, show_default=True, help=FORKS_HELP)
@click.option("--wait", type=DURATION, default="15m", show_default=True, help="For a host, from its reboot.")
@click.option("--keep-going", is_flag=True, help="Go on with the next hosts when one does not come back.")
@calls
def rehearse(session: Session, /, *, names: tuple[str, ...], inventory: Path, **options: Any) -> None:
    """Reboot hosts into their own kernel by the way that a new one will take, over ssh from here.

    Without a proof that it comes back a host is given no kernel. The running kernel becomes the default that installing
    a kernel does not change, boots once as if it were on trial, and must be heard of again by the controller. Hosts
    that a rollout holds are left alone. The first host that does not come back stops the command.
    """
    import asyncio

    from controller.adapters.plays.rehearsing import PLAY_TIMEOUT_S, Rehearsals
    from controller.adapters.plays.runner import Plays
    from controller.adapters.plays.sharding import Together
    from controller.views.hosts.rehearsing import NOT_BEGUN, PROVEN, RehearsalView

    hosts = chosen_hosts(inventory, limit=options["limit"], names=names, timeout_s=_INVENTORY_TIMEOUT_S)
    with session.client() as client:
        found = _refused(hosts, {host.name: host for host in client.list_hosts()})
        free = [host for host in hosts if host not in found]
        forks = options["forks"]
        rehearsals = Rehearsals(
            # One process for hosts that are asked the same at one moment.
            plays=Together(plays=Plays(inventory, forks=forks), timeout_s=PLAY_TIMEOUT_S, forks=forks),
            look=client.get_host,
            told=_tell,
            wait_s=options["wait"],
        )
        interrupted = False
        try:
            asyncio.run(
                rehearsals.all_of(free, at_a_time=options["at_a_time"], keep_going=options["keep_going"], found=found)
            )
        except KeyboardInterrupt:
            interrupted = True
    for host in hosts:
        found.setdefault(host, RehearsalView(name=host, outcome=NOT_BEGUN, sentence="the command was interrupted"))
    _show(session, [found[host] for host in hosts])
    left = [host for host in hosts if found[host].outcome != PROVEN]
    tell_end(len(hosts), left, done="proven", again=f"kernroll hosts rehearse -i {inventory}")
    if left or interrupted:
        click.get_current_context().exit(ExitCode.INTERRUPTED if interrupted else ExitCode.FAILURE)


def _refused(hosts: "Sequence[str]", known: "Mapping[str, Any]") -> "dict[str, RehearsalView]":
    """Return the hosts that are not touched, and why: told before the first one goes down."""
    from controller.views.hosts.rehearsing import NOT_REBOOTED, RehearsalView, objection

    found = {}
    for host in hosts:
        if why := objection(host, known.get(host)):
            found[host] = RehearsalView(name=host, outcome=NOT_REBOOTED, sentence=why)
            _tell(host, f"{NOT_REBOOTED}: {why}")
    return found


def _tell(host: str, sentence: str) -> None:
    click.echo(f"{host}: {sentence}", err=True)


def _show(session: Session, found: "Sequence[RehearsalView]") -> None:
    from controller.cli import output

    if session.output == "json":
        output.show_json({"hosts": found})
        return
    rows = [
        output.cells(
            one.name,
            one.outcome,
            f"{one.seconds:.0f}" if one.seconds else "",
            f"by {one.boots_by}" if one.boots_by else one.sentence,
        )
        for one in found
    ]
    output.show_rows(("HOST", "OUTCOME", "SECONDS", "PROOF, OR WHAT TO DO"), rows, right=frozenset({"SECONDS"}))
