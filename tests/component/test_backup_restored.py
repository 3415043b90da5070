"""A real agent beside a controller whose database is restored, and whose certificates run out."""

import asyncio
import json
import os
import shutil
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from own_controller import OwnController, free_port, own_controller
from patience import PATIENCE_S

from controller.domain.record.effects import CancelCommand

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = PATIENCE_S


def configure(tmp_path: Path, ports: tuple[int, int], token: str) -> Path:
    config = tmp_path / "agent.toml"
    config.write_text(
        f'host = "h1"\ncontroller = "127.0.0.1:{ports[0]}"\nenroll = "127.0.0.1:{ports[1]}"\n'
        f'join_token = "{token}"\nstate_dir = "{tmp_path / "agent"}"\n'
    )
    return config


async def start(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "agent.main", *arguments),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def finished(*arguments: str) -> tuple[int | None, str]:
    process = await start(*arguments)
    async with asyncio.timeout(DEADLINE_S):
        out, err = await process.communicate()
    return process.returncode, (out + err).decode()


@asynccontextmanager
async def serving(config: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await start("serve", "--config", str(config))
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(DEADLINE_S):
            await process.communicate()


def backed_up(database: Path, to: Path) -> None:
    """Copy the database of a running controller as the manual says."""
    source, copy = sqlite3.connect(database), sqlite3.connect(to)
    source.backup(copy)
    source.close()
    copy.close()


async def connected(controller: OwnController) -> None:
    await controller.until(lambda: controller.sessions.is_connected("h1") and "h1" in controller.engine.world.hosts)


async def obeyed(controller: OwnController, number: int) -> str:
    """Send a command; return why the agent refused it."""
    await controller.sessions.send(CancelCommand(command_id=f"u/h1/{number}", host="h1", target_command_id="u/h1/x"))
    await controller.until(lambda: any(one[0] == f"u/h1/{number}" for one in controller.receipts))
    return next(refused for command_id, refused in controller.receipts if command_id == f"u/h1/{number}")


async def test_a_restored_database_is_obeyed_again(tmp_path: Path) -> None:
    state, ports = tmp_path / "state", (free_port(), free_port())
    async with own_controller(state, *ports) as controller:
        config = configure(tmp_path, ports, await controller.enrollment.create_token(1, 60.0))
        agent = serving(config)
        await agent.__aenter__()
        await connected(controller)
        backed_up(state / "kernroll.db", tmp_path / "backup.db")
    try:
        for life in range(2, 5):
            async with own_controller(state, *ports) as controller:
                await connected(controller)
                assert (await obeyed(controller, life), controller.epochs.current) == ("", life)
        for old in state.glob("kernroll.db*"):
            old.unlink()
        shutil.copy(tmp_path / "backup.db", state / "kernroll.db")
        async with own_controller(state, *ports) as controller:
            await connected(controller)
            assert controller.epochs.current == 5
            assert await obeyed(controller, 9) == ""
            # It is this controller's own epoch: it goes on writing, and so does its next life.
            await controller.enrollment.create_token(1, 60.0)
        async with own_controller(state, *ports) as controller:
            assert controller.epochs.current == 6
    finally:
        await agent.__aexit__(None, None, None)


def end_soon(record: Path, not_after: float | None, renew_at: float) -> None:
    document = json.loads(record.read_bytes())
    document["renew_at"] = renew_at
    if not_after is not None:
        document["not_after"] = not_after
    record.write_text(json.dumps(document))


@pytest.fixture
async def enrolled(tmp_path: Path) -> AsyncIterator[tuple[OwnController, Path, Callable[[], Awaitable[str]]]]:
    ports = free_port(), free_port()
    async with own_controller(tmp_path / "state", *ports) as controller:
        config = configure(tmp_path, ports, await controller.enrollment.create_token(1, 60.0))
        code, said = await finished("enroll", "--config", str(config))
        assert code == 0, said

        async def new_token() -> str:
            token = await controller.enrollment.create_token(1, 60.0)
            configure(tmp_path, ports, token)
            return token

        yield controller, config, new_token


async def test_a_host_comes_back_after_its_certificate_has_run_out(
    tmp_path: Path, enrolled: tuple[OwnController, Path, Callable[[], Awaitable[str]]]
) -> None:
    controller, config, new_token = enrolled
    key = (tmp_path / "agent" / "client.key").read_bytes()
    end_soon(tmp_path / "agent" / "enrollment.json", 1.0, 0.5)
    kept = [line for line in config.read_text().splitlines() if not line.startswith("join_token")]
    config.write_text("\n".join(kept))
    code, said = await finished("serve", "--config", str(config))
    assert code == 4
    assert "the client certificate expired" in said
    assert "set join_token" in said
    await new_token()
    async with serving(config):
        await connected(controller)
    assert (tmp_path / "agent" / "client.key").read_bytes() == key


async def test_a_host_whose_record_was_removed_keeps_its_key(
    tmp_path: Path, enrolled: tuple[OwnController, Path, Callable[[], Awaitable[str]]]
) -> None:
    controller, config, new_token = enrolled
    (tmp_path / "agent" / "enrollment.json").unlink()
    await new_token()
    code, said = await finished("enroll", "--config", str(config))
    assert code == 0, said
    async with serving(config):
        await connected(controller)


@pytest.mark.parametrize("request_kept", [True, False])
async def test_a_certificate_is_renewed_over_the_session(
    tmp_path: Path, enrolled: tuple[OwnController, Path, Callable[[], Awaitable[str]]], request_kept: bool
) -> None:
    controller, config, _ = enrolled
    state = tmp_path / "agent"
    before = (state / "client.crt").read_bytes()
    if not request_kept:
        (state / "client.csr").unlink()
    known = controller.enrollment.identities._enrolled["h1"]
    soon = known.not_after - 86_400.0
    object.__setattr__(known, "not_after", soon)
    end_soon(state / "enrollment.json", soon, 1.0)
    renewal = (
        "import agent.resident.renewal; agent.resident.renewal._SPREAD = 0.0; agent.resident.renewal._RETRY_S = 0.2"
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", f"{renewal}; from agent.main import main; main(['serve', '--config', '{config}'])"),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        await controller.until(lambda: json.loads((state / "enrollment.json").read_bytes())["not_after"] > soon)
        assert (state / "client.crt").read_bytes() != before
    finally:
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(DEADLINE_S):
            _, said = await process.communicate()
    assert b"certificate_renewed" in said
    async with serving(config):
        await connected(controller)


DAMAGES = {
    "ca.crt": "ca.crt is damaged",
    "client.crt": "client.crt is damaged",
    "client.key": "client.key is damaged",
}


@pytest.mark.parametrize("name", DAMAGES)
async def test_a_damaged_file_of_an_enrollment_is_named(
    tmp_path: Path, enrolled: tuple[OwnController, Path, Callable[[], Awaitable[str]]], name: str
) -> None:
    _, config, _ = enrolled
    path = tmp_path / "agent" / name
    path.write_bytes(path.read_bytes()[:60] + b"\nscribble\n")
    code, said = await finished("serve", "--config", str(config))
    assert code == 4, said
    assert DAMAGES[name] in said
    assert "Traceback" not in said
