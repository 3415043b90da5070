"""The kernel's own selftests in real VMs: they run, on zram and under a limit, and every case is told."""

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

BOOT_S = 240.0
# A minute of an otherwise idle machine, most of it test_memcontrol; this machine has others to serve.
PROGRAM_S = 150.0
COMMAND_S = 600.0
# Quick ones of both folders; one that is nowhere.
PROGRAMS = ("mm/mkdirty", "mm/madv_populate", "mm/transhuge-stress", "cgroup/test_memcontrol", "mm/no-such-test")


@pytest.fixture
def guests(tmp_path: Path) -> Iterator[Path]:
    """The directory of a fleet; what runs in it at the end of the test is ended."""
    yield tmp_path
    for directory in tmp_path.glob("*/vm.json"):
        stop_vm(directory.parent)


@pytest.mark.parametrize(("version", "architecture"), [("6.18.15", "x86_64"), ("7.3.4", "x86_64"), ("7.3.4", "arm64")])
async def test_every_program_and_case_is_told(guests: Path, version: str, architecture: str) -> None:
    cache = Cache.from_environment()
    prepared = Prepared(
        toolset=prepare_toolset(cache),
        images={architecture: prepare_guest(cache, architecture, workloads=True)},
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
        workload = agent_pb2.RunWorkload(
            repetitions=1,
            preset=workloads_pb2.PRESET_SMALL,
            mm_selftests=workloads_pb2.MmSelftests(programs=PROGRAMS, program_timeout_s=PROGRAM_S),
        )
        controller.order(agent_pb2.Command(command_id="tests", epoch=1, timeout_s=COMMAND_S, run_workload=workload))
        await controller.until(lambda: controller.outcomes("tests"), timeout_s=COMMAND_S + 60)
        outcome = controller.outcomes("tests")[0]
        assert outcome.status == agent_pb2.CommandOutcome.STATUS_COMPLETED, outcome.detail
        (run,) = controller.runs("tests")
        found = {sample.metric: sample.value for sample in run.samples}
        assert found["mm_selftests.passed"] > 10
        assert found["mm_selftests.programs_skipped"] == 1
        assert found["mm_selftests.swapped_out"] > 0
        cases = run.evidence["selftest_cases"].splitlines()
        assert "passed mm/transhuge-stress: its end" in cases
        assert "passed mm/madv_populate: its end" in cases
        assert "skipped mm/no-such-test: its end\tnot among the programs in /usr/libexec/kselftests" in cases
        assert any(case.startswith("passed cgroup/test_memcontrol: ") for case in cases)
        assert "/dev/zram0" in run.evidence["proc_swaps"]
