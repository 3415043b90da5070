"""What a host is, as plain values, and how its platform is told from what the kernel shows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from agent.domain.numbers import kibibytes


class Platform(StrEnum):
    """What executes the instructions. Hosts of different platforms are never pooled."""

    UNKNOWN = "unknown"  # the agent cannot tell; such a host is a stratum of its own
    METAL = "metal"  # no hypervisor
    VM = "vm"  # hardware-assisted virtualisation
    EMULATED = "emulated"  # an instruction-set emulator, for example QEMU's TCG


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapArea:
    """One line of /proc/swaps."""

    path: str
    size_bytes: int
    used_bytes: int
    # The second column: "partition", which is any block device, or "file".
    kind: str = "partition"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """What a host says of itself in every Hello."""

    hostname: str
    # "x86_64" or "arm64"; other machines report uname's own word.
    architecture: str
    page_size_bytes: int
    memory_bytes: int
    kernel_release: str
    kernel_version: str
    boot_id: str
    platform: Platform
    swap_areas: tuple[SwapArea, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    agent_version: str
    kernel_command_line: str
    cpu_count: int
    # Empty where the kernel does not show it; agent.domain.machine has the words.
    firmware: str = ""
    boot_loader: str = ""
    virtualization: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformHints:
    """What the kernel shows that bears on the platform; an empty string or False where it shows nothing."""

    # /proc/cpuinfo as read.
    cpuinfo: str = ""
    # /sys/class/dmi/id/sys_vendor and product_name.
    dmi_vendor: str = ""
    dmi_product: str = ""
    # /sys/hypervisor/type, for example "xen".
    hypervisor_type: str = ""
    # /proc/device-tree/compatible, zero bytes replaced by spaces.
    device_tree: str = ""
    # /proc/device-tree/hypervisor exists.
    device_tree_hypervisor: bool = False
    # available_clocksource of clocksource0.
    clocksources: str = ""


_CLOUD_VENDORS = ("amazon ec2", "google", "microsoft corporation", "vmware", "xen", "innotek", "parallels", "openstack")


def architecture_name(machine: str) -> str:
    """Return the project's name for uname's machine word."""
    return {"aarch64": "arm64", "amd64": "x86_64"}.get(machine, machine)


def platform_of(hints: PlatformHints) -> Platform:
    """Tell the platform from the kernel's hints; UNKNOWN when QEMU shows without saying whether it emulates."""
    if "QEMU TCG" in hints.cpuinfo:
        return Platform.EMULATED
    if "kvm-clock" in hints.clocksources or "hyperv_clocksource" in hints.clocksources or hints.hypervisor_type:
        return Platform.VM
    vendor = hints.dmi_vendor.lower()
    if "qemu" in vendor or "linux,dummy-virt" in hints.device_tree:
        # Neither KVM's clock nor TCG's own CPU name: a named CPU model hides which of the two it is.
        return Platform.UNKNOWN
    hypervisor_flag = any(
        "hypervisor" in line.split() for line in hints.cpuinfo.splitlines() if line.startswith("flags")
    )
    if hypervisor_flag or hints.device_tree_hypervisor:
        return Platform.VM
    if any(name in vendor for name in _CLOUD_VENDORS) and "metal" not in hints.dmi_product.lower():
        # On x86_64 the flag above decides; without it these vendors' machines are bare metal (Hyper-V hosts, Surface).
        return Platform.METAL if "flags" in hints.cpuinfo else Platform.VM
    if vendor or hints.device_tree or "flags" in hints.cpuinfo:
        return Platform.METAL
    return Platform.UNKNOWN


def parse_swaps(text: str) -> tuple[SwapArea, ...]:
    """Parse /proc/swaps; the kernel writes sizes in KiB and spaces in paths as octal escapes.

    An area stays one when a broken kernel shows no number for it, which is 0 then: other swap must not go unseen.
    """
    areas = []
    for line in text.splitlines()[1:]:
        fields = line.rsplit(maxsplit=4)
        if len(fields) == 5:
            path = fields[0].replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
            size, used = (kibibytes(field) or 0 for field in fields[2:4])
            areas.append(SwapArea(path=path, size_bytes=size, used_bytes=used, kind=fields[1]))
    return tuple(areas)
