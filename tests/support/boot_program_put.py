"""kernroll-boot on a machine of files, as an enrolment would leave it."""

from pathlib import Path

from grub_machine import GrubMachine

from controller.adapters.plays.bundle import write_boot_program


def put_boot_program(machine: GrubMachine, directory: Path) -> None:
    """Install the program; `directory` is a place for what is made on the way."""
    write_boot_program(directory / "kernroll-boot")
    machine.run("cp", "-r", str(directory / "kernroll-boot"), f"{machine.root}/usr/local/lib/kernroll-boot")
    machine.sh("ln -s /usr/local/lib/kernroll-boot/bin/kernroll-boot /usr/local/sbin/kernroll-boot")
