"""The fleet's life: prepare what guests boot from, make their directories, start and stop their supervisors."""

import importlib.util
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from controller.adapters.delivery.hypervisor.definition import (
    FILE_NAME,
    Disk,
    NetworkChannel,
    Qemu,
    SerialChannel,
    VmDefinition,
    save_definition,
)
from controller.adapters.delivery.hypervisor.processes import VmStatus, start_supervisor, stop_vm, vm_status
from controller.adapters.kernels import KernelStore
from controller.adapters.local.cache import Cache, Progress
from controller.adapters.pki.certificates import kept_agent_key
from controller.domain.errors import Conflict, Permanent
from controller.domain.kernels import Kernel, KernelSource
from controller.lab.accelerator import cpu_model, find_accelerator
from controller.lab.guests import Channel, Guest
from controller.lab.images import GuestImage, base_command_line, build_seed, guest_settings, prepare_guest
from controller.lab.toolset import Toolset, prepare_toolset

SWAP_BYTES = 2**40
# The address under which QEMU's user network shows this machine's loopback.
_HOST_LOOPBACK = "10.0.2.2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What guests are made of, by architecture; everything lies in the cache."""

    toolset: Toolset
    images: Mapping[str, GuestImage]
    # The kernel every guest starts with.
    kernels: Mapping[str, Kernel]
    # "kvm" or "tcg".
    accelerators: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """How guests reach the controller."""

    agent_port: int
    enroll_port: int
    # Good for every guest of the fleet.
    join_token: str
    channel: Channel


def prepare(
    cache: Cache,
    architectures: tuple[str, ...],
    kernel: Callable[[str], KernelSource],
    progress: Progress,
    more_kernels: tuple[tuple[KernelSource, str], ...] = (),
    *,
    workloads: bool = False,
) -> Prepared:
    """Fetch and build everything the fleet needs, side by side; instant when the cache has it all.

    `more_kernels` are fetched along with the rest, so that a rollout finds them ready. With `workloads` the guests have
    the programs that workloads run. Raises the first error.
    """
    store = KernelStore(cache)
    with ThreadPoolExecutor(max_workers=6, thread_name_prefix="prepare") as pool:
        tools = pool.submit(prepare_toolset, cache, progress)
        kernels = {name: pool.submit(store.resolve, kernel(name), name, progress) for name in architectures}
        others = [pool.submit(store.resolve, source, name, progress) for source, name in more_kernels]
        images = {
            name: pool.submit(prepare_guest, cache, name, progress, workloads=workloads) for name in architectures
        }
        _raise_first([tools, *kernels.values(), *others, *images.values()])
    toolset = tools.result()
    found = {name: future.result() for name, future in kernels.items()}
    built = {name: future.result() for name, future in images.items()}
    return Prepared(
        toolset=toolset,
        images=built,
        kernels=found,
        accelerators={name: find_accelerator(cache, toolset, found[name], built[name]) for name in architectures},
    )


def _raise_first(futures: list[Future[Toolset] | Future[Kernel] | Future[GuestImage]]) -> None:
    for future in futures:
        future.result()


