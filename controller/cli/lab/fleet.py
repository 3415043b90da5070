"""What `kernroll lab up`, `status` and `down` do, with what they show."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from controller.adapters.local.cache import Cache
from controller.adapters.rpc.operator_client import OperatorClient
from controller.cli import output
from controller.cli.preparation import shown_progress
from controller.cli.session import Session
from controller.domain.errors import Conflict, NotFound, Temporary
from controller.domain.kernels import DebianKernel
from controller.lab.fleet import (
    Connection,
    Prepared,
    create_guest,
    fleet_status,
    guest_directories,
    key_file,
    prepare,
    switch_off,
    switch_on,
)
from controller.lab.guests import DEFAULT_MEMORY_MIB, Channel, GuestPlan, available_memory_mib, plan_guests
from controller.lab.joining import Joining, Sign, sign_of
from controller.words import are, count_text, names_text

_TOKEN_VALID_S = 3600.0
_LOOK_EVERY_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetOptions:
    """What was asked of `lab up`."""

    x86_64: int
    arm64: int
    kernel: str
    flavour: str
    # None takes the default.
    memory: int | None
    with_tools: bool
    # None follows from the kernel.
    channel: Channel | None
    enroll_port: int
    wait: float


def bring_up(session: Session, fleet_dir: Path, options: FleetOptions) -> None:
    """Make the machines that are missing, start all, wait for their agents."""
    with session.client() as client:
        client.list_hosts()  # no machine is made for a controller that does not answer
        existing = guest_directories(fleet_dir)
        if existing:
            count = count_text(len(existing), "machine")
            output.show(f"{count} already in {fleet_dir}, with the kernel and memory they have; starting what is off")
            switch_on(existing)
            wait_for_agents(client, existing, options.wait, output.show)
            return
        plan = plan_fleet(options.x86_64, options.arm64, options.memory)
        _refuse_strangers(client, plan, fleet_dir)
        output.show(plan.message)
        cache = Cache.from_environment()
        flavour = "" if options.flavour == "generic" else options.flavour
        with shown_progress() as progress:
            prepared = prepare(
                cache,
                architectures(plan),
                lambda _: DebianKernel(version=options.kernel, flavour=flavour),
                progress,
                workloads=options.with_tools,
            )
        port = int(session.address.rpartition(":")[2])
        channel = options.channel or natural_channel(prepared)
        token = client.create_join_token(uses=len(plan.guests), valid_s=_TOKEN_VALID_S).token
        connection = Connection(agent_port=port, enroll_port=options.enroll_port, join_token=token, channel=channel)
        start_fleet(cache, fleet_dir, plan, prepared, connection)
        wait_for_agents(client, guest_directories(fleet_dir), options.wait, output.show)


def _refuse_strangers(client: OperatorClient, plan: GuestPlan, fleet_dir: Path) -> None:
    """Raise Conflict when the controller knows one of the names from elsewhere: it would never let the guest join."""
    enrolled = {host.name for host in client.list_hosts()}
    taken = [guest.name for guest in plan.guests if guest.name in enrolled and not key_file(fleet_dir, guest).exists()]
    if taken:
        raise Conflict(
            f"{names_text(taken)} {are(len(taken))} enrolled at this controller by another fleet: give --fleet-dir "
            "that fleet's directory, or start a controller with another --state-dir"
        )


def plan_fleet(x86_64: int, arm64: int, memory_mib: int | None) -> GuestPlan:
    """Fit the fleet into this machine's free memory."""
    available = available_memory_mib(Path("/proc/meminfo").read_text(encoding="utf-8"))
    return plan_guests({"x86_64": x86_64, "arm64": arm64}, memory_mib or DEFAULT_MEMORY_MIB, available)


def architectures(plan: GuestPlan) -> tuple[str, ...]:
    """Return the architectures of a fleet, sorted."""
    return tuple(sorted({guest.architecture for guest in plan.guests}))


