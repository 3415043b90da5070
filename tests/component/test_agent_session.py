"""The agent against a controller on loopback: obeys once, reports until acknowledged, and survives being killed."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from agent_controller import Controller, cancel, serving_plain, swap_mount
from fake_kernel import DEVICE, FakeKernel

from protos.kernroll.v1 import agent_pb2, common_pb2

STUB_AGENT = Path(__file__).parent / "stub_agent.py"
ROOT = Path(__file__).resolve().parents[2]
Outcome = agent_pb2.CommandOutcome


class Fleet:
    """One controller, and the agent processes on one host's directory."""

    def __init__(self, controller: Controller, directory: Path, port: int) -> None:
        self.controller = controller
        self.directory = directory
        self.port = port
        self.kernel = FakeKernel(directory)

    async def start_agent(self, *, boot_id: str = "boot-1", hanging: str = "") -> asyncio.subprocess.Process:
        greeted = len(self.controller.hellos)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(STUB_AGENT),
            str(self.directory),
            f"127.0.0.1:{self.port}",
            boot_id,
            hanging,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests/support'}"},
        )
        self.processes.append(process)
        await self.controller.until(lambda: len(self.controller.hellos) > greeted)
        return process

    processes: list[asyncio.subprocess.Process]


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    controller = Controller()
    async with serving_plain(controller) as port:
        fleet = Fleet(controller, tmp_path, port)
        fleet.processes = []
        yield fleet
        for process in fleet.processes:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def test_a_command_is_received_run_and_reported(fleet: Fleet) -> None:
    await fleet.start_agent()
    controller = fleet.controller
    hello = controller.hellos[0]
    assert (hello.protocol_version, hello.host, hello.facts.labels["zone"]) == (1, "host-1", "a")
    assert hello.facts.architecture in {"x86_64", "arm64"}
    assert hello.facts.page_size_bytes and hello.facts.memory_bytes and hello.facts.boot_id
    controller.order(swap_mount("c1", repetitions=2))
    await controller.until(lambda: controller.outcomes("c1"))
    assert [(each.command_id, each.refused) for each in controller.receipts] == [("c1", "")]
    assert [run.status for run in controller.runs("c1")] == [common_pb2.RUN_STATUS_OK] * 2
    costs = [
        sample.value for run in controller.runs("c1") for sample in run.samples if sample.metric == "swap_mount.cost"
    ]
    assert costs == [pytest.approx(816, abs=0.1)] * 2
    assert controller.outcomes("c1")[0].status == Outcome.STATUS_COMPLETED
    assert all(report.boot_id == "boot-1" for report in controller.reports.values())
    await controller.until(lambda: controller.heartbeats and controller.heartbeats[-1].spooled_reports == 0)
    assert controller.progress
    assert fleet.kernel.is_pristine()


async def test_a_repeated_command_runs_once(fleet: Fleet) -> None:
    await fleet.start_agent()
    controller = fleet.controller
    for _ in range(3):
        controller.order(swap_mount("c1"))
    await controller.until(lambda: controller.outcomes("c1") and len(controller.receipts) == 3)
    controller.order(swap_mount("c1"))
    await controller.until(lambda: len(controller.receipts) == 4)
    controller.order(swap_mount("c2"))
    await controller.until(lambda: controller.outcomes("c2"))
    assert len(controller.tellings) == len(controller.reports) == 4
    assert {each.refused for each in controller.receipts} == {""}


async def test_unacknowledged_reports_come_again_after_a_disconnect_and_a_restart(fleet: Fleet) -> None:
    controller = fleet.controller
    controller.acknowledges = False
    process = await fleet.start_agent()
    controller.order(swap_mount("c1"))
    await controller.until(lambda: controller.outcomes("c1"))
    assert len(controller.tellings) == 2
    controller.hang_up()
    await controller.until(lambda: len(controller.tellings) == 4)
    process.send_signal(signal.SIGKILL)
    await process.wait()
    await fleet.start_agent()
    await controller.until(lambda: len(controller.tellings) == 6)
    assert len(controller.reports) == 2
    assert len({report.SerializeToString(deterministic=True) for report in controller.tellings}) == 2
    # Acknowledged at last, they are forgotten.
    controller.say(
        agent_pb2.ControllerMessage(acknowledgement=agent_pb2.Acknowledgement(report_ids=list(controller.reports)))
    )
    seen = len(controller.heartbeats)
    await controller.until(lambda: controller.heartbeats[-1].spooled_reports == 0 and len(controller.heartbeats) > seen)
    assert list((fleet.directory / "spool").glob("*.report")) == []


async def test_the_controller_goes_away_while_a_command_runs(tmp_path: Path) -> None:
    controller = Controller()
    async with serving_plain(controller) as port:
        fleet = Fleet(controller, tmp_path, port)
        fleet.processes = []
        process = await fleet.start_agent(hanging="swapon")
        controller.order(swap_mount("c1", timeout_s=2.0))
        await controller.until(lambda: controller.receipts)
    successor = Controller()
    async with serving_plain(successor, port):
        await successor.until(lambda: successor.outcomes("c1"))
        assert successor.outcomes("c1")[0].status == Outcome.STATUS_TIMED_OUT
        assert successor.runs("c1")[0].status == common_pb2.RUN_STATUS_TIMED_OUT
        assert fleet.kernel.is_pristine()
        process.kill()
        await process.wait()


