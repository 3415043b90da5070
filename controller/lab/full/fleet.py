"""Machines that stay on from one command to the next: a directory each, and an inventory of all beside them."""

import io
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ruamel.yaml import YAML

from controller.adapters.local.cache import Cache, Progress
from controller.adapters.local.named_files import write_file
from controller.domain.errors import InvalidInput
from controller.lab.full.image import prepare_disk
from controller.lab.full.machine import FullMachine, Hardware, known_machine, open_machine
from controller.lab.full.shapes import shape_named
from controller.lab.toolset import prepare_toolset

# What QEMU itself needs beside a machine's memory, and what is left to this machine.
_OVERHEAD_MIB = 200
_RESERVE_MIB = 1024
_PREFIX = "metal-"
INVENTORY = "inventory.yaml"


def require_memory(count: int, hardware: Hardware, available_mib: int) -> None:
    """Raise InvalidInput when this machine has no memory for so many."""
    needed_mib = count * (hardware.memory_mib + _OVERHEAD_MIB) + _RESERVE_MIB
    if needed_mib > available_mib:
        raise InvalidInput(
            f"{count} machines of {hardware.memory_mib} MiB take {needed_mib} MiB, and {available_mib} MiB are free: "
            "ask for fewer, or give --memory"
        )


def make_machines(
    cache: Cache, fleet_dir: Path, shapes: Sequence[str], hardware: Hardware, progress: Progress
) -> list[FullMachine]:
    """Return new machines, one for each shape named; their disks are built on first use, and nothing is started.

    Raises InvalidInput for an unknown shape, else Permanent or Temporary as `prepare_disk` does.
    """
    for shape in shapes:
        shape_named(shape)
    images = {shape: prepare_disk(cache, shape, progress) for shape in dict.fromkeys(shapes)}
    toolset = prepare_toolset(cache, progress)
    with _free_ports(len(shapes)) as found:
        ports = found
    made = [
        open_machine(
            cache, fleet_dir / f"{_PREFIX}{number}", images[shape], port=port, hardware=hardware, toolset=toolset
        )
        for number, (shape, port) in enumerate(zip(shapes, ports, strict=True), start=1)
    ]
    write_file(fleet_dir / INVENTORY, inventory(made))
    return made


def known_machines(cache: Cache, fleet_dir: Path) -> list[FullMachine]:
    """Return the machines that were made in this directory, on or off."""
    folders = sorted(fleet_dir.glob(f"{_PREFIX}*"), key=lambda one: (len(one.name), one.name))
    found = (known_machine(cache, folder) for folder in folders)
    return [one for one in found if one is not None]


def inventory(machines: Sequence[FullMachine]) -> str:
    """Return Ansible's inventory of these machines, grouped by what they boot by."""
    hosts = {
        one.name: {
            "ansible_host": "127.0.0.1",
            "ansible_port": one.port,
            "ansible_user": "operator",
            "ansible_become": True,
            "ansible_ssh_private_key_file": str(one.keys.identity),
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={one.keys.known_hosts}",
            "ansible_python_interpreter": "/usr/bin/python3",
        }
        for one in machines
    }
    groups: dict[str, dict[str, dict[str, None]]] = {}
    for one in machines:
        group = groups.setdefault(one.made_of.shape.replace("-", "_"), {"hosts": {}})
        group["hosts"][one.name] = None
    text = io.StringIO()
    YAML(typ="safe", pure=True).dump({"all": {"hosts": hosts, "children": groups}}, text)
    return text.getvalue()


@contextmanager
def _free_ports(count: int) -> Iterator[list[int]]:
    """Yield as many free ports of the loopback interface; all are held until the block ends, so that they differ."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        yield [one.getsockname()[1] for one in sockets]
