"""What `kernroll lab up`, `status` and `down` do with machines that start from their own disks."""

import time
from dataclasses import dataclass
from pathlib import Path

import click

from controller.adapters.local.cache import Cache
from controller.cli import output
from controller.cli.preparation import shown_progress
from controller.cli.session import Session
from controller.domain.errors import NotFound, Temporary
from controller.lab.full.fleet import INVENTORY, known_machines, make_machines, require_memory
from controller.lab.full.machine import CONTROLLER_ADDRESS, FullMachine, Hardware
from controller.lab.full.shapes import DEFAULT_SHAPE
from controller.lab.guests import available_memory_mib
from controller.words import count_text

_LOOK_EVERY_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FullOptions:
    """What was asked of `lab up --profile full`."""

    # A machine for each; none takes one of the usual shape.
    shapes: tuple[str, ...]
    # None takes the default.
    memory: int | None
    watchdog: bool
    # How long a machine may take until it is reached by ssh, in seconds.
    wait: float


def bring_up(session: Session, fleet_dir: Path, options: FullOptions) -> None:
    """Make the machines that are missing, start all, wait until they are reached, and say how to go on."""
    cache = Cache.from_environment()
    machines = known_machines(cache, fleet_dir)
    if machines:
        _say(f"{count_text(len(machines), 'machine')} already in {fleet_dir}; starting what is off")
    else:
        usual = Hardware()
        hardware = Hardware(memory_mib=options.memory or usual.memory_mib, watchdog=options.watchdog)
        shapes = options.shapes or (DEFAULT_SHAPE,)
        available_mib = available_memory_mib(Path("/proc/meminfo").read_text(encoding="utf-8"))
        require_memory(len(shapes), hardware, available_mib)
        with shown_progress() as progress:
            machines = make_machines(cache, fleet_dir, shapes, hardware, progress)
    for machine in machines:
        if not machine.running():
            machine.start()
    _wait(machines, options.wait)
    if session.output == "json":
        output.show_json({"inventory": str(fleet_dir / INVENTORY), "machines": [_as_data(one) for one in machines]})
        return
    inventory = fleet_dir / INVENTORY
    port = session.address.rpartition(":")[2]
    output.show(f"They are reached as {inventory} says. Next:")
    output.show(f"  kernroll controller serve --inventory {inventory}")
    output.show(f"  kernroll hosts enroll -i {inventory} --controller-address {CONTROLLER_ADDRESS}:{port}")
    output.show(f"  kernroll hosts rehearse -i {inventory}")


def _wait(machines: list[FullMachine], wait_s: float) -> None:
    """Return when every machine is reached by ssh. Raises Temporary, naming the console of one that is not."""
    began = time.monotonic()
    for machine in machines:
        while True:
            left_s = began + wait_s - time.monotonic()
            try:
                machine.wait_for_ssh(max(1.0, min(_LOOK_EVERY_S, left_s)))
            except Temporary as error:
                if left_s > 0:
                    continue
                console = machine.directory / "console.log"
                raise Temporary(f"{machine.name} was not reached within {wait_s:.0f} s: see {console}") from error
            break
        _say(
            f"  {machine.name} ({machine.made_of.shape}) is up after {time.monotonic() - began:.0f} s, "
            f"made with {machine.made_of.release}"
        )


def _say(sentence: str) -> None:
    """Tell a person; what programs read goes to the other stream."""
    click.echo(sentence, err=True)


def show_status(session: Session, fleet_dir: Path) -> None:
    """Print every machine."""
    machines = known_machines(Cache.from_environment(), fleet_dir)
    if session.output == "json":
        output.show_json([_as_data(one) for one in machines])
        return
    if not machines:
        raise NotFound(f"no machines in {fleet_dir}: `kernroll lab up --profile full` makes some")
    table = output.plain_table("MACHINE", "SHAPE", "STATE", "MADE WITH", "SSH", right=frozenset({"SSH"}))
    for one in machines:
        state = "on" if one.running() else "off"
        table.add_row(*output.cells(one.name, one.made_of.shape, state, one.made_of.release, str(one.port)))
    output.show(table)


def _as_data(machine: FullMachine) -> dict[str, object]:
    return {
        "name": machine.name,
        "shape": machine.made_of.shape,
        "state": "on" if machine.running() else "off",
        "release": machine.made_of.release,
        "port": machine.port,
        "console": str(machine.directory / "console.log"),
        "ssh": machine.ssh_command(),
    }


def take_down(session: Session, fleet_dir: Path, *, remove: bool) -> None:
    """Switch all machines off as their administrator would."""
    machines = known_machines(Cache.from_environment(), fleet_dir)
    for machine in machines:
        machine.stop()
    if remove:
        for machine in machines:
            machine.remove()
        (fleet_dir / INVENTORY).unlink(missing_ok=True)
    names = [one.name for one in machines]
    if session.output == "json":
        output.show_json({"stopped": names, "removed": remove})
    else:
        gone = ", directories removed" if remove and names else ""
        output.show(f"switched off {', '.join(names) or 'nothing'}{gone}")
