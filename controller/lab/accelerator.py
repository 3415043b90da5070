"""Finds out whether this machine's KVM really runs guests, by running one: a device node alone proves nothing."""

import os
import subprocess
from pathlib import Path

from controller.adapters.kernels.debian.suites import host_architecture
from controller.adapters.local.cache import Cache, request_key
from controller.adapters.local.tools import tool_environment
from controller.domain.kernels import Kernel
from controller.lab.images import PROBE_ARGUMENT, PROBE_PASSED, GuestImage, base_command_line
from controller.lab.toolset import Toolset

_KVM = Path("/dev/kvm")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# A working KVM needs three seconds for this; an emulator would need more than ten.
_DEADLINE_S = 30.0
_MACHINES = {"x86_64": "q35", "arm64": "virt"}
_NO_KVM = "tcg"
# The emulated models were the fastest of those tried; they differ little.
_EMULATED_MODELS = {"x86_64": "max", "arm64": "cortex-a72"}


def cpu_model(architecture: str, accelerator: str) -> str:
    """Return the processor that guests are given: the machine's own under KVM, else one that is emulated well."""
    return _EMULATED_MODELS[architecture] if accelerator == _NO_KVM else "host"


def find_accelerator(cache: Cache, toolset: Toolset, kernel: Kernel, image: GuestImage) -> str:
    """Return "kvm" when a guest of the kernel's architecture starts Python under KVM here, else "tcg".

    The answer is kept until the machine boots again. Takes some seconds the first time, nothing after that.
    """
    if kernel.architecture != host_architecture() or not os.access(_KVM, os.R_OK | os.W_OK):
        return _NO_KVM
    boot_id = _BOOT_ID.read_text(encoding="ascii").strip()
    name = "kvm/" + request_key({"boot": boot_id, "qemu": toolset.version, "kernel": kernel.digest}) + ".json"
    known = cache.read_json(name)
    if known is not None:
        return str(known["accelerator"])
    with cache.lock("kvm"), cache.scratch("kvm") as scratch:
        accelerator = "kvm" if _runs(toolset, kernel, image, scratch) else _NO_KVM
        cache.write_json(name, {"accelerator": accelerator})
    return accelerator


def _runs(toolset: Toolset, kernel: Kernel, image: GuestImage, scratch: Path) -> bool:
    tool = toolset.qemu(kernel.architecture)
    console = scratch / "console.log"
    overlay = scratch / "probe.qcow2"
    toolset.create_overlay(image.path, overlay)
    command = [tool.binary, *tool.arguments, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
    command += [
        "-machine",
        _MACHINES[kernel.architecture],
        "-accel",
        "kvm",
        "-cpu",
        cpu_model(kernel.architecture, "kvm"),
        "-m",
        "512",
        "-nic",
        "none",
    ]
    command += ["-serial", f"file:{console}", "-kernel", kernel.files["boot"]]
    command += ["-append", f"{base_command_line(kernel.architecture)} {PROBE_ARGUMENT}"]
    command += [
        "-drive",
        f"file={overlay},format=qcow2,if=none,id=root",
        "-device",
        "nvme,drive=root,serial=kernroll-root",
    ]
    try:
        subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_DEADLINE_S,
            check=False,
            env=tool_environment(tool.environment),
        )
    except subprocess.TimeoutExpired:
        return False
    return console.is_file() and PROBE_PASSED.encode() in console.read_bytes()
