"""`kernroll lab`: a local fleet of real virtual machines with real kernels, and the demonstration on it."""

import os
from pathlib import Path
from typing import Any

import click

from controller.cli.session import DURATION, Session, calls, default_state_dir, examples

# A whole system takes longer to come up than the lab's own guests, for which --wait has its default.
_FULL_WAITS = 4


def default_fleet_dir() -> Path:
    """Return where the lab's machines live unless told otherwise: where the local controller looks for them."""
    return default_state_dir() / "fleet"


def default_metal_dir() -> Path:
    """Return where the lab's machines live that start from their own disks, unless told otherwise."""
    return default_state_dir() / "metal"


@click.group()
def lab() -> None:
    """Run a local fleet of real virtual machines."""


_FLEET_DIR = click.option(
    "--fleet-dir",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Where the machines live. [default: fleet, or metal, below the local controller's state directory]",
)
_PROFILE = click.option(
    "--profile",
    type=click.Choice(["direct", "full"]),
    default="direct",
    show_default=True,
    help="direct: QEMU starts the kernel. full: whole systems that start from their own disk, by their own loader.",
)


@lab.command(
    "up",
    short_help="Start the machines and wait until their agents have joined.",
    epilog=examples(
        """
kernroll lab up
kernroll lab up --kernel 6.18.15 --x86-64 1 --arm64 0 --memory 2048
kernroll lab up --channel network --kernel 7.3.4
kernroll lab up --kernel 6.18.15 --with-tools --x86-64 1 --arm64 0 --memory 2048
kernroll lab up --profile full --shape x86_64-uefi-grub --shape arm64-uefi-grub
"""
    ),
)
@_PROFILE
@click.option(
    "--x86-64", "x86_64", metavar="N", type=click.IntRange(0, 64), default=2, show_default=True, help="x86_64 machines."
)
@click.option(
    "--arm64", "arm64", metavar="N", type=click.IntRange(0, 64), default=1, show_default=True, help="arm64 machines."
)
@click.option("--kernel", metavar="VERSION", default="7.0.13", show_default=True, help="Debian's kernel to start with.")
@click.option("--flavour", default="cloud", show_default=True, help='"cloud", or "generic".')
@click.option("--memory", metavar="MIB", type=int, help="Memory of each machine. [default: 1536]")
@click.option(
    "--with-tools",
    is_flag=True,
    help="Give the machines what workloads run: valkey, stress-ng, a compiler, some kernel source.",
)
@click.option(
    "--channel",
    type=click.Choice(["serial", "network"]),
    help="How agents reach the controller. [default: network when the kernel has modules, else serial]",
)
@click.option(
    "--enroll-port",
    metavar="PORT",
    type=click.IntRange(1, 65535),
    default=7444,
    show_default=True,
    help="Where the controller enrolls hosts (its --enroll-listen).",
)
@click.option("--wait", type=DURATION, default="5m", show_default=True, help="How long a machine may show nothing new.")
@click.option(
    "--shape",
    "shapes",
    multiple=True,
    metavar="SHAPE",
    help="With --profile full: a machine of this shape: x86_64-bios-grub, x86_64-uefi-grub, x86_64-uefi-systemd-boot "
    "or arm64-uefi-grub. May be given several times. [default: x86_64-bios-grub]",
)
@click.option("--watchdog", is_flag=True, help="With --profile full: give the machines an i6300esb watchdog.")
@_FLEET_DIR
@calls
def up(
    session: Session, fleet_dir: Path | None, profile: str, shapes: tuple[str, ...], watchdog: bool, **options: Any
) -> None:
    """Build what is missing, start the machines, and wait until their agents have joined the controller.

    Machines of the profile full come up as hosts that kernroll has not seen yet: an inventory of them is written, for
    `kernroll hosts enroll`.
    """
    if profile == "full":
        _refuse_given("up", "x86_64", "arm64", "kernel", "flavour", "with_tools", "channel", "enroll_port")
        from controller.cli.lab import full

        wanted = full.FullOptions(
            shapes=shapes, memory=options["memory"], watchdog=watchdog, wait=_FULL_WAITS * options["wait"]
        )
        full.bring_up(session, fleet_dir or default_metal_dir(), wanted)
        return
    _refuse_given("up", "shapes", "watchdog")
    from controller.cli.lab import fleet as lab_fleet

    lab_fleet.bring_up(session, fleet_dir or default_fleet_dir(), lab_fleet.FleetOptions(**options))


@lab.command(
    "status",
    short_help="Show what every machine runs and how its last boot ended.",
    epilog=examples("kernroll lab status\nkernroll lab status --profile full --output json"),
)
@_PROFILE
@_FLEET_DIR
@calls
def status(session: Session, fleet_dir: Path | None, profile: str) -> None:
    """Show every machine: what it runs, what boots next, how its last boots ended."""
    if profile == "full":
        from controller.cli.lab import full

        full.show_status(session, fleet_dir or default_metal_dir())
        return
    from controller.cli.lab import fleet as lab_fleet

    lab_fleet.show_status(session, fleet_dir or default_fleet_dir())


@lab.command("down", epilog=examples("kernroll lab down --remove\nkernroll lab down --profile full"))
@click.option("--remove", is_flag=True, help="Delete the machines' directories too.")
@_PROFILE
@_FLEET_DIR
@calls
def down(session: Session, fleet_dir: Path | None, profile: str, remove: bool) -> None:
    """Switch all machines off."""
    if profile == "full":
        from controller.cli.lab import full

        full.take_down(session, fleet_dir or default_metal_dir(), remove=remove)
        return
    from controller.cli.lab import fleet as lab_fleet

    lab_fleet.take_down(session, fleet_dir or default_fleet_dir(), remove=remove)


def _refuse_given(command: str, *names: str) -> None:
    """Raise UsageError when an option was given that the profile does not have."""
    context = click.get_current_context()
    options = {one.name: one for one in context.command.params}
    for name in names:
        if context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT:
            other = "direct" if context.params["profile"] == "full" else "full"
            raise click.UsageError(f"{options[name].opts[0]} belongs to `lab {command} --profile {other}`")


@lab.command(
    "demo",
    short_help="See one kernel promoted and one reverted, in one command.",
    epilog=examples("kernroll lab demo\nkernroll lab demo --kernels 6.18.15:7.3.4\nkernroll lab demo --keep"),
)
@click.option("--kernels", metavar="OLD:NEW", default="7.0.13:7.1.13", show_default=True, help="Debian's versions.")
@click.option(
    "--x86-64", "x86_64", metavar="N", type=click.IntRange(0, 16), default=2, show_default=True, help="x86_64 machines."
)
@click.option(
    "--arm64", "arm64", metavar="N", type=click.IntRange(0, 16), default=1, show_default=True, help="arm64 machines."
)
@click.option(
    "--repetitions",
    metavar="N",
    type=click.IntRange(1, 50),
    default=2,
    show_default=True,
    help="Measured runs per kernel.",
)
@click.option(
    "--dir",
    "directory",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Where controller, machines and reports live. [default: demo below the state directory]",
)
@click.option("--keep", is_flag=True, help="Leave the controller and the machines running afterwards.")
def demo(directory: Path | None, **options: Any) -> int:
    """Roll a kernel that saves memory, see it promoted; roll one that panics, see it reverted; print the report."""
    from controller.cli.lab import demonstration

    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    return demonstration.run(directory or default_state_dir() / "demo", demonstration.DemoOptions(**options))
