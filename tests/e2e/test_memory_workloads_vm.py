"""The exercised workloads in real VMs, on kernels before and after swap counts moved into the swap table.

The kernels without modules swap to NVMe; those with modules have zram.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
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
from protos.kernroll.v1 import agent_pb2, common_pb2, workloads_pb2

# Ten minutes of an otherwise idle machine, so they are left out of `make test`.
pytestmark = pytest.mark.e2e

MIB = 1 << 20
NVME = workloads_pb2.SwapSource(kind=workloads_pb2.SWAP_KIND_BLOCK_DEVICE, path="/dev/kernroll-swap")
ZRAM = workloads_pb2.SwapSource(kind=workloads_pb2.SWAP_KIND_ZRAM, size_bytes=16 << 30)
BOOT_S = 180.0
# An emulated processor takes minutes for what takes seconds otherwise, and this machine has others to serve.
RUN_S = 900.0


@pytest.fixture
def guests(tmp_path: Path) -> Iterator[Path]:
    """The directory of a fleet; what runs in it at the end of the test is ended."""
    yield tmp_path
    for directory in tmp_path.glob("*/vm.json"):
        stop_vm(directory.parent)


@asynccontextmanager
async def running(guests: Path, version: str, architecture: str = "x86_64") -> AsyncIterator[Controller]:
    """Boot a guest with this kernel and yield its controller once the agent has joined."""
    cache = Cache.from_environment()
    prepared = Prepared(
        toolset=prepare_toolset(cache),
        images={architecture: prepare_guest(cache, architecture)},
        kernels={architecture: KernelStore(cache).resolve(DebianKernel(version=version), architecture)},
        accelerators={architecture: "tcg"},
    )
    authority = Authority()
    enrollment, controller = Enrollment(authority), Controller()
    async with serving_tls(controller, enrollment) as (agent_port, enroll_port):
        connection = Connection(
            agent_port=agent_port, enroll_port=enroll_port, join_token=authority.token(), channel="serial"
        )
        guest = Guest(name="canary", architecture=architecture, memory_mib=1536)
        directory = create_guest(cache, guests, guest, prepared, connection)
        await asyncio.to_thread(switch_on, [directory])
        await controller.until(lambda: controller.names, timeout_s=BOOT_S)
        assert controller.hellos[0].facts.kernel_release.startswith(version)
        yield controller


async def measured(controller: Controller, command_id: str, workload: agent_pb2.RunWorkload) -> common_pb2.WorkloadRun:
    """Order one run, wait for it, and return it when it is OK."""
    workload.repetitions = 1
    controller.order(
        agent_pb2.Command(command_id=command_id, epoch=1, timeout_s=RUN_S, run_workload=workload),
    )
    await controller.until(lambda: controller.outcomes(command_id), timeout_s=RUN_S + 60)
    outcome = controller.outcomes(command_id)[0]
    assert outcome.status == agent_pb2.CommandOutcome.STATUS_COMPLETED, outcome.detail
    (run,) = controller.runs(command_id)
    assert run.status == common_pb2.RUN_STATUS_OK, run.error
    return run


def values(run: common_pb2.WorkloadRun) -> dict[str, float]:
    return {sample.metric: sample.value for sample in run.samples}


@pytest.mark.parametrize(("version", "architecture"), [("7.0.13", "x86_64"), ("7.1.13", "x86_64"), ("7.1.13", "arm64")])
async def test_every_byte_and_slot_comes_back_and_proc_swaps_is_right(
    guests: Path, version: str, architecture: str
) -> None:
    async with running(guests, version, architecture) as controller:
        integrity = workloads_pb2.SwapIntegrity(swap=NVME, memory_bytes=24 * MIB)
        run = await measured(controller, "integrity", agent_pb2.RunWorkload(swap_integrity=integrity))
        found = values(run)
        assert found["swap_integrity.wrong"] == found["swap_integrity.leaked_slots"] == 0
        assert 129 <= found["swap_integrity.highest_count"] <= 131
        scenarios = json.loads(run.evidence["scenarios"])
        assert [each["scenario"] for each in scenarios if each["skipped"]] == []
        assert found["vmstat.pswpin"] > 0
        environment = json.loads(run.evidence["environment"])
        assert environment["kernel_release"].startswith(version)
        assert environment["page_size_bytes"] == 4096

        indicator = workloads_pb2.SwapMountIndicator(swap=NVME, memory_bytes=32 * MIB, cycles=2)
        run = await measured(controller, "indicator", agent_pb2.RunWorkload(swap_mount_indicator=indicator))
        found = values(run)
        assert found["swap_mount_indicator.wrong_readings"] == 0
        assert found["swap_mount_indicator.witnesses_switching_off"] > 0
        assert [each["failed"] for each in json.loads(run.evidence["calls"])][:5] == [True] * 3 + [False, True]

        limit = workloads_pb2.Pressure(memory_limit_bytes=24 * MIB)
        sweep = workloads_pb2.AnonSweep(swap=NVME, pressure=limit, memory_bytes=48 * MIB)
        run = await measured(controller, "sweep", agent_pb2.RunWorkload(anon_sweep=sweep))
        found = values(run)
        assert found["anonymous_sweep.throughput"] > 0
        # Twice the half that does not fit.
        assert found["anonymous_sweep.swapped_in"] > 24
        assert run.evidence["timeline_csv"].count("\n") >= 2


# What the structures add up to: 816 MiB per TiB of capacity and 8 bytes for every slot in use of half of it; since the
# count moved and everything became dynamic, 24 MiB, and 10 bytes for every slot in use.
@pytest.mark.parametrize(("version", "cost"), [("6.18.15", 816 + 1024), ("7.3.4", 24 + 1280)])
async def test_half_full_swap_costs_what_its_structures_add_up_to(guests: Path, version: str, cost: float) -> None:
    async with running(guests, version) as controller:
        fill = workloads_pb2.SwapFill(swap=ZRAM, settle_tolerance_bytes=2 * MIB)
        run = await measured(controller, "fill", agent_pb2.RunWorkload(swap_fill=fill))
        found = values(run)
        assert found["swap_fill.filled"] == pytest.approx(8192, rel=0.01)
        assert found["swap_fill.cost"] == pytest.approx(cost, rel=0.05)
