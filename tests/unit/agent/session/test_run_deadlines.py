"""How long one run of a command may take, and what becomes of one that takes longer, in virtual time."""

import asyncio
from pathlib import Path

import pytest
from fake_host import FakeProcess
from fake_kernel import FakeKernel

from agent.domain.errors import KernelWanting, RigError
from agent.domain.results import CommandOutcome, OutcomeStatus, RunStatus, WorkloadRun
from agent.workloads.port import Inspection, Measurement, StepReporter
from agent.workloads.recorded import Recorded
from agent.workloads.runner import Plan, Stop, drive
from controller.sim.virtual_loop import run_virtually


class Sleeping:
    """A workload whose runs take as long as the test says."""

    name = "sleeping"

    def __init__(self, *runs_s: float, prepare_s: float = 0.0) -> None:
        self._runs_s = list(runs_s)
        self._prepare_s = prepare_s
        # Raised where a run that was cancelled takes down what it had set up.
        self.stuck: Exception | None = None
        self.cleaned_up = 0

    def inspect(self) -> Inspection:
        return Inspection(touches=())

    async def prepare(self, step: StepReporter) -> None:
        await _pass(self._prepare_s)

    async def run(self, step: StepReporter) -> Measurement:
        try:
            await _pass(self._runs_s.pop(0))
        except asyncio.CancelledError:
            if self.stuck:
                raise self.stuck from None
            raise
        return Measurement(samples=())

    async def clean_up(self) -> None:
        self.cleaned_up += 1


class Recorder:
    """Keeps the runs and when they ended."""

    def __init__(self) -> None:
        self.runs: list[WorkloadRun] = []
        self.ended_s: list[float] = []

    async def run_begun(self, index: int) -> None:
        """Nothing is kept of the beginning."""

    async def run_ended(self, run: WorkloadRun) -> None:
        self.runs.append(run)
        self.ended_s.append(asyncio.get_running_loop().time())

    def clean_up_begun(self) -> None:
        """Nothing is kept of it."""

    def progress(self, step: str, fraction: float) -> None:
        assert 0.0 <= fraction <= 1.0


async def _pass(duration_s: float) -> None:
    over = asyncio.Event()
    asyncio.get_running_loop().call_later(duration_s, over.set)
    await over.wait()


def go(root: Path, workload: Sleeping, plan: Plan) -> tuple[CommandOutcome, Recorder]:
    recorder = Recorder()

    async def command() -> CommandOutcome:
        host = FakeProcess(FakeKernel(root)).host()
        return await drive(Recorded(workload, host, every_second=False), plan, host, recorder, Stop())

    return run_virtually(command), recorder


@pytest.mark.parametrize(
    ("timeout_s", "runs", "run_timeout_s"),
    [(3600.0, 8, 900.0), (3600.0, 2, 3600.0), (3600.0, 1, 3600.0), (3600.0, 1000, 60.0), (30.0, 8, 30.0)],
)
def test_a_run_may_take_twice_its_share(timeout_s: float, runs: int, run_timeout_s: float) -> None:
    assert Plan(warmups=0, repetitions=runs, timeout_s=timeout_s).run_timeout_s == run_timeout_s
    assert Plan(warmups=runs - 1, repetitions=1, timeout_s=timeout_s).run_timeout_s == run_timeout_s


def test_a_run_that_hangs_leaves_the_others_their_time(tmp_path: Path) -> None:
    workload = Sleeping(1e9, 100.0, 100.0, 100.0)
    outcome, recorder = go(tmp_path, workload, Plan(warmups=1, repetitions=3, timeout_s=1000.0))
    assert [run.status for run in recorder.runs] == [RunStatus.TIMED_OUT, *[RunStatus.OK] * 3]
    assert recorder.ended_s == [500.0, 600.0, 700.0, 800.0]
    late = "not finished within 500 s, which is what one of 4 runs may take of the command's 1000 s"
    assert recorder.runs[0].error == late
    assert outcome == CommandOutcome(status=OutcomeStatus.TIMED_OUT, detail=f"1 of 4 runs took too long; first: {late}")
    assert workload.cleaned_up == 1


def test_all_runs_together_never_take_longer_than_the_command_may(tmp_path: Path) -> None:
    workload = Sleeping(*[1e9] * 4, prepare_s=250.0)
    outcome, recorder = go(tmp_path, workload, Plan(warmups=0, repetitions=4, timeout_s=1000.0))
    assert recorder.ended_s == [750.0, 1000.0]
    assert outcome.status is OutcomeStatus.TIMED_OUT
    assert outcome.detail == recorder.runs[1].error == "not finished within the command's 1000 s"


def test_preparing_may_take_all_the_time_there_is(tmp_path: Path) -> None:
    workload = Sleeping(10.0, 10.0, 10.0, prepare_s=900.0)
    outcome, _ = go(tmp_path, workload, Plan(warmups=0, repetitions=3, timeout_s=1000.0))
    assert outcome.status is OutcomeStatus.COMPLETED


@pytest.mark.parametrize(
    ("stuck", "status"),
    [
        (RigError("the device is gone"), RunStatus.INFRASTRUCTURE),
        (KernelWanting("swapoff does not end"), RunStatus.FAILED),
    ],
)
def test_no_run_follows_one_that_could_not_take_down_what_it_had_set_up(
    tmp_path: Path, stuck: Exception, status: RunStatus
) -> None:
    workload = Sleeping(1e9, 1.0, 1.0, 1.0)
    workload.stuck = stuck
    outcome, recorder = go(tmp_path, workload, Plan(warmups=0, repetitions=4, timeout_s=1000.0))
    assert [run.status for run in recorder.runs] == [status]
    assert str(stuck) in outcome.detail
