"""Reading the host's facts from the kernel."""

import os
import platform
import socket
from collections.abc import Mapping
from pathlib import Path

from agent import __version__
from agent.domain.host import facts, machine
from agent.domain.host.memory import parse_meminfo


def read_text(path: Path) -> str:
    """Return a kernel file's text; empty when the kernel does not have it or does not show it."""
    try:
        return path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
    except OSError:
        return ""


# systemd's boot loader interface; the first four bytes are the variable's attributes.
_LOADER_INFO = "firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"


def boot_id(proc: Path = Path("/proc")) -> str:
    """Return the id of the present boot."""
    return read_text(proc / "sys/kernel/random/boot_id")


def read_facts(
    *,
    labels: Mapping[str, str],
    platform_override: facts.Platform | None,
    proc: Path = Path("/proc"),
    sys: Path = Path("/sys"),
) -> facts.HostFacts:
    """Read everything a Hello tells about this host."""
    name = os.uname()
    hints = facts.PlatformHints(
        cpuinfo=read_text(proc / "cpuinfo"),
        dmi_vendor=read_text(sys / "class/dmi/id/sys_vendor"),
        dmi_product=read_text(sys / "class/dmi/id/product_name"),
        hypervisor_type=read_text(sys / "hypervisor/type"),
        device_tree=read_text(proc / "device-tree/compatible"),
        device_tree_hypervisor=(proc / "device-tree/hypervisor").exists(),
        clocksources=read_text(sys / "devices/system/clocksource/clocksource0/available_clocksource"),
    )
    architecture = facts.architecture_name(platform.machine())
    boot = machine.BootHints(
        efi=(sys / "firmware/efi").is_dir(),
        device_tree=(sys / "firmware/devicetree").is_dir(),
        architecture=architecture,
        loader_info=_efi_text(sys / _LOADER_INFO),
        loader_type=read_text(proc / "sys/kernel/bootloader_type"),
        u_boot=(proc / "device-tree/chosen/u-boot,version").exists(),
        command_line=read_text(proc / "cmdline"),
    )
    told = platform_override or facts.platform_of(hints)
    return facts.HostFacts(
        hostname=socket.gethostname(),
        architecture=architecture,
        page_size_bytes=os.sysconf("SC_PAGE_SIZE"),
        memory_bytes=parse_meminfo((proc / "meminfo").read_text()).total_bytes,
        kernel_release=name.release,
        kernel_version=name.version,
        boot_id=boot_id(proc),
        platform=told,
        swap_areas=facts.parse_swaps(read_text(proc / "swaps")),
        labels=labels,
        agent_version=__version__,
        kernel_command_line=boot.command_line,
        cpu_count=os.cpu_count() or 1,
        firmware=machine.firmware_of(boot),
        boot_loader=machine.boot_loader_of(boot),
        virtualization=machine.virtualization_of(hints, told),
    )


def _efi_text(variable: Path) -> str:
    """Return the text of an EFI variable; empty when there is none."""
    try:
        return variable.read_bytes()[4:].decode("utf-16-le", "replace").rstrip("\0").strip()
    except OSError:
        return ""
