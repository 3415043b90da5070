"""A controller that cannot start leaves nothing at work: not on its closed store, and no process."""

import asyncio
import socket
from pathlib import Path

import pytest
from own_controller import free_port

from controller.domain.errors import Permanent
from controller.domain.record.effects import StageKernel
from controller.lab.demo import ControllerProcess
from controller.main import _serve
from controller.services.engine.engine import Engine
from controller.settings import Settings

STAGE = StageKernel(command_id="u1/a/0.stage.0", host="a", kernel="nowhere")


async def with_outstanding(engine: Engine) -> None:
    """Continue as a controller does that had something to do when it ended."""
    engine.outstanding[STAGE.command_id] = STAGE
    engine.on_effects((STAGE,))
    # Let it begin.
    await asyncio.sleep(0)


@pytest.mark.parametrize("which", ["listen", "enroll_listen"])
async def test_a_port_that_is_taken_ends_everything_that_had_begun(
    which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Engine, "start", with_outstanding)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ports = {"listen": free_port(), "enroll_listen": free_port(), which: taken.getsockname()[1]}
        addresses = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
        settings = Settings(state_dir=tmp_path, cache_dir=tmp_path / "cache", **addresses)
        with pytest.raises(Permanent, match="cannot listen on"):
            await _serve(settings)
    others = asyncio.all_tasks() - {asyncio.current_task()}
    assert [task.get_coro().__qualname__ for task in others if "Performer" in repr(task)] == []


def test_a_process_that_is_given_up_is_ended(tmp_path: Path) -> None:
    controller = ControllerProcess(tmp_path)
    with pytest.raises(Permanent, match="the controller did not start"):
        controller.start(timeout_s=0.0)
    pid = controller.pid_file.read_text(encoding="utf-8")
    assert not Path("/proc", pid).exists()
