"""What a host is, as plain values, and how its platform is told from what the kernel shows."""

import re
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
    # Empty where the kernel does not show it; agent.domain.host.machine has the words.
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


# What a machine's DMI says of itself when a hypervisor made it -> systemd's word for that; empty where several use it.
# Looked for in vendor and product together. Sources: systemd's detect-virt, and what clouds' machines show.
_VIRTUAL: Mapping[str, str] = {
    "amazon ec2": "amazon",
    "apple virtualization": "apple",
    "google": "google",
    "hyper-v": "microsoft",
    "microsoft corporation": "microsoft",
    "vmware": "vmware",
    "xen": "xen",
    "hvm domu": "xen",
    "innotek": "oracle",
    "virtualbox": "oracle",
    "parallels": "parallels",
    "bhyve": "bhyve",
    "bochs": "bochs",
    "qemu": "qemu",
    "kubevirt": "kvm",
    "openstack": "kvm",
    "nutanix ahv": "kvm",
    "alibaba cloud ecs": "kvm",
    "tencent cloud cvm": "kvm",
    "digitalocean droplet": "kvm",
    "hetzner vserver": "kvm",
    "kvm": "kvm",
    "cloud hypervisor": "",
    "firecracker": "",
    "virtual": "",
    "vserver": "",
}
# Device trees that hypervisors write.
_VIRTUAL_TREES = ("dummy-virt", "xen,xenvm", "jailhouse", "virtual", "qemu")
# Who builds arm64 machines. Others' may be machines or guests: no vendor is taken for metal because it is not known.
_BUILDERS = re.compile(
    "(adlink|advantech|amd|ampere|apm|applied|asrock|asrockrack|asus|asustek|avantek|bull|cavium|cisco|cray|dell|foxconn|"
    "fujitsu|gigabyte|giga|hewlett|hisilicon|hpe|inspur|lenovo|marvell|mitac|nvidia|phytium|qualcomm|quanta|radxa|"
    r"raspberry|softiron|socionext|solidrun|supermicro|super|tyan|wiwynn)\b(?!.*\bcloud\b)"
)
# Vendor prefixes in device trees of who builds boards and what is on them; bindings/vendor-prefixes.yaml has them all.
# As above: a tree without any of them describes a board or a guest, and is not taken for metal. Those who make models
# or hypervisors too (arm, amazon, google, microsoft) are not among them.
_BOARDS = re.compile(
    "(adi|advantech|allwinner|altr|amd|amlogic|ampere|apm|apple|aspeed|asus|beagle|bananapi|brcm|cavium|"
    "compulab|engicam|freescale|friendlyarm|fsl|fujitsu|hardkernel|hisilicon|hp|huawei|intel|kobol|kontron|"
    "lenovo|libretech|marvell|mediatek|microchip|milkv|nuvoton|nvidia|nxp|olimex|orangepi|phytec|phytium|"
    "pine64|qcom|radxa|raspberrypi|realtek|renesas|rockchip|samsung|sifive|socionext|solidrun|sony|sophgo|st|starfive|"
    r"synaptics|ti|toradex|variscite|xiaomi|xlnx|xunlong),"
)


def architecture_name(machine: str) -> str:
    """Return the project's name for uname's machine word."""
    return {"aarch64": "arm64", "amd64": "x86_64"}.get(machine, machine)


def hypervisor_named(hints: PlatformHints) -> str | None:
    """Return which hypervisor DMI names, in systemd's word; empty when it names one without saying which, else None."""
    said = f"{hints.dmi_vendor} {hints.dmi_product}".lower()
    return next((word for part, word in _VIRTUAL.items() if part in said), None)


def platform_of(hints: PlatformHints) -> Platform:
    """Tell the platform from the kernel's hints; UNKNOWN when they do not say whether it is a machine or a guest.

    That is so when QEMU shows without saying whether it emulates, too.
    """
    if "QEMU TCG" in hints.cpuinfo:
        return Platform.EMULATED
    if "kvm-clock" in hints.clocksources or "hyperv_clocksource" in hints.clocksources or hints.hypervisor_type:
        return Platform.VM
    vendor, product = hints.dmi_vendor.lower(), hints.dmi_product.lower()
    if "kvm virtual machine" in product:
        # QEMU on arm64 calls a machine so when KVM runs it.
        return Platform.VM
    if "qemu" in vendor or "linux,dummy-virt" in hints.device_tree:
        # Neither KVM's clock nor TCG's own CPU name: a named CPU model hides which of the two it is.
        return Platform.UNKNOWN
    flags = [line.split() for line in hints.cpuinfo.splitlines() if line.startswith("flags")]
    if any("hypervisor" in line for line in flags) or hints.device_tree_hypervisor:
        return Platform.VM
    if flags:
        # On x86_64 the flag decides; without it clouds' and hypervisors' vendors made the machine (Surface, *.metal).
        return Platform.METAL
    if hypervisor_named(hints) is not None:
        return Platform.METAL if "amazon" in vendor and "metal" in product else Platform.VM
    if hints.device_tree:
        if any(name in hints.device_tree for name in _VIRTUAL_TREES):
            return Platform.VM
        return Platform.METAL if any(map(_BOARDS.match, hints.device_tree.split())) else Platform.UNKNOWN
    return Platform.METAL if _BUILDERS.match(vendor) else Platform.UNKNOWN


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
