"""`kernroll lab`: a local fleet of real virtual machines with real kernels, and the demonstration on it."""

import os
from pathlib import Path
from typing import Any

import click

from controller.cli.session import DURATION, Session, calls, default_state_dir, examples

_ARCHITECTURES = ("x86_64", "arm64")


def default_fleet_dir() -> Path:
    """Return where the lab's machines live unless told otherwise: where the local controller looks for them."""
    return default_state_dir() / "fleet"


@click.group()
def lab() -> None:
    """Run a local fleet of real virtual machines."""


_FLEET_DIR = click.option(
    "--fleet-dir",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Where the machines live. [default: the local controller's]",
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
"""
    ),
)
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
@_FLEET_DIR
@calls
def up(session: Session, fleet_dir: Path | None, **options: Any) -> None:
    """Build what is missing, start the machines, and wait until their agents have joined the controller."""
    from controller.cli.lab import fleet as lab_fleet

    lab_fleet.bring_up(session, fleet_dir or default_fleet_dir(), lab_fleet.FleetOptions(**options))


@lab.command(
    "status",
    short_help="Show what every machine runs and how its last boot ended.",
    epilog=examples("kernroll lab status\nkernroll lab status --output json"),
)
@_FLEET_DIR
@calls
def status(session: Session, fleet_dir: Path | None) -> None:
    """Show every machine: what it runs, what boots next, how its last boots ended."""
    from controller.cli.lab import fleet as lab_fleet

    lab_fleet.show_status(session, fleet_dir or default_fleet_dir())


@lab.command("down", epilog=examples("kernroll lab down\nkernroll lab down --remove"))
@click.option("--remove", is_flag=True, help="Delete the machines' directories too.")
@_FLEET_DIR
@calls
def down(session: Session, fleet_dir: Path | None, remove: bool) -> None:
    """Switch all machines off."""
    from controller.cli.lab import fleet as lab_fleet

    lab_fleet.take_down(session, fleet_dir or default_fleet_dir(), remove=remove)


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
