"""A machine that is reached by ssh, boots by GRUB, and has Debian's own apt and the running kernel's package."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from boot_program_put import put_boot_program
from crafted_kernels import CraftedKernel, crafted_kernel
from grub_machine import RUNNING, grub_machine
from ssh_machine import SshMachine, ssh_machine

KERNEL = "ab" * 32
_PACKAGES = """
mkdir -p /sys/module
mkdir -p /var/lib/dpkg/info /var/lib/dpkg/updates /var/lib/dpkg/triggers /var/lib/apt/lists/partial /var/log/apt
mkdir -p /var/cache/apt/archives/partial /etc/dpkg/dpkg.cfg.d
: > /var/lib/dpkg/status
: > /var/lib/dpkg/available
"""


@contextmanager
def packaged_machine(directories: pytest.TempPathFactory) -> Iterator[SshMachine]:
    """Yield one; what its files are now it can be brought back to (`machine.restore()`)."""
    directory = directories.mktemp("ssh")
    with grub_machine(directories.mktemp("machine")) as machine, ssh_machine(machine, directory) as made:
        machine.sh(_PACKAGES)
        put_boot_program(machine, directory)
        own = crafted_kernel(directory, RUNNING)
        machine.run("cp", str(own.path), f"{machine.root}/opt/own.deb")
        machine.sh("dpkg -i /opt/own.deb")
        machine.keep()
        yield made


def staging(kernel: CraftedKernel, **changed: Any) -> Mapping[str, Any]:
    """Return the variables with which stage.yml installs a kernel."""
    return {
        "kernroll_command_id": "u/a/1.stage.0",
        "kernroll_kernel": KERNEL,
        "kernroll_release": kernel.release,
        "kernroll_packages": [kernel.package],
        "kernroll_image_sha256": kernel.image_sha256,
        **changed,
    }
