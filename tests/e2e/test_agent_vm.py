"""One real VM without modules: the agent enrolls, measures 1 TiB of swap and reports, all over virtio-serial ports."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from agent_controller import Authority, Controller, Enrollment, serving_tls, swap_mount

from controller.adapters.delivery.hypervisor.processes import stop_vm
from controller.adapters.kernels import KernelStore
from controller.adapters.local.cache import Cache
from controller.domain.kernels import DebianKernel
from controller.lab.fleet import Connection, Prepared, create_guest, switch_on
from controller.lab.guests import Guest
from controller.lab.images import prepare_guest
from controller.lab.toolset import prepare_toolset
from protos.kernroll.v1 import agent_pb2, common_pb2

pytestmark = pytest.mark.e2e

HOST = "canary"
SWAP = "/dev/kernroll-swap"
# A boot takes 12 s here and a run 20 s, on a machine with nothing else to do.
BOOT_S = 180.0
RUN_S = 240.0


@pytest.fixture
def guests(tmp_path: Path) -> Iterator[Path]:
    """The directory of a fleet; what runs in it at the end of the test is ended."""
    yield tmp_path
    for directory in tmp_path.glob("*/vm.json"):
        stop_vm(directory.parent)


async def test_a_real_agent_on_7_1_13(guests: Path) -> None:
    cache = Cache.from_environment()
    prepared = Prepared(
        toolset=prepare_toolset(cache),
        images={"x86_64": prepare_guest(cache, "x86_64")},
        kernels={"x86_64": KernelStore(cache).resolve(DebianKernel(version="7.1.13"), "x86_64")},
        accelerators={"x86_64": "tcg"},
    )
    authority = Authority()
    enrollment, controller = Enrollment(authority), Controller()
    async with serving_tls(controller, enrollment) as (agent_port, enroll_port):
        connection = Connection(
            agent_port=agent_port, enroll_port=enroll_port, join_token=authority.token(), channel="serial"
        )
        guest = Guest(name=HOST, architecture="x86_64", memory_mib=1536)
        directory = create_guest(cache, guests, guest, prepared, connection)
        await asyncio.to_thread(switch_on, [directory])
        await controller.until(lambda: controller.names, timeout_s=BOOT_S)
        assert controller.names == [(HOST, HOST)]
        assert enrollment.hosts == [HOST]
        facts = controller.hellos[0].facts
        assert facts.kernel_release.startswith("7.1.13")
        assert (facts.architecture, facts.platform) == ("x86_64", common_pb2.PLATFORM_EMULATED)
        # QEMU gives the machine its kernel itself.
        assert (facts.firmware, facts.boot_loader, facts.virtualization) == ("bios", "qemu", "qemu")
        controller.order(swap_mount("c1", timeout_s=RUN_S, device=SWAP))
        await controller.until(lambda: any(each.step == "swapon" for each in controller.progress), timeout_s=RUN_S)
    # The controller is away while the agent measures; the report waits in the spool.
    successor = Controller()
    async with serving_tls(successor, enrollment, agent_port):
        await successor.until(lambda: successor.outcomes("c1"), timeout_s=RUN_S)
    outcome = successor.outcomes("c1")[0]
    assert outcome.status == agent_pb2.CommandOutcome.STATUS_COMPLETED, outcome.detail
    (run,) = successor.runs("c1")
    samples = {sample.metric: sample.value for sample in run.samples}
    # What the structures of this kernel add up to: 512 + 32 + 20 MiB.
    assert samples["swap_mount.cost"] == pytest.approx(564, rel=0.03)
    assert samples["swap_mount.kernel_cost"] == pytest.approx(564, rel=0.02)
    assert successor.hellos[0].active_command_ids in ([], ["c1"])
