"""A run that does not come to its end carries what the kernel counted all the same, and what the workload kept."""

import asyncio
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fake_host import FakeProcess
from fake_kernel import FakeKernel
from measuring_host import Recorder
from structlog.testing import capture_logs

from agent.domain.errors import KernelWanting, RigError, WorkloadDied
from agent.domain.results import OutcomeStatus, RunStatus, Sample, WorkloadRun
from agent.workloads.port import Inspection, Measurement, StepReporter
from agent.workloads.recorded import Recorded
from agent.workloads.runner import Plan, Stop, StopReason, drive

KEPT = {"words": "what it saw"}


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with capture_logs():
        yield


class Ending:
    """A workload in whose run the kernel swaps for some seconds before it ends as the test says."""

    name = "ending"

    def __init__(self, process: FakeProcess, *errors: Exception | None) -> None:
        self._process = process
        # None never ends by itself.
        self._errors = list(errors)
        self.swapping = asyncio.Event()

    def inspect(self) -> Inspection:
        return Inspection(touches=())

    async def prepare(self, step: StepReporter) -> None:
        self._process.host().workers.confine(1 << 20)

    async def run(self, step: StepReporter) -> Measurement:
        for _ in range(3):
            await self._process.host().sleep(1.0)
            self._process.kernel.count_swapping(100, 50)
        self.swapping.set()
        error = self._errors.pop(0)
        if error is None:
            await asyncio.Event().wait()
        raise error or AssertionError("never reached")

    async def clean_up(self) -> None:
        """Nothing is set up."""


async def environment() -> str:
    return '{"schema": 1}'


async def go(
    root: Path, *errors: Exception | None, timeout_s: float = 60.0, stopped_by: StopReason | None = None
) -> list[WorkloadRun]:
    process, recorder, stop = FakeProcess(FakeKernel(root)), Recorder(), Stop()
    inner = Ending(process, *errors)
    host = replace(process.host(), environment=environment)
    workload = Recorded(inner, host, every_second=True)
    plan = Plan(warmups=0, repetitions=len(errors), timeout_s=timeout_s)
    command = asyncio.create_task(drive(workload, plan, host, recorder, stop))
    if stopped_by is not None:
        await inner.swapping.wait()
        stop.request(stopped_by)
    await command
    return recorder.runs


def check_recorded(run: WorkloadRun) -> None:
    values = {sample.metric: sample.value for sample in run.samples}
    assert (values["vmstat.pswpin"], values["vmstat.pswpout"]) == (300, 150)
    assert values["swap.foreign_used"] == 0.0
    assert json.loads(run.evidence["vmstat_delta"]) == {"pswpin": 300, "pswpout": 150}
    assert run.evidence["cgroup_memory_max"] == str(1 << 20)
    assert run.evidence["timeline_csv"].count("\n") >= 3


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (KernelWanting("wrong", evidence=KEPT), RunStatus.FAILED),
        (WorkloadDied("killed", evidence=KEPT), RunStatus.DIED),
        (RigError("not valid", evidence=KEPT), RunStatus.INFRASTRUCTURE),
    ],
)
async def test_whatever_a_run_ends_with_it_is_recorded(tmp_path: Path, error: Exception, status: RunStatus) -> None:
    (run,) = await go(tmp_path, error)
    assert (run.status, run.error) == (status, str(error))
    check_recorded(run)
    assert run.evidence["words"] == "what it saw"
    assert run.evidence["environment"] == '{"schema": 1}'


class Strange(Ending):
    """Comes to its end, and a number that it brings is none."""

    def __init__(self, process: FakeProcess, value: float) -> None:
        super().__init__(process)
        self._value = value

    async def run(self, step: StepReporter) -> Measurement:
        samples = (Sample(metric="rate", value=self._value, unit="1/s"), Sample(metric="time", value=1.5, unit="s"))
        return Measurement(samples=samples, evidence=KEPT)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
async def test_a_run_with_a_value_that_is_no_number_is_not_valid_whatever_the_others_say(
    tmp_path: Path, value: float
) -> None:
    process, recorder = FakeProcess(FakeKernel(tmp_path)), Recorder()
    plan = Plan(warmups=0, repetitions=1, timeout_s=60.0)
    outcome = await drive(Strange(process, value), plan, process.host(), recorder, Stop())
    (run,) = recorder.runs
    assert (outcome.status, run.status) == (OutcomeStatus.INFRASTRUCTURE, RunStatus.INFRASTRUCTURE)
    assert run.error == f"the run is not valid: rate is {value}, which is no number"
    assert ([sample.metric for sample in run.samples], run.evidence) == (["time"], KEPT)


async def test_a_bug_and_a_file_that_is_gone_are_recorded_too(tmp_path: Path) -> None:
    for number, error in enumerate((OSError("gone"), ZeroDivisionError("a bug of ours"))):
        (tmp_path / str(number)).mkdir()
        (run,) = await go(tmp_path / str(number), error)
        assert run.status is RunStatus.INFRASTRUCTURE
        check_recorded(run)


async def test_what_the_workload_kept_stands(tmp_path: Path) -> None:
    (run,) = await go(tmp_path, KernelWanting("wrong", evidence={"vmstat_delta": "its own"}))
    assert run.evidence["vmstat_delta"] == "its own"


async def test_a_run_that_takes_too_long_is_recorded(tmp_path: Path) -> None:
    (run,) = await go(tmp_path, None, timeout_s=0.2)
    assert run.status is RunStatus.TIMED_OUT
    check_recorded(run)


@pytest.mark.parametrize(
    ("reason", "status"),
    [(StopReason.CANCELLED, RunStatus.CANCELLED), (StopReason.AGENT_ENDS, RunStatus.DIED)],
)
async def test_a_run_that_is_stopped_is_recorded(tmp_path: Path, reason: StopReason, status: RunStatus) -> None:
    (run,) = await go(tmp_path, None, stopped_by=reason)
    assert run.status is status
    check_recorded(run)


async def test_every_run_carries_its_own_record_and_the_first_the_environment(tmp_path: Path) -> None:
    first, second = await go(tmp_path, KernelWanting("wrong"), KernelWanting("again"))
    check_recorded(first)
    check_recorded(second)
    assert ["environment" in run.evidence for run in (first, second)] == [True, False]


async def test_a_record_that_cannot_be_made_does_not_hide_why_the_run_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(*readings: object) -> dict[str, str]:
        raise OSError("input/output error")

    monkeypatch.setattr("agent.workloads.recorded.evidence_between", unreadable)
    (run,) = await go(tmp_path, KernelWanting("wrong", evidence=KEPT))
    assert (run.status, run.error, run.evidence) == (RunStatus.FAILED, "wrong", KEPT)
