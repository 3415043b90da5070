"""How fast anonymous memory that does not fit can be touched: written once, then touched again and again."""

from agent.domain.host.memory import MIB
from agent.domain.orders.orders import AnonSweepOrder
from agent.domain.orders.preflight import Needs
from agent.domain.results import Sample
from agent.domain.work.exercises import GoOn, Ready, SweepOptions, Swept
from agent.workloads.exerciser import Exerciser, exercising
from agent.workloads.port import Host, Inspection, Measurement, StepReporter
from agent.workloads.rig.rig import Rig, pages_to_mib

_MB = 1e6


class AnonSweep:
    """The workload; one object serves one command."""

    name = "anon_sweep"

    def __init__(self, order: AnonSweepOrder, host: Host) -> None:
        self._order = order
        self._host = host
        # Half of every page is noise.
        needs = Needs(memory_bytes=order.memory_bytes, incompressible_bytes=order.memory_bytes // 2)
        self._rig = Rig(host, swap=order.swap, pressure=order.pressure, needs=needs)

    def inspect(self) -> Inspection:
        """Say what would be touched."""
        return self._rig.inspect(
            f"touches {self._order.memory_bytes / MIB:.0f} MiB of memory in {self._order.processes} processes"
        )

    async def prepare(self, step: StepReporter) -> None:
        """Set swap and limit up."""
        await self._rig.set_up(step)

    async def run(self, step: StepReporter) -> Measurement:
        """Write everything once, then make the passes. Raises RigError when hardly anything was swapped in."""
        order = self._order
        options = SweepOptions(
            size_bytes=order.memory_bytes,
            processes=order.processes,
            pattern=order.pattern,
            passes=order.passes,
            seed=order.seed,
        )
        async with exercising(self._host, "sweep", options) as exerciser:
            await exerciser.until(Ready)
            step("writing everything once")
            populated = await _swept(exerciser)
            before = self._rig.counters()
            passes = []
            for number in range(1, order.passes + 1):
                step(f"{order.pattern} pass {number} of {order.passes}")
                passes.append(await _swept(exerciser))
            counted = self._rig.counters().since(before)
            evidence = self._rig.evidence()
        self._rig.check_swapped_in(counted, order.min_swapped_in_bytes)
        touched_bytes, elapsed_s = sum(each.touched_bytes for each in passes), sum(each.elapsed_s for each in passes)
        return Measurement(
            samples=(
                Sample(metric="anonymous_sweep.throughput", value=touched_bytes / elapsed_s / _MB, unit="MB/s"),
                Sample(
                    metric="anonymous_sweep.populate",
                    value=populated.touched_bytes / populated.elapsed_s / _MB,
                    unit="MB/s",
                ),
                Sample(metric="anonymous_sweep.swapped_in", value=pages_to_mib(counted.all_in), unit="MiB"),
                Sample(metric="anonymous_sweep.swapped_out", value=pages_to_mib(counted.all_out), unit="MiB"),
            ),
            evidence=evidence,
        )

    async def clean_up(self) -> None:
        """Take everything down."""
        await self._rig.take_down()


async def _swept(exerciser: Exerciser) -> Swept:
    await exerciser.order(GoOn())
    return await exerciser.until(Swept)
