"""kernroll-boot is asked through the agent: a process of its own, a socket, and the real program on a GRUB machine."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from agent_controller import Controller, cancel, serving_plain, swap_mount
from boot_machine import OTHER, RUNNING
from boot_socket import BootSocket, boot_socket
from grub_machine import GrubMachine, grub_machine
from project import ROOT

from agent.adapters.state.durable import replace_file

STUB_AGENT = Path(__file__).parent / "stub_agent.py"
EMPTY = [sys.executable, "-c", "input(); print('{}')"]


@asynccontextmanager
async def agent(controller: Controller, directory: Path, hanging: str = "") -> AsyncIterator[None]:
    """Run an agent whose host is the directory, connected to the controller."""
    async with serving_plain(controller) as port:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *(str(STUB_AGENT), str(directory), f"127.0.0.1:{port}", "boot-1", hanging),
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests/support'}"},
        )
        try:
            await controller.until(lambda: controller.heartbeats)
            yield
        finally:
            process.send_signal(signal.SIGKILL)
            await process.wait()


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GrubMachine]:
    with grub_machine(tmp_path_factory.mktemp("machine")) as made:
        made.prove()
        yield made


async def test_verbs_reach_the_host_and_are_done_once(machine: GrubMachine, tmp_path: Path) -> None:
    controller = Controller()
    answers = machine.command(sys.executable, "-m", "agent.boot.main", "--root", str(machine.root), "answer")
    async with boot_socket(tmp_path / "boot.sock", answers), agent(controller, tmp_path):
        assert controller.hellos[0].takes_boot_requests
        status = await controller.ask_boot("r1", "status", "--output=json")
        assert (status["loader"], status["default"]) == ("grub", machine.entry_of(RUNNING))
        armed = await controller.ask_boot("r2", "arm", OTHER, "--boot-timeout=900.0", "--command-id=u/a/1.arm.0")
        assert (armed["next"], armed["default"]) == (machine.entry_of(OTHER), machine.entry_of(RUNNING))
        assert machine.environment()["next_entry"] == machine.entry_of(OTHER)
        # GRUB has booted it once, and somebody asks again.
        machine.tool("grub-editenv", "/boot/grub/grubenv", "unset", "next_entry")
        assert (await controller.ask_boot("r3", "arm", OTHER, "--command-id=u/a/1.arm.0"))["next"] == ""
        refused = await controller.ask_boot("r4", "bless", OTHER, "--command-id=u/a/1.bless.0")
        assert (refused["code"], f"{RUNNING} runs and not {OTHER}" in refused["error"]) == ("refused", True)
        other = await controller.ask_boot("r5", "guard", "--stop")
        assert (other["code"], "is not asked over the socket" in other["error"]) == ("refused", True)
        reverted = await controller.ask_boot("r6", "revert", RUNNING, "--reboot", "--command-id=u/a/1.revert.0")
        assert reverted["next"] == ""
        assert machine.boot("observe").returncode == 0
    # None of them was a command of the agent's own.
    assert (controller.receipts, controller.tellings) == ([], [])


async def test_what_changes_on_the_host_is_told_once_with_a_sign_of_life(tmp_path: Path) -> None:
    controller, written = Controller(), tmp_path / "status.json"
    written.write_text('{"default": "old"}')

    def heard() -> list[str]:
        return [one.boot_status for one in controller.heartbeats if one.boot_status]

    async with agent(controller, tmp_path):
        assert controller.hellos[0].boot_status == '{"default": "old"}'
        replace_file(written, b'{"default": "new"}')
        await controller.until(lambda: heard() == ['{"default": "new"}'])
        seen = len(controller.heartbeats)
        await controller.until(lambda: len(controller.heartbeats) > seen + 1)
        assert heard() == ['{"default": "new"}']


async def test_a_workload_that_runs_holds_nothing_up(tmp_path: Path) -> None:
    controller = Controller()
    async with boot_socket(tmp_path / "boot.sock", EMPTY), agent(controller, tmp_path, "swapon"):
        controller.order(swap_mount("c1"))
        await controller.until(lambda: any(each.step == "swapon" for each in controller.progress))
        assert await controller.ask_boot("r1", "revert", "d1", "--reboot") == {}
        seen = len(controller.heartbeats)
        await controller.until(lambda: len(controller.heartbeats) > seen)
        assert list(controller.heartbeats[-1].active_command_ids) == ["c1"]
        controller.order(cancel("c2", "c1"))
        await controller.until(lambda: controller.outcomes("c1"))


@pytest.mark.parametrize(
    ("program", "told"),
    [
        ("pass", "ended without an answer"),
        ("import sys; input(); sys.stdout.buffer.write(b'\\xff')", "ended without an answer"),
        ("input(); print('x' * (300 << 10))", "says more than"),
    ],
)
async def test_a_program_that_does_not_answer_is_told_of(tmp_path: Path, program: str, told: str) -> None:
    controller = Controller()
    async with boot_socket(tmp_path / "boot.sock", [sys.executable, "-c", program]), agent(controller, tmp_path):
        found = await controller.ask_boot("r1", "status")
        assert (found["code"], told in found["error"]) == ("unanswered", True)


async def test_one_that_takes_too_long_is_not_waited_for_and_no_crowd_is_let_in(tmp_path: Path) -> None:
    controller = Controller()
    async with boot_socket(tmp_path / "boot.sock", EMPTY) as listens, agent(controller, tmp_path):
        listens.open.clear()
        late = await controller.ask_boot("r1", "status", timeout_s=0.05)
        assert (late["code"], "has not answered within 0.05 s" in late["error"]) == ("unanswered", True)
        waiting = [asyncio.create_task(controller.ask_boot(f"w{number}", "status")) for number in range(4)]
        await connected(listens, 5)
        crowd = await controller.ask_boot("r2", "status")
        assert (crowd["code"], "4 requests to kernroll-boot wait" in crowd["error"]) == ("unanswered", True)
        listens.open.set()
        assert await asyncio.gather(*waiting) == [{}] * 4
        assert await controller.ask_boot("r3", "status") == {}


async def connected(listens: BootSocket, count: int) -> None:
    """Wait until so many have connected."""
    while listens.connections < count:  # noqa: ASYNC110 -- processes of their own tell nobody
        await asyncio.sleep(0.01)


async def test_a_controller_that_does_not_lead_any_more_is_not_listened_to(tmp_path: Path) -> None:
    controller = Controller()
    controller.epoch = 7
    async with boot_socket(tmp_path / "boot.sock", EMPTY) as listens, agent(controller, tmp_path):
        stale = await controller.ask_boot("r1", "disarm", epoch=6)
        assert (stale["code"], "stale epoch 6" in stale["error"], listens.connections) == ("unanswered", True, 0)
        assert await controller.ask_boot("r2", "disarm", epoch=7) == {}


async def test_where_nobody_listens_the_hello_says_so(tmp_path: Path) -> None:
    controller = Controller()
    async with agent(controller, tmp_path):
        assert not controller.hellos[0].takes_boot_requests
        found = await controller.ask_boot("r1", "status")
        assert (found["code"], "is kernroll-boot.socket up?" in found["error"]) == ("unanswered", True)
