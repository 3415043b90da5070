"""Verbs that need no controller: facts, sweep, and one local run of a workload."""

import asyncio
import json
import signal
import sys
from dataclasses import asdict
from pathlib import Path

from agent.adapters.host.host import read_facts
from agent.adapters.state.run_file import RunFile, run_files_of
from agent.domain.orders.orders import Order
from agent.domain.results import CommandOutcome, OutcomeStatus, WorkloadRun
from agent.domain.session.commands import RunWorkload
from agent.exits import Exit
from agent.locks import workload_lock
from agent.resident.serve import local_host, open_state, protect_process, wall_clock
from agent.settings import load
from agent.workloads.registry import workload_for
from agent.workloads.rig.undoing import sweep as sweep_host
from agent.workloads.runner import Plan, Stop, StopReason, drive

_CODES = {
    OutcomeStatus.COMPLETED: Exit.OK,
    OutcomeStatus.FAILED: Exit.KERNEL_WANTING,
    OutcomeStatus.CANCELLED: Exit.CANCELLED,
}
# Evidence that is written for people.
_TOLD = ("selftests",)


def facts(config: Path | None, *, output: str) -> str:
    """Return the host's facts. Raises ConfigError."""
    settings = load(config) if config else None
    host = read_facts(
        labels=settings.labels if settings else {}, platform_override=settings.platform if settings else None
    )
    document = asdict(host)
    if output == "json":
        return json.dumps(document, indent=2)
    return "\n".join(f"{name:20} {value}" for name, value in document.items())


async def sweep(state_dir: Path, *, output: str) -> str:
    """Take down what a killed agent left. Raises RigError, KernelWanting."""
    open_state(state_dir)
    with workload_lock(state_dir).held():
        undone = await sweep_host(local_host(state_dir))
    if output == "json":
        return json.dumps([{"kind": type(each).__name__, **asdict(each)} for each in undone])
    return "\n".join(f"taken down: {each!r}" for each in undone) or "nothing was left behind"


def inspect(order: Order, *, state_dir: Path, output: str) -> tuple[Exit, str]:
    """Say what a run would touch and what speaks against it; touches nothing, not even the state directory."""
    inspection = workload_for(order, local_host(state_dir)).inspect()
    code = Exit.RIG if inspection.refusals else Exit.OK
    if output == "json":
        return code, json.dumps({"order": asdict(order), **asdict(inspection)}, indent=2)
    lines = [f"{order.workload} would do this, and touch nothing else:"]
    lines += [f"  - {each}" for each in inspection.touches]
    lines += [f"it would not: {each}" for each in inspection.refusals] or ["nothing speaks against it"]
    return code, "\n".join(lines)


async def run(workload: RunWorkload, *, state_dir: Path, timeout_s: float, output: str) -> tuple[Exit, str]:
    """Run a workload here and keep every run as it ends; SIGINT and SIGTERM cancel it, cleaned up. Raises RigError."""
    open_state(state_dir)
    protect_process()
    host = local_host(state_dir)
    stop = Stop()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.request, StopReason.CANCELLED)
    plan = Plan(warmups=workload.warmups, repetitions=workload.repetitions, timeout_s=timeout_s)
    file = RunFile(run_files_of(state_dir), workload=workload.order.workload, begun_at=wall_clock())
    listener = _Terminal(file)
    with workload_lock(state_dir).held():
        outcome = await drive(workload_for(workload.order, host), plan, host, listener, stop)
    code = _CODES.get(outcome.status, Exit.RIG)
    kept = str(file.path) if file.kept_runs else None
    if kept:
        print(f"{file.kept_runs} of {len(listener.runs)} runs are kept in {kept}", file=sys.stderr)
    if output == "json":
        runs = [asdict(each) for each in listener.runs]
        document = {"outcome": asdict(outcome), "runs": runs, "runs_file": kept}
        return code, json.dumps(document, indent=2)
    return code, _as_text(outcome, listener.runs)


class _Terminal:
    """Shows progress on standard error and keeps the runs."""

    def __init__(self, file: RunFile) -> None:
        self.runs: list[WorkloadRun] = []
        self._file = file

    async def run_begun(self, index: int) -> None:
        print(f"run {index}", file=sys.stderr)

    async def run_ended(self, run: WorkloadRun) -> None:
        self.runs.append(run)
        if problem := self._file.add(run):
            print(f"run {run.index} is in memory only: {problem}", file=sys.stderr)

    def clean_up_begun(self) -> None:
        """Nothing is kept: a sweep is what follows a death here."""

    def progress(self, step: str, fraction: float) -> None:
        print(f"  {fraction:4.0%}  {step}", file=sys.stderr)


def _as_text(outcome: CommandOutcome, runs: list[WorkloadRun]) -> str:
    lines = []
    for run in runs:
        kind = "warm-up" if run.warmup else "run"
        lines.append(f"{kind} {run.index} on {run.kernel_release}: {run.status} {run.error}".rstrip())
        lines += [f"  {sample.metric:28} {sample.value:12.3f} {sample.unit}" for sample in run.samples]
        lines += [f"  {line}" for name in _TOLD for line in run.evidence.get(name, "").splitlines()]
    lines.append(f"{outcome.status}: {outcome.detail}" if outcome.detail else str(outcome.status))
    return "\n".join(lines)
