"""What an operator types and reads about checks, against a real controller on the loopback interface."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from engine_parts import TEXT, Parts, walked
from structlog.testing import capture_logs

from controller.adapters.local.clock import SystemClock
from controller.adapters.pki.certificates import open_authority
from controller.cli.app import run
from controller.domain.record.journey import Step
from controller.main import listen
from controller.services.agents.enrollment import Enrollment
from controller.services.agents.identity import Epochs
from controller.settings import Settings

Captured = pytest.CaptureFixture[str]
CHECKED = f"""{TEXT}  checks:
    - {{name: api-errors, prometheus: {{url: "http://prom:9090", query: errors, max: 0.01}}, dry_run: true}}
    - {{name: database-team, manual: true, on_fail: revert}}
"""


@dataclass(slots=True)
class Cli:
    """The command line as an operator uses it."""

    address: str
    capsys: Captured
    parts: Parts

    async def __call__(self, *arguments: str, code: int = 0) -> str:
        """Run a command; return what it printed, on standard error when it failed."""
        whole = ["--insecure", "--controller", self.address, *arguments]
        assert await asyncio.to_thread(run, whole) == code, self.capsys.readouterr()
        printed = self.capsys.readouterr()
        return printed.err if code else printed.out


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture
async def cli(tmp_path: Path, capsys: Captured) -> AsyncIterator[Cli]:
    # The controller's log would be printed among the commands' output.
    with capture_logs():
        parts = await walked(Step.BAKE, CHECKED)
        parts.clock.at += 60.0
        await parts.engine.settle()
        authority = open_authority(tmp_path / "authority", SystemClock().now())
        address = f"127.0.0.1:{free_port()}"
        settings = Settings(
            state_dir=tmp_path, listen=address, enroll_listen=f"127.0.0.1:{free_port()}", insecure_plaintext=True
        )
        enrollment = Enrollment(parts.store, authority, parts.clock)
        servers = await listen(
            settings, authority, parts.clock, Epochs(parts.store, 1), (parts.sessions, parts.operations, enrollment)
        )
        yield Cli(address, capsys, parts)
        for server in servers:
            await server.stop(None)
        await parts.engine.close()


async def test_status_and_explain_say_what_is_awaited_and_what_to_type(cli: Cli) -> None:
    out = await cli("rollout", "status", "trial")
    assert "Waits: wave 1 of 1 awaits a person's word on database-team" in out
    assert "▶ check api-errors of wave 1 is awaited; only reported" in out
    assert "check database-team must have passed" in out
    told = await cli("rollout", "explain", "trial")
    assert "Next: kernroll rollout check trial database-team --pass" in told


async def test_a_person_reports_and_the_rollout_is_promoted(cli: Cli) -> None:
    out = await cli("rollout", "check", "trial", "database-team", "--pass", "--remark", "replicas are in step")
    assert "✓ check database-team of wave 1 passed (by operator): replicas are in step" in " ".join(out.split())
    await cli.parts.engine.settle()
    data = json.loads(await cli("rollout", "status", "trial", "--output", "json"))
    assert data["state"] == "promoted"
    assert [(one["name"], one["state"], one["value"]) for one in data["checks"]] == [
        ("api-errors", "unanswered", None),
        ("database-team", "passed", None),
    ]
    text = await cli("rollout", "report", "trial")
    assert "check database-team of wave 1: pass (by operator): replicas are in step" in " ".join(text.split())


async def test_a_person_says_that_it_fails(cli: Cli) -> None:
    await cli("rollout", "check", "trial", "database-team", "--fail", "--remark", "replication lags")
    await cli.parts.engine.settle()
    assert "check database-team of wave 1 failed (by operator): replication lags" in await cli(
        "rollout", "explain", "trial"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("trial", "database-team"), 2, "say --pass or --fail"),
        (("trial", "database-teem", "--pass"), 5, "its checks are: api-errors, database-team"),
        (("trial", "api-errors", "--pass"), 6, "is answered by a program (prometheus), not by a person"),
        (("another", "database-team", "--pass"), 5, "there is no rollout another"),
    ],
)
async def test_what_cannot_be_said_is_refused_with_what_can(
    cli: Cli, arguments: tuple[str, ...], code: int, said: str
) -> None:
    assert said in " ".join((await cli("rollout", "check", *arguments, code=code)).split())
