"""The panic on purpose: what it writes where, and what is said when nothing happens."""

from pathlib import Path

import pytest
from measuring_host import Recorder, prepared

from agent.domain.errors import InvalidOrder
from agent.domain.orders.orders import PanicDrillOrder
from agent.domain.results import CommandOutcome, OutcomeStatus
from agent.workloads.registry import workload_for
from agent.workloads.runner import Plan, Stop, drive

ORDER = PanicDrillOrder(confirm=True)


def trigger_of(root: Path) -> Path:
    return root / "proc/sysrq-trigger"


async def drill(root: Path) -> tuple[CommandOutcome, Recorder]:
    process, _ = prepared(root)
    host, recorder = process.host(), Recorder()
    plan = Plan(warmups=0, repetitions=1, timeout_s=600.0)
    return await drive(workload_for(ORDER, host), plan, host, recorder, Stop()), recorder


def test_it_takes_a_confirmation() -> None:
    with pytest.raises(InvalidOrder, match="--confirm"):
        PanicDrillOrder()


async def test_it_asks_the_kernel_to_crash_and_says_when_that_did_not_help(tmp_path: Path) -> None:
    trigger_of(tmp_path).parent.mkdir()
    trigger_of(tmp_path).write_text("")
    outcome, recorder = await drill(tmp_path)
    assert trigger_of(tmp_path).read_text() == "c"
    assert outcome.status is OutcomeStatus.INFRASTRUCTURE
    assert "did not panic within 30 s" in recorder.runs[0].error


async def test_a_kernel_without_the_key_is_left_alone(tmp_path: Path) -> None:
    outcome, recorder = await drill(tmp_path)
    assert outcome.status is OutcomeStatus.INFRASTRUCTURE
    assert "CONFIG_MAGIC_SYSRQ" in outcome.detail
    assert recorder.runs == []


def test_what_would_be_touched_can_be_told_before(tmp_path: Path) -> None:
    process, _ = prepared(tmp_path)
    inspection = workload_for(ORDER, process.host()).inspect()
    assert "panics the running kernel" in inspection.touches[0]
    assert "no magic SysRq" in inspection.refusals[0]