def natural_channel(prepared: Prepared) -> Channel:
    """A kernel with modules has a network card; one without talks over a serial port."""
    return "network" if all("modules" in kernel.files for kernel in prepared.kernels.values()) else "serial"


def start_fleet(cache: Cache, fleet_dir: Path, plan: GuestPlan, prepared: Prepared, connection: Connection) -> None:
    """Make and start every machine of a plan."""
    directories = [create_guest(cache, fleet_dir, guest, prepared, connection) for guest in plan.guests]
    for directory, guest in zip(directories, plan.guests, strict=True):
        kernel = prepared.kernels[guest.architecture]
        how = "hardware virtualisation" if prepared.accelerators[guest.architecture] == "kvm" else "emulated"
        output.show(f"  {directory.name}: {kernel.release}, {guest.memory_mib} MiB, {how}")
    switch_on(directories)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """What waiting needs of the world."""

    sign_of: Callable[[Path], Sign] = sign_of
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


_HERE = Outside()


def wait_for_agents(
    client: OperatorClient, machines: list[Path], quiet_s: float, say: Callable[[str], None], outside: Outside = _HERE
) -> None:
    """Return when the agent of every machine, by its directory, is connected.

    Waits for as long as those that are missing get on: raises Temporary, with what became of each, when none of them
    has shown anything new for `quiet_s`, when they start again and again, and after a multiple of it in any case.
    """
    joining = Joining(missing={one.name for one in machines}, quiet_s=quiet_s, began=outside.monotonic())
    while True:
        connected = {host.name: host for host in client.list_hosts() if host.connected}
        now = outside.monotonic()
        for name in sorted(joining.missing & connected.keys()):
            say(f"  {name} joined after {now - joining.began:.0f} s, running {connected[name].facts.kernel_release}")
        signs = {one.name: outside.sign_of(one) for one in machines if one.name not in connected}
        given_up = joining.look(now, connected, signs)
        if not joining.missing:
            return
        if given_up:
            outcomes = "; ".join(f"{name} {why}" for name, why in given_up.items())
            raise Temporary(
                f"no agent has joined from {', '.join(given_up)}: {outcomes}. See `kernroll lab status` and "
                "the consoles below the machines' directories (boots/*/console.log)"
            )
        outside.sleep(_LOOK_EVERY_S)


def show_status(session: Session, fleet_dir: Path) -> None:
    """Print every machine of the fleet."""
    machines = fleet_status(fleet_dir)
    if session.output == "json":
        output.show_json([_as_data(machine) for machine in machines])
        return
    if not machines:
        raise NotFound(f"no machines in {fleet_dir}: `kernroll lab up` makes some")
    table = output.plain_table(
        "MACHINE", "STATE", "RUNS", "DEFAULT", "ARMED", "BOOTS", "LAST BOOT", right=frozenset({"BOOTS"})
    )
    for machine in machines:
        one = machine.delivery
        last = one.boots[-1] if one.boots else None
        ended = f"{last.cause.value}, {last.end.value if last.end else 'running'}" if last else None
        state = "on" if machine.switched_on else "off"
        supervised = state if machine.supervisor_pid or state == "off" else "on, no supervisor"
        running, default, armed = (
            machine.releases.get(digest or "", digest) for digest in (one.running, one.default, one.armed)
        )
        default = "the same" if one.default == one.running else default
        table.add_row(*output.cells(one.host, supervised, running, default, armed, last.number if last else 0, ended))
    output.show(table)


def _as_data(machine: object) -> object:
    from dataclasses import asdict

    return asdict(machine)  # type: ignore[call-overload]  # a dataclass instance


def take_down(session: Session, fleet_dir: Path, *, remove: bool) -> None:
    """Switch all machines off."""
    names = switch_off(fleet_dir, remove=remove)
    if session.output == "json":
        output.show_json({"stopped": list(names), "removed": remove})
    else:
        output.show(
            f"switched off {', '.join(names) or 'nothing'}" + (", directories removed" if remove and names else "")
        )
