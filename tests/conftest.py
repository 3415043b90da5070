"""Fixtures that several suites share."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from controller.adapters.delivery.hypervisor.definition import Disk, Qemu, SerialChannel, VmDefinition, save_definition
from controller.adapters.delivery.hypervisor.processes import stop_vm
from controller.domain.kernels import Kernel

# The same examples in every run: what fails here fails everywhere, and no machine is too slow for an example.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

STUB_QEMU = Path(__file__).parent / "component" / "stub_qemu.py"
MakeKernel = Callable[..., Kernel]
MakeVm = Callable[..., Path]


@pytest.fixture
def make_kernel(tmp_path: Path) -> MakeKernel:
    """Make a kernel for the stand-in QEMU: its behaviour is the file's text, its digest is the given name."""

    def make(digest: str, behaviour: str = "runs", architecture: str = "x86_64") -> Kernel:
        file = tmp_path / "store" / digest / "boot"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{behaviour} {digest}\n")
        return Kernel(
            digest=digest,
            release=f"1.0-{digest}",
            architecture=architecture,
            source="test",
            command_line=f"kernel={digest}",
            files={"boot": str(file)},
        )

    return make


@pytest.fixture
def make_vm(tmp_path: Path, make_kernel: MakeKernel) -> Iterator[MakeVm]:
    """Make the directory of a VM on the stand-in QEMU; whatever still runs in it at the end of the test is ended."""
    made: list[Path] = []

    def make(name: str, behaviour: str = "runs") -> Path:
        vm_dir = tmp_path / "fleet" / name
        vm_dir.mkdir(parents=True)
        definition = VmDefinition(
            name=name,
            architecture="x86_64",
            memory_mib=128,
            vcpus=1,
            accelerator="tcg",
            cpu_model="max",
            qemu=Qemu(binary=sys.executable, arguments=("-I", "-S", str(STUB_QEMU))),
            disks=(Disk(path="root.qcow2", format="qcow2", serial="kernroll-root"),),
            command_line="console=ttyS0 panic=5",
            channel=SerialChannel(agent_port=7443, enroll_port=7444),
            kernel=make_kernel("old", behaviour),
        )
        save_definition(vm_dir, definition)
        made.append(vm_dir)
        return vm_dir

    yield make
    for vm_dir in made:
        stop_vm(vm_dir)
