"""A soak under stress-ng: survival first, then bogo operations per second.

The vm stressors write memory that does not fit and check it; the swap stressors switch small swap files of their own on
and off meanwhile. Under a memory limit the kernel may kill a stressor: stress-ng starts another, and the run counts it.
"""

from agent.domain.errors import KernelWanting, RigError, WorkloadDied
from agent.domain.host.memory import MIB
from agent.domain.orders.orders import StressNgOrder
from agent.domain.orders.preflight import Needs
from agent.domain.results import Sample
from agent.domain.work.leftovers import MadeDirectory, SwapFilesBelow
from agent.domain.work.stress_ng import parse_metrics
from agent.workloads.deaths import killed_for_memory
from agent.workloads.port import Ended, Host, Inspection, Measurement, StepReporter
from agent.workloads.rig.rig import Rig, pages_to_mib

# After its own time-out stress-ng frees memory, which under pressure means reading some of it back.
_GRACE_S = 600.0
# stress-ng's own exit codes, from its manual.
_STRESSOR_FAILED = 2
_SWAP_FILES_BYTES = 64 * MIB
_BOOKKEEPING = ("bogo-ops counter", "metrics-check:")
_RATE = "bogo-ops-per-second-real-time"


class StressNg:
    """The workload; one object serves one command."""

    name = "stress_ng"

    def __init__(self, order: StressNgOrder, host: Host) -> None:
        self._order = order
        self._host = host
        self._directory = host.scratch / f"{host.workers.name}.stress"
        disk_bytes = order.swap_workers * _SWAP_FILES_BYTES
        self._rig = Rig(
            host,
            swap=order.swap,
            pressure=order.pressure,
            needs=Needs(memory_bytes=order.vm_bytes, incompressible_bytes=order.vm_bytes, disk_bytes=disk_bytes),
        )

    def inspect(self) -> Inspection:
        """Say what would be touched."""
        files = ", swaps to small files there" if self._order.swap_workers else ""
        inspection = self._rig.inspect(f"runs stress-ng in {self._directory}{files}, and removes it")
        return Inspection(touches=inspection.touches, refusals=(*inspection.refusals, *self._refusals()))

    async def prepare(self, step: StepReporter) -> None:
        """Set the rig up. Raises RigError, KernelWanting."""
        refusals = self._refusals()
        if refusals:
            raise RigError("this host is not touched: " + "; ".join(refusals))
        await self._rig.set_up(step)
        self._rig.own(MadeDirectory(path=str(self._directory)), SwapFilesBelow(directory=str(self._directory)))
        self._host.files.make_directory(self._directory)

    async def run(self, step: StepReporter) -> Measurement:
        """Soak once. Raises KernelWanting (a stressor found wrong memory), WorkloadDied, RigError."""
        step("soaking")
        before, deaths_before = self._rig.counters(), killed_for_memory(self._host)
        report = self._directory / "metrics.yaml"
        self._host.files.remove(report)
        command = self._command(str(report))
        ended = await self._host.workers.run(
            command, timeout_s=self._order.duration_s + _GRACE_S, directory=self._directory
        )
        swapped = self._rig.counters().since(before)
        deaths = killed_for_memory(self._host) - deaths_before
        self._check(ended, deaths)
        self._rig.check_swapped_out(swapped, self._order.min_swapped_out_bytes)
        try:
            metrics = parse_metrics(self._host.files.read(report))
        except (OSError, ValueError) as error:
            raise RigError(f"stress-ng's metrics cannot be read: {error}") from error
        samples = [
            Sample(metric="stress.bogo_rate", value=metrics.get("vm", {}).get(_RATE, 0.0), unit="bogo-op/s"),
            Sample(metric="stress.killed", value=float(deaths), unit="count"),
            Sample(metric="stress.swapped_out", value=pages_to_mib(swapped.all_out), unit="MiB"),
            Sample(metric="stress.swapped_in", value=pages_to_mib(swapped.all_in), unit="MiB"),
        ]
        if "swap" in metrics:
            samples.append(
                Sample(metric="stress.swap_bogo_rate", value=metrics["swap"].get(_RATE, 0.0), unit="bogo-op/s")
            )
        if samples[0].value <= 0:
            raise RigError(f"the run is not valid: the vm stressors did nothing; {ended.complaint}")
        evidence = {"command": " ".join(command), "stress_ng": self._host.files.read(report)}
        return Measurement(samples=tuple(samples), evidence={**self._rig.evidence(), **evidence})

    async def clean_up(self) -> None:
        """Take everything down."""
        await self._rig.take_down()

    def _command(self, report: str) -> tuple[str, ...]:
        order = self._order
        vm = ("--vm", str(order.vm_workers), "--vm-bytes", str(order.vm_bytes), "--vm-method", "all")
        swap = ("--swap", str(order.swap_workers)) if order.swap_workers else ()
        how = ("--verify", "--timeout", f"{order.duration_s:g}s", "--seed", str(order.seed))
        where = ("--temp-path", str(self._directory), "--metrics", "--yaml", report)
        return ("stress-ng", *vm, *swap, *how, *where)

    def _check(self, ended: Ended, deaths: int) -> None:
        if ended.status < 0:
            raise WorkloadDied(f"stress-ng was killed: {ended.complaint}")
        if ended.status == _STRESSOR_FAILED and deaths and _only_bookkeeping(ended):
            raise RigError(
                f"the run is not valid: {deaths} stressors were killed for memory in the middle of their counting; "
                "raise the memory limit, or run without swap stressors"
            )
        if ended.status == _STRESSOR_FAILED:
            raise KernelWanting(f"a stressor failed: {_errors(ended)}")
        if ended.status:
            raise RigError(f"stress-ng could not run (exit status {ended.status}): {_errors(ended)}")

    def _refusals(self) -> tuple[str, ...]:
        return () if self._host.tools.has("stress-ng") else ("stress-ng is not installed; install it",)


def _only_bookkeeping(ended: Ended) -> bool:
    """Whether all that failed is stress-ng's own record of a stressor that was killed while it wrote it."""
    failures = [line for line in (ended.stdout + "\n" + ended.stderr).splitlines() if "fail:" in line]
    return bool(failures) and all(any(mark in line for mark in _BOOKKEEPING) for line in failures)


def _errors(ended: Ended) -> str:
    """Return what stress-ng itself calls a failure or an error."""
    lines = (ended.stdout + "\n" + ended.stderr).splitlines()
    return "; ".join(line for line in lines if "fail:" in line or "error:" in line)[:500] or ended.complaint
