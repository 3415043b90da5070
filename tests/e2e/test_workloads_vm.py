"""Real VMs with real kernels: valkey, stress-ng and the compiler swap to zram there, one to zswap over NVMe."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from agent_controller import Authority, Controller, Enrollment, serving_tls

from controller.adapters.delivery.hypervisor.processes import stop_vm
from controller.adapters.kernels import KernelStore
from controller.adapters.local.cache import Cache
from controller.domain.kernels import DebianKernel
from controller.lab.fleet import Connection, Prepared, create_guest, switch_on
from controller.lab.guests import Guest
from controller.lab.images import prepare_guest
from controller.lab.toolset import prepare_toolset
from protos.kernroll.v1 import agent_pb2, workloads_pb2

pytestmark = pytest.mark.e2e

HOST = "canary"
KERNEL = "6.18.15"
MIB = 1 << 20
BOOT_S = 240.0
# A run takes half a minute here on a machine with nothing else to do, and preparing a build seven times that.
COMMAND_S = 800.0

WORKLOADS = {
    "valkey": agent_pb2.RunWorkload(valkey_get=workloads_pb2.ValkeyGet()),
    "bgsave": agent_pb2.RunWorkload(valkey_get=workloads_pb2.ValkeyGet(bgsave=True)),
    "stress": agent_pb2.RunWorkload(stress_ng=workloads_pb2.StressNg()),
    # What zswap holds counts within the limit, and half of each page does not compress.
    "zswap": agent_pb2.RunWorkload(
        anon_sweep=workloads_pb2.AnonSweep(
            memory_bytes=48 * MIB,
            pressure=workloads_pb2.Pressure(memory_limit_bytes=40 * MIB),
            swap=workloads_pb2.SwapSource(
                kind=workloads_pb2.SWAP_KIND_BLOCK_DEVICE, path="/dev/kernroll-swap", zswap=True
            ),
        )
    ),
    # Of the image's own part of a kernel source. Preparing it is most of the time.
    "build": agent_pb2.RunWorkload(kernel_build=workloads_pb2.KernelBuild(objects=["kernel/ksysfs.o"], jobs=1)),
}
EXPECTED = {
    "stress": "stress.bogo_rate",
    "valkey": "valkey.get_rate",
    "bgsave": "valkey.get_rate_bgsave",
    "build": "kernel_build_subset.system_time",
    # The compressed pages themselves, and not only the workload's own figure.
    "zswap": "vmstat.zswpout",
}
# Debian's cloud kernel of this version has no zswap.
FLAVOURS = {"zswap": "generic"}
DEVICES = {"zswap": "/dev/nvme"}


@pytest.fixture
def guests(tmp_path: Path) -> Iterator[Path]:
    """The directory of a fleet; what runs in it at the end of the test is ended."""
    yield tmp_path
    for directory in tmp_path.glob("*/vm.json"):
        stop_vm(directory.parent)


def small(name: str) -> agent_pb2.Command:
    workload = agent_pb2.RunWorkload(repetitions=1, preset=workloads_pb2.PRESET_SMALL)
    workload.MergeFrom(WORKLOADS[name])
    return agent_pb2.Command(command_id=name, epoch=1, timeout_s=COMMAND_S, run_workload=workload)


# A guest for each: on a busy machine all of them in one take longer than a test may.
@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("architecture", ["x86_64", "arm64"])
async def test_workloads_of_the_distribution(guests: Path, architecture: str, name: str) -> None:
    cache = Cache.from_environment()
    kernel = DebianKernel(version=KERNEL, flavour=FLAVOURS.get(name, "cloud"))
    prepared = Prepared(
        toolset=prepare_toolset(cache),
        images={architecture: prepare_guest(cache, architecture, workloads=True)},
        kernels={architecture: KernelStore(cache).resolve(kernel, architecture)},
        accelerators={architecture: "tcg"},
    )
    authority = Authority()
    enrollment, controller = Enrollment(authority), Controller()
    async with serving_tls(controller, enrollment) as (agent_port, enroll_port):
        connection = Connection(
            agent_port=agent_port, enroll_port=enroll_port, join_token=authority.token(), channel="serial"
        )
        guest = Guest(name=HOST, architecture=architecture, memory_mib=1536)
        directory = create_guest(cache, guests, guest, prepared, connection)
        await asyncio.to_thread(switch_on, [directory])
        await controller.until(lambda: controller.names, timeout_s=BOOT_S)
        assert list(controller.hellos[0].facts.swap_devices) == []
        controller.order(small(name))
        await controller.until(lambda: controller.outcomes(name), timeout_s=COMMAND_S)
        outcome = controller.outcomes(name)[0]
        assert outcome.status == agent_pb2.CommandOutcome.STATUS_COMPLETED, outcome.detail
        (run,) = controller.runs(name)
        samples = {sample.metric: sample.value for sample in run.samples}
        assert samples[EXPECTED[name]] > 0
        assert DEVICES.get(name, "/dev/zram0") in run.evidence["proc_swaps"]
