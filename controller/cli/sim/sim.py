"""`kernroll sim`: a rollout on a simulated fleet, before the real one."""

from functools import partial
from typing import TYPE_CHECKING

import click

from controller.cli.exit_codes import ExitCode
from controller.cli.session import ROLLOUT_FILE, Session, calls, examples, read_spec
from controller.domain.errors import InvalidInput

if TYPE_CHECKING:
    from controller.sim.case import Case

_MOST_HOSTS = 100_000
_MOST_SEEDS = 10_000_000


@click.command(
    "sim",
    epilog=examples(
        """
kernroll sim rollout.yaml --hosts 5000 --faults faults.yaml
kernroll sim rollout.yaml --hosts 500 --faults faults.yaml --seeds 200
kernroll sim --hosts 20 --seed 4711
"""
    ),
)
@click.argument("rollout", type=ROLLOUT_FILE, required=False)
@click.option("--hosts", type=click.IntRange(1, _MOST_HOSTS), default=100, show_default=True, help="Size of the fleet.")
@click.option("--faults", metavar="FILE", type=ROLLOUT_FILE, help="What goes wrong.  [default: nothing]")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="The same seed gives the same run.")
@click.option(
    "--seeds",
    type=click.IntRange(1, _MOST_SEEDS),
    default=1,
    show_default=True,
    help="Run so many seeds from --seed on.",
)
@click.option("--without", metavar="FAULT", multiple=True, help="Leave a fault out, for example hosts.dead_disk.")
@click.option("--calm-after", metavar="COMMITS", type=click.IntRange(1), help="No incident after so many commits.")
@click.option("--then", metavar="VERB", help="What the operator does when the rollout has paused, for example revert.")
@click.option("--jobs", type=click.IntRange(1, 256), help="Processes for --seeds.  [default: one a processor]")
@click.pass_context
@calls
def sim(
    session: Session,
    ctx: click.Context,
    *,
    rollout: str | None,
    hosts: int,
    faults: str | None,
    seed: int,
    seeds: int,
    without: tuple[str, ...],
    calm_after: int | None,
    then: str | None,
    jobs: int | None,
) -> None:
    """Try a rollout on a simulated fleet: the controller's own code over made-up hosts, in virtual time.

    Needs no controller. Without a rollout file, rollout and faults are drawn from the seed, as the project's own tests
    draw them. Ends with code 1 when kernroll itself breaks one of its rules; then it prints the smallest case it finds.
    """
    from controller.cli.sim.simulation import SimulatedRuns
    from controller.sim.cases import drawn, prepared
    from controller.sim.faults.parse import Faults, parse_faults
    from controller.sim.operators import ROLLOUT_VERBS, VERBS

    if then and then not in ROLLOUT_VERBS:
        raise InvalidInput(f"--then {then}: no such verb; there are {', '.join(ROLLOUT_VERBS)}")
    make: partial[Case]
    if rollout is None:
        if faults is not None:
            raise InvalidInput("--faults needs a rollout file; without one, the faults are drawn from the seed")
        make = partial(drawn, hosts=hosts, without=without, calm_after=calm_after, then=then)
    else:
        given = parse_faults(*read_spec(faults), VERBS) if faults is not None else Faults()
        text, name = read_spec(rollout)
        make = prepared(text, name, hosts=hosts, faults=given.without(without), calm_after=calm_after, then=then or "")
    files = " ".join(filter(None, (rollout, f"--faults {faults}" if faults else "")))
    runs = SimulatedRuns(session, make, files)
    broken = runs.one(str(seed)) if seeds == 1 else runs.many(seed, seeds, jobs)
    ctx.exit(ExitCode.FAILURE if broken else ExitCode.OK)
