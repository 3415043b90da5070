"""`kernroll hosts enroll`: puts kernroll on the hosts of an inventory."""

import re
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from controller.cli.exit_codes import ExitCode
from controller.cli.hosts.chosen import FORKS_HELP, chosen_hosts, tell_end
from controller.cli.session import DURATION, Session, calls, examples
from controller.domain.errors import InvalidInput

if TYPE_CHECKING:
    from controller.adapters.plays.outcomes import HostOutcome, PlayEvent

_POLL_S = 2.0
# Of no more than so many hosts every task is told.
_FEW = 20
# Longer than any enrolling takes, and no longer: it is a secret.
_TOKEN_SPARE_S = 600.0


@click.command(
    "enroll",
    short_help="Put kernroll on the hosts of an Ansible inventory.",
    epilog=examples(
        """
kernroll hosts enroll -i inventory.yaml --controller-address 10.0.0.5:7443
kernroll hosts enroll -i inventory.yaml --limit 'canary-*,berlin' --forks 50
kernroll hosts enroll -i inventory.yaml --output json | jq -r '.hosts[] | select(.done | not).name'
"""
    ),
)
@click.option("-i", "--inventory", type=click.Path(path_type=Path), required=True, help="What Ansible reads.")
@click.option("--limit", metavar="PATTERN,…", help="Only these hosts and groups; * and ? stand for any letters.")
@click.option("--forks", type=click.IntRange(1, 500), default=20, show_default=True, help=FORKS_HELP)
@click.option("--controller-address", metavar="HOST:PORT", help="Where hosts reach it. [default: that of --controller]")
@click.option("--enroll-address", metavar="HOST:PORT", help="Where hosts enroll. [default: the same host, next port]")
@click.option("--timeout", type=DURATION, default="30m", show_default=True, help="For the plays of each 500 hosts.")
@click.option("--wait", type=DURATION, default="3m", show_default=True, help="For the controller to hear every host.")
@calls
def enroll(session: Session, /, *, inventory: Path, limit: str | None, **options: Any) -> None:
    """Install kernroll-boot and the agent on hosts, over ssh from here, and start them.

    A host's name in the inventory becomes its name. Hosts that are enrolled keep their settings and get the newer
    programs. The table at the end says what speaks against giving a host kernels, and what to do about it.
    """
    import asyncio

    from controller.adapters.local.cache import Cache, no_progress
    from controller.adapters.plays.enrolling import SHARDS_AT_A_TIME, Enrolling
    from controller.adapters.plays.runner import Plays
    from controller.adapters.plays.sharding import MOST_HOSTS

    addresses = _addresses(session.address, options["controller_address"], options["enroll_address"])
    hosts = chosen_hosts(inventory, limit=limit, timeout_s=options["timeout"])
    # What shards that play at one time may have together.
    forks = options["forks"] if len(hosts) <= MOST_HOSTS else max(1, options["forks"] // SHARDS_AT_A_TIME)
    interrupted = False
    with session.client() as client:

        def make_token(uses: int) -> str:
            return client.create_join_token(uses=uses, valid_s=options["timeout"] + _TOKEN_SPARE_S).token

        enrolling = Enrolling(
            plays=Plays(inventory, forks=forks),
            cache=Cache.from_environment(),
            addresses=addresses,
            make_token=make_token,
            timeout_s=options["timeout"],
            told=_Teller(len(hosts)),
            progress=no_progress,
        )
        try:
            asyncio.run(enrolling.enroll(hosts))
            wait_s = options["wait"]
        except KeyboardInterrupt:
            interrupted, wait_s = True, 0.0
        found = enrolling.found
        heard = _heard(client, [host for host, outcome in found.items() if outcome.done], wait_s)
    _show(session, found, heard)
    left = [host for host in hosts if host not in heard]
    tell_end(len(hosts), left, done="are enrolled and heard", again=f"kernroll hosts enroll -i {inventory}")
    if left or interrupted:
        click.get_current_context().exit(ExitCode.INTERRUPTED if interrupted else ExitCode.FAILURE)


class _Teller:
    """Tells on standard error how hosts get on: every task of a few, of many only what failed and who came through."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._answered: dict[str, int] = {}

    def __call__(self, event: "PlayEvent") -> None:
        from controller.adapters.plays.outcomes import ANSWERING_TASK, CHANGED, OK

        if event.status == "skipped":
            return
        count = ""
        if self._total > _FEW:
            if event.status in (OK, CHANGED) and event.task != ANSWERING_TASK:
                return
            # The first answer is that of the look, the second that of enrolling.
            times = self._answered[event.host] = self._answered.get(event.host, 0) + 1
            through = sum(1 for one in self._answered.values() if one > 1)
            if event.status in (OK, CHANGED) and times == 1:
                return
            count = f"[{through}/{self._total}] "
        told = f": {event.sentence}" if event.sentence else ""
        click.echo(f"{count}{event.host}: {event.task}: {event.status} ({event.seconds:.0f} s){told}", err=True)


def _addresses(called: str, controller: str | None, enrolling: str | None) -> tuple[str, str]:
    """Return where hosts reach the controller and enroll. Raises InvalidInput for what only this machine reaches."""
    address = controller or called
    host, colon, port = address.rpartition(":")
    if not colon or not host or not re.fullmatch("[0-9]{1,5}", port):
        raise InvalidInput(f"{address!r} is no HOST:PORT, such as 10.0.0.5:7443")
    if controller is None and _is_loopback(host):
        raise InvalidInput(
            f"hosts do not reach the controller at {called}: say where with --controller-address HOST:PORT"
        )
    return address, enrolling or f"{host}:{int(port) + 1}"


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _heard(client: Any, hosts: Sequence[str], wait_s: float) -> frozenset[str]:
    """Return the hosts that the controller is connected to, after waiting for all of them."""
    import time

    give_up = time.monotonic() + wait_s
    while True:
        heard = frozenset(host.name for host in client.list_hosts() if host.connected) & frozenset(hosts)
        if len(heard) == len(hosts) or time.monotonic() >= give_up:
            return heard
        time.sleep(_POLL_S)


def _show(session: Session, found: "Mapping[str, HostOutcome]", heard: frozenset[str]) -> None:
    from controller.cli import output

    rows: list[dict[str, Any]] = []
    for host, outcome in found.items():
        refusals = [one for one in outcome.answer.get("refusals", ()) if isinstance(one, Mapping)]
        if outcome.done:
            before = "enrolled before" if outcome.answer.get("enrolled") else "enrolled"
            told = before if host in heard else "installed, and not heard of yet"
        else:
            told = outcome.sentence
        rows.append({"name": host, "done": host in heard, "outcome": told, "refusals": refusals})
    if session.output == "json":
        output.show_json({"hosts": rows})
        return
    said = [
        output.cells(
            row["name"],
            row["outcome"],
            "; ".join(f"{one.get('cause')} ({one.get('remedy')})" for one in row["refusals"])
            or ("nothing" if row["done"] else ""),
        )
        for row in rows
    ]
    output.show_rows(("HOST", "OUTCOME", "AGAINST GIVING IT KERNELS"), said)