def create_guest(
    cache: Cache,
    fleet_dir: Path,
    guest: Guest,
    prepared: Prepared,
    connection: Connection,
    *,
    more_seed: Mapping[str, bytes] | None = None,
) -> Path:
    """Make a guest's directory: disks, seed, definition. Raises Conflict when it exists.

    `more_seed` are further files for the seed disk, by their path on it.
    """
    final = fleet_dir / guest.name
    if final.exists():
        raise Conflict(f"{final} exists already: take the fleet down with `kernroll lab down --remove` first")
    partial = fleet_dir / f".{guest.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    accelerator = prepared.accelerators[guest.architecture]
    prepared.toolset.create_overlay(prepared.images[guest.architecture].path, partial / "root.qcow2")
    swap_format = prepared.toolset.create_swap_disk(partial / "swap.img", SWAP_BYTES)
    seed = {**_seed_files(guest, accelerator, connection), "agent-key.pem": kept_agent_key(key_file(fleet_dir, guest))}
    build_seed(cache, partial / "seed.ext4", {**seed, **(more_seed or {})})
    qemu = prepared.toolset.qemu(guest.architecture)
    definition = VmDefinition(
        name=guest.name,
        architecture=guest.architecture,
        memory_mib=guest.memory_mib,
        vcpus=1,
        accelerator="kvm" if accelerator == "kvm" else "tcg",
        cpu_model=cpu_model(guest.architecture, accelerator),
        qemu=Qemu(binary=qemu.binary, arguments=tuple(qemu.arguments), environment=dict(qemu.environment)),
        disks=(
            Disk(path="root.qcow2", format="qcow2", serial="kernroll-root"),
            Disk(path="seed.ext4", format="raw", serial="kernroll-seed", read_only=True),
            Disk(path="swap.img", format="raw" if swap_format == "raw" else "qcow2", serial="kernroll-swap"),
        ),
        command_line=base_command_line(guest.architecture, emulated=accelerator != "kvm"),
        channel=SerialChannel(agent_port=connection.agent_port, enroll_port=connection.enroll_port)
        if connection.channel == "serial"
        else NetworkChannel(),
        kernel=prepared.kernels[guest.architecture],
    )
    save_definition(partial, definition)
    partial.rename(final)
    return final


def key_file(fleet_dir: Path, guest: Guest) -> Path:
    """Return where the key of a guest's agent lies.

    It outlives the guest's directory: a controller admits a known name under its old key only, and so a guest that is
    made anew is the same host to it.
    """
    return fleet_dir / ".keys" / f"{guest.name}.pem"


def _seed_files(guest: Guest, accelerator: str, connection: Connection) -> dict[str, bytes | Path]:
    return {
        "guest.env": guest_settings(hostname=guest.name, network=connection.channel == "network"),
        "agent.toml": _agent_settings(guest, accelerator, connection).encode(),
        "app/agent": _source("agent"),
        "app/protos": _source("protos"),
    }


def _source(package: str) -> Path:
    """Return where a package's files lie, without importing it: the guests run it, not this process."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise Permanent(f"the package {package} has no files here: install kernroll unpacked")
    return Path(found.origin).resolve().parent


def _agent_settings(guest: Guest, accelerator: str, connection: Connection) -> str:
    lines = [
        f'host = "{guest.name}"',
        f'join_token = "{connection.join_token}"',
        f'platform = "{"vm" if accelerator == "kvm" else "emulated"}"',
        f'transport = "{"serial" if connection.channel == "serial" else "tcp"}"',
    ]
    if connection.channel == "network":
        lines.append(f'controller = "{_HOST_LOOPBACK}:{connection.agent_port}"')
        lines.append(f'enroll = "{_HOST_LOOPBACK}:{connection.enroll_port}"')
    return "\n".join([*lines, "[labels]", 'fleet = "lab"', ""])


def switch_on(vm_dirs: list[Path]) -> None:
    """Start the guests' supervisors, and the machines with them; those that run already are left alone."""
    with ThreadPoolExecutor(max_workers=8) as pool:
        for future in [pool.submit(start_supervisor, vm_dir) for vm_dir in vm_dirs]:
            future.result()


def switch_off(fleet_dir: Path, *, remove: bool) -> tuple[str, ...]:
    """Stop every guest and its supervisor; return their names. With `remove` their directories go as well."""
    directories = guest_directories(fleet_dir)
    with ThreadPoolExecutor(max_workers=8) as pool:
        for future in [pool.submit(stop_vm, vm_dir) for vm_dir in directories]:
            future.result()
    if remove:
        for vm_dir in directories:
            shutil.rmtree(vm_dir)
    return tuple(vm_dir.name for vm_dir in directories)


def fleet_status(fleet_dir: Path) -> tuple[VmStatus, ...]:
    """Look at every guest without changing anything."""
    return tuple(vm_status(vm_dir) for vm_dir in guest_directories(fleet_dir))


def guest_directories(fleet_dir: Path) -> list[Path]:
    """Return the directories of the fleet's guests, by name."""
    if not fleet_dir.is_dir():
        return []
    return sorted(path.parent for path in fleet_dir.glob(f"*/{FILE_NAME}") if not path.parent.name.startswith("."))
