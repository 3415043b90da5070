"""Real guests on real kernels: the image starts Python with the agent's libraries, and a bad kernel ends by itself."""

import contextlib
import subprocess
from pathlib import Path

import pytest

from controller.adapters.kernels import KernelStore
from controller.adapters.local.cache import Cache
from controller.adapters.local.tools import tool_environment
from controller.domain.kernels import DebianKernel, Kernel
from controller.lab.accelerator import cpu_model
from controller.lab.images import PROBE_ARGUMENT, PROBE_PASSED, base_command_line, prepare_guest
from controller.lab.toolset import prepare_toolset

pytestmark = pytest.mark.vm

# A guest whose console says nothing new for so long has stopped; one that goes on is waited for, however slowly.
STALLED_S = 120.0
MACHINES = {"x86_64": "q35", "arm64": "virt"}


def boot(kernel: Kernel, scratch: Path) -> str:
    """Boot a kernel on a fresh disk until the VM ends by itself, and return its console."""
    cache = Cache.from_environment()
    toolset = prepare_toolset(cache)
    tool = toolset.qemu(kernel.architecture)
    toolset.create_overlay(prepare_guest(cache, kernel.architecture).path, scratch / "root.qcow2")
    command = [tool.binary, *tool.arguments, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
    command += [
        "-machine",
        MACHINES[kernel.architecture],
        "-accel",
        "tcg",
        "-cpu",
        cpu_model(kernel.architecture, "tcg"),
    ]
    command += ["-m", "512", "-nic", "none", "-serial", f"file:{scratch}/console.log"]
    command += ["-kernel", kernel.files["boot"]]
    if "initrd" in kernel.files:
        command += ["-initrd", kernel.files["initrd"]]
    words = (base_command_line(kernel.architecture), kernel.command_line, PROBE_ARGUMENT)
    command += ["-append", " ".join(words)]
    command += [
        "-drive",
        f"file={scratch}/root.qcow2,if=none,id=root",
        "-device",
        "nvme,drive=root,serial=kernroll-root",
    ]
    console, told = scratch / "console.log", -1
    with subprocess.Popen(
        command, env=tool_environment(tool.environment), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as guest:
        try:
            while guest.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    guest.wait(timeout=STALLED_S)
                    break
                before, told = told, console.stat().st_size
                assert told > before, f"the guest has stopped: {console.read_text(errors='replace')[-500:]}"
        finally:
            guest.kill()
    assert guest.returncode == 0
    return console.read_text(errors="replace")


@pytest.mark.parametrize("architecture", ["x86_64", "arm64"])
def test_a_guest_starts_python_with_the_agents_libraries(tmp_path: Path, architecture: str) -> None:
    kernel = KernelStore(Cache.from_environment()).resolve(DebianKernel(version="7.0.13"), architecture)
    assert PROBE_PASSED in boot(kernel, tmp_path)


def test_a_kernel_without_the_disks_driver_panics_and_ends(tmp_path: Path) -> None:
    kernel = KernelStore(Cache.from_environment()).resolve(DebianKernel(version="7.1.13", flavour="generic"), "x86_64")
    assert "Kernel panic - not syncing: VFS: Unable to mount root fs" in boot(kernel, tmp_path)


@pytest.mark.parametrize("architecture", ["x86_64", pytest.param("arm64", marks=pytest.mark.e2e)])
def test_a_kernel_whose_disk_driver_is_a_module_gets_it_before_the_root(tmp_path: Path, architecture: str) -> None:
    kernel = KernelStore(Cache.from_environment()).resolve(
        DebianKernel(version="6.18.15", flavour="generic"), architecture
    )
    assert PROBE_PASSED in boot(kernel, tmp_path)


@pytest.mark.e2e
def test_a_root_that_is_not_there_is_named_and_ends_the_boot(tmp_path: Path) -> None:
    generic = DebianKernel(version="6.18.15", flavour="generic", command_line="root=PARTUUID=00000bad-01")
    console = boot(KernelStore(Cache.from_environment()).resolve(generic, "x86_64"), tmp_path)
    assert "kernroll-initrd: no root file system: nothing is called PARTUUID=00000bad-01" in console
    assert "Kernel panic - not syncing: Attempted to kill init!" in console
