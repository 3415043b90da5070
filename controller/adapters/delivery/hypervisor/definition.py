"""What a VM is made of: the file vm.json in the VM's directory, read anew at every boot."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from controller.adapters.delivery.hypervisor.fields import Fields
from controller.adapters.local.named_files import read_file
from controller.domain.errors import NotFound, Permanent
from controller.domain.hosts.releases import is_release
from controller.domain.kernels import Kernel
from controller.domain.printable import printable

FILE_NAME = "vm.json"
FORMAT_VERSION = 1
_MOST_BYTES = 1 << 20
_LONGEST_DIGEST = 128
ARCHITECTURES = ("x86_64", "arm64")

Accelerator = Literal["tcg", "kvm"]
DiskFormat = Literal["raw", "qcow2"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """One NVMe disk of the guest."""

    # Relative paths start at the VM's directory.
    path: str
    format: DiskFormat
    # The NVMe serial number by which the guest finds the disk; names like nvme0n1 may reorder.
    serial: str
    read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SerialChannel:
    """The agent talks over virtio-serial ports that QEMU connects straight to the controller's TCP ports."""

    agent_port: int
    enroll_port: int
    host: str = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkChannel:
    """The agent talks over a virtio network card; the guest reaches this machine's loopback at 10.0.2.2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Qemu:
    """How to start QEMU on this machine."""

    binary: str
    # Added before everything else, for example ("-L", "share/qemu").
    arguments: tuple[str, ...] = ()
    # Added to the supervisor's own environment, for example LD_LIBRARY_PATH.
    environment: Mapping[str, str] = field(default_factory=dict)
    # Whether QEMU's own system call filter works here.
    sandbox: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class VmDefinition:
    """Everything that stays the same from boot to boot."""

    name: str
    architecture: str
    memory_mib: int
    vcpus: int
    accelerator: Accelerator
    cpu_model: str
    qemu: Qemu
    disks: tuple[Disk, ...]
    # The kernel command line of every boot; a kernel's own is appended.
    command_line: str
    channel: SerialChannel | NetworkChannel
    # Boots first, and is the default until another kernel is blessed. Its files are absolute paths or relative to the
    # VM's directory.
    kernel: Kernel


def save_definition(vm_dir: Path, definition: VmDefinition) -> None:
    """Write vm.json atomically and durably; raise Permanent when the definition is not usable."""
    document = to_document(definition)
    from_document(document, where=str(vm_dir / FILE_NAME))
    temporary = vm_dir / f"{FILE_NAME}.new"
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(document, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(vm_dir / FILE_NAME)


def load_definition(vm_dir: Path) -> VmDefinition:
    """Read vm.json; raise NotFound when there is none, Permanent naming the file and field when it is wrong."""
    path = vm_dir / FILE_NAME
    try:
        text = read_file(path, _MOST_BYTES).decode()
    except FileNotFoundError as error:
        raise NotFound(
            f"{path}: no such file, so there is no VM in this directory; `kernroll lab up` makes one"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise Permanent(f"{path}: cannot be read: {error}") from error
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Permanent(
            f"{path}: not JSON: {error}; remove the directory and let `kernroll lab up` make it again"
        ) from error
    return from_document(document, where=str(path))


def to_document(definition: VmDefinition) -> dict[str, Any]:
    """Return the JSON document of a definition."""
    document = asdict(definition)
    match definition.channel:
        case SerialChannel():
            document["channel"]["kind"] = "serial"
        case NetworkChannel():
            document["channel"]["kind"] = "network"
    # Through JSON and back, so that tuples are lists here as they will be in the file.
    return cast(dict[str, Any], json.loads(json.dumps({"version": FORMAT_VERSION, **document})))


def from_document(document: object, *, where: str) -> VmDefinition:
    """Check a JSON document and return the definition; raise Permanent naming `where` and the field."""
    top = Fields.of(document, where)
    version = top.integer("version", minimum=1)
    if version != FORMAT_VERSION:
        raise Permanent(f"{where}: version is {version}, this kernroll reads {FORMAT_VERSION}; make the VM again")
    kernel = read_kernel(top.inner("kernel"))
    architecture = top.one_of("architecture", ARCHITECTURES)
    if kernel.architecture != architecture:
        raise Permanent(f"{where}: kernel is for {kernel.architecture}, the VM is {architecture}")
    return VmDefinition(
        name=top.text("name"),
        architecture=architecture,
        memory_mib=top.integer("memory_mib", minimum=64),
        vcpus=top.integer("vcpus", minimum=1),
        accelerator=cast(Accelerator, top.one_of("accelerator", ("tcg", "kvm"))),
        cpu_model=top.text("cpu_model"),
        qemu=_read_qemu(top.inner("qemu")),
        disks=tuple(_read_disk(disk) for disk in top.inner_list("disks")),
        command_line=top.text("command_line", empty=True),
        channel=_read_channel(top.inner("channel")),
        kernel=kernel,
    )


def read_kernel(fields: Fields) -> Kernel:
    """Return the kernel that a JSON object describes; raise Permanent naming the field that is wrong."""
    digest = fields.text("digest")
    release = fields.text("release")
    if not (digest.isascii() and digest.isalnum() and len(digest) <= _LONGEST_DIGEST):
        raise Permanent(f"{fields.where}.digest: must be letters and digits only (got {printable(digest, 80)!r})")
    if not is_release(release):
        raise Permanent(f"{fields.where}.release: is no kernel's release (got {printable(release, 80)!r})")
    return Kernel(
        digest=digest,
        release=release,
        architecture=fields.one_of("architecture", ARCHITECTURES),
        source=fields.text("source", empty=True),
        command_line=fields.text("command_line", empty=True),
        files=fields.text_map("files"),
    )


def _read_qemu(fields: Fields) -> Qemu:
    return Qemu(
        binary=fields.text("binary"),
        arguments=fields.text_list("arguments"),
        environment=fields.text_map("environment"),
        sandbox=fields.boolean("sandbox"),
    )


def _read_disk(fields: Fields) -> Disk:
    return Disk(
        path=fields.text("path"),
        format=cast(DiskFormat, fields.one_of("format", ("raw", "qcow2"))),
        serial=fields.text("serial"),
        read_only=fields.boolean("read_only"),
    )


def _read_channel(fields: Fields) -> SerialChannel | NetworkChannel:
    if fields.one_of("kind", ("serial", "network")) == "network":
        return NetworkChannel()
    return SerialChannel(
        agent_port=fields.integer("agent_port", minimum=1),
        enroll_port=fields.integer("enroll_port", minimum=1),
        host=fields.text("host"),
    )