async def test_killed_half_way_the_run_is_reported_as_died(fleet: Fleet) -> None:
    controller = fleet.controller
    process = await fleet.start_agent(hanging="swapon")
    controller.order(swap_mount("c1"))
    await controller.until(lambda: any(each.step == "swapon" for each in controller.progress))
    process.send_signal(signal.SIGKILL)
    await process.wait()
    assert fleet.kernel.swaps == (DEVICE,)
    await fleet.start_agent()
    await controller.until(lambda: controller.outcomes("c1"))
    assert controller.outcomes("c1")[0].status == Outcome.STATUS_DIED
    assert [run.status for run in controller.runs("c1")] == [common_pb2.RUN_STATUS_DIED]
    assert "the agent was killed during run 0" in controller.runs("c1")[0].error
    assert fleet.kernel.swaps == ()
    assert controller.hellos[-1].active_command_ids == []
    # It is over: sent again, it is not run again.
    controller.order(swap_mount("c1"))
    await controller.until(lambda: len(controller.receipts) == 2)
    assert len(controller.reports) == 2


async def test_a_reboot_half_way_is_reported_under_the_former_boot(fleet: Fleet) -> None:
    controller = fleet.controller
    process = await fleet.start_agent(hanging="swapon")
    controller.order(swap_mount("c1"))
    await controller.until(lambda: any(each.step == "swapon" for each in controller.progress))
    process.send_signal(signal.SIGKILL)
    await process.wait()
    fleet.kernel.write_swaps(())
    await fleet.start_agent(boot_id="boot-2")
    await controller.until(lambda: controller.outcomes("c1"))
    assert {report.boot_id for report in controller.reports.values()} == {"boot-1"}
    assert "the host was restarted" in controller.outcomes("c1")[0].detail


async def test_told_to_end_the_agent_cleans_up_and_hands_over(fleet: Fleet) -> None:
    controller = fleet.controller
    process = await fleet.start_agent(hanging="swapon")
    controller.order(swap_mount("c1"))
    await controller.until(lambda: any(each.step == "swapon" for each in controller.progress))
    process.send_signal(signal.SIGTERM)
    await controller.until(lambda: controller.outcomes("c1"))
    assert await process.wait() == 0
    assert controller.outcomes("c1")[0].status == Outcome.STATUS_DIED
    assert fleet.kernel.is_pristine()


async def test_cancelled_by_the_controller(fleet: Fleet) -> None:
    controller = fleet.controller
    await fleet.start_agent(hanging="swapon")
    controller.order(swap_mount("c1"))
    await controller.until(lambda: any(each.step == "swapon" for each in controller.progress))
    controller.order(swap_mount("c2"))
    await controller.until(lambda: controller.outcomes("c2"))
    assert controller.outcomes("c2")[0].status == Outcome.STATUS_REFUSED
    assert controller.receipts[-1].refused == "busy with command c1"
    controller.order(cancel("x1", "c1"))
    await controller.until(lambda: controller.outcomes("c1"))
    assert controller.outcomes("c1")[0].status == Outcome.STATUS_CANCELLED
    assert controller.runs("c1")[0].status == common_pb2.RUN_STATUS_CANCELLED
    assert controller.outcomes("x1") == []
    assert fleet.kernel.is_pristine()


async def test_cancelled_before_it_arrives_it_never_starts(fleet: Fleet) -> None:
    controller = fleet.controller
    await fleet.start_agent()
    controller.order(cancel("x1", "c1"))
    await controller.until(lambda: controller.outcomes("c1"))
    controller.order(swap_mount("c1"))
    await controller.until(lambda: len(controller.receipts) == 2)
    assert controller.outcomes("c1")[0].status == Outcome.STATUS_CANCELLED
    assert controller.runs("c1") == []


async def test_unknown_commands_and_workloads_are_answered(fleet: Fleet) -> None:
    controller = fleet.controller
    await fleet.start_agent()
    controller.order(agent_pb2.Command(command_id="c1", epoch=1))
    controller.order(agent_pb2.Command(command_id="c2", epoch=1, run_workload=agent_pb2.RunWorkload(repetitions=1)))
    # A message of a later version: field 15 of the oneof is unknown here.
    controller.say(agent_pb2.ControllerMessage.FromString(b"\x7a\x00"))
    controller.order(swap_mount("c3"))
    await controller.until(lambda: controller.outcomes("c3"))
    for command_id in ("c1", "c2"):
        assert controller.outcomes(command_id)[0].status == Outcome.STATUS_UNSUPPORTED
    assert controller.outcomes("c3")[0].status == Outcome.STATUS_COMPLETED
    assert len(controller.hellos) == 1


async def test_a_controller_that_no_longer_leads_is_refused(fleet: Fleet) -> None:
    controller = fleet.controller
    controller.epoch = 7
    process = await fleet.start_agent()
    controller.order(swap_mount("c1", epoch=6))
    await controller.until(lambda: controller.outcomes("c1"))
    assert controller.outcomes("c1")[0].status == Outcome.STATUS_REFUSED
    assert "stale epoch 6" in controller.receipts[0].refused
    process.kill()
    await process.wait()
    await fleet.start_agent()
    assert controller.hellos[-1].highest_epoch == 7
    # The controller that leads sends the very same command, and is obeyed.
    controller.order(swap_mount("c1", epoch=7))
    await controller.until(lambda: len(controller.outcomes("c1")) == 2)
    assert controller.outcomes("c1")[1].status == Outcome.STATUS_COMPLETED


async def test_goodbye_and_a_foreign_protocol_version_are_survived(fleet: Fleet) -> None:
    controller = fleet.controller
    controller.protocol_version = 2
    await fleet.start_agent()
    await controller.until(lambda: len(controller.hellos) >= 2)
    controller.protocol_version = 1
    await controller.until(lambda: controller.heartbeats)
    greeted = len(controller.hellos)
    controller.say(agent_pb2.ControllerMessage(goodbye=agent_pb2.Goodbye(reason="restarting", retry_after_s=0.1)))
    await controller.until(lambda: len(controller.hellos) > greeted)
