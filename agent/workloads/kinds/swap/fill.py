"""What swap costs in memory when a share of it is in use: what is taken at swapon and what is taken page by page.

One run: settle, read memory, swapon, settle, fill, settle, read again. Of what was taken, the parts that are no
metadata of swap are subtracted: the filling process's memory and page tables, zram's own memory for the pages, pages
that lie in the swap cache. Then all but a little is given back, and swapoff is timed bringing that little in.
"""

from dataclasses import dataclass
from pathlib import Path

from agent.domain.errors import KernelWanting, RigError
from agent.domain.host.counters import parse_mm_stat, parse_sizes
from agent.domain.host.memory import MIB, Memory, cost_mib_per_tib
from agent.domain.orders.orders import SwapFillOrder
from agent.domain.orders.preflight import Needs
from agent.domain.results import Sample
from agent.domain.work.exercises import End, FillOptions, FillUp, GoOn, Order, Ready, Shrink, Usage
from agent.domain.work.leftovers import SwapOn
from agent.to_end import run_to_end
from agent.workloads.exerciser import Exerciser, exercising, steps
from agent.workloads.port import Host, Inspection, Measurement, StepReporter
from agent.workloads.rig.rig import Rig
from agent.workloads.rig.settling import settled_memory
from agent.workloads.rig.switching import switch_swap_off, switch_swap_on
from agent.workloads.rig.undoing import undo

# What swapoff has to bring back; the same on every kernel, and little enough for a machine of 1 GB.
_BROUGHT_BACK_BYTES = 128 * MIB
# Slab and per-CPU lists keep a little after swapoff; a kernel that loses its tables loses hundreds of MiB.
_LEAK_ALLOWANCE_BYTES = 16 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """Memory at one moment, and the parts of it that are no metadata of swap."""

    memory: Memory
    usage: Usage
    zram_bytes: int
    swap_cached_bytes: int

    def metadata_since(self, before: "_Look") -> int:
        """Return the bytes that keeping track of swap took between two moments."""
        return self._without_data() - before._without_data()

    def _without_data(self) -> int:
        data = self.usage.resident_bytes + self.usage.page_table_bytes + self.zram_bytes + self.swap_cached_bytes
        return self.memory.taken_bytes - data


class SwapFill:
    """The workload; one object serves one command."""

    name = "swap_fill"

    def __init__(self, order: SwapFillOrder, host: Host) -> None:
        self._order = order
        self._host = host
        self._rig = Rig(host, swap=order.swap, needs=Needs(memory_bytes=2 * _BROUGHT_BACK_BYTES, strictly_alone=True))
        self._size_bytes = 0

    def inspect(self) -> Inspection:
        """Say what would be touched."""
        return self._rig.inspect(f"fills {self._order.fill_percent} % of the swap with pages that repeat one byte")

    async def prepare(self, step: StepReporter) -> None:
        """Make the device; it is switched on and off in every run."""
        await self._rig.set_up(step, switch_on=False)
        self._size_bytes = self._host.devices.size_bytes(self._rig.device)

    async def run(self, step: StepReporter) -> Measurement:
        """Measure once. Raises KernelWanting, RigError, WorkloadDied."""
        options = FillOptions(seed=self._order.seed)
        try:
            async with exercising(self._host, "fill", options) as exerciser:
                await exerciser.until(Ready)
                return await self._measure(exerciser, step)
        finally:
            await run_to_end(undo(self._host, SwapOn(device=self._rig.device)))

    async def clean_up(self) -> None:
        """Take everything down."""
        await self._rig.take_down()

    async def _measure(self, exerciser: Exerciser, step: StepReporter) -> Measurement:
        device, target_bytes = self._rig.device, self._size_bytes * self._order.fill_percent // 100
        step("settling before swapon")
        before = await self._look(exerciser, GoOn(), step)
        step("swapon")
        swapon_s = await switch_swap_on(self._host, device)
        # A sweep must end the process that fills before it switches off: all of it would not fit into memory.
        self._rig.own()
        mounted = await self._look(exerciser, GoOn(), step)
        step("filling")
        filled = await self._look(exerciser, FillUp(swapped_bytes=target_bytes), step)
        if filled.usage.swapped_bytes < target_bytes:
            raise RigError(f"{filled.usage.swapped_bytes / MIB:.0f} of {target_bytes / MIB:.0f} MiB are in swap")
        evidence = self._rig.evidence()
        step("giving back all but a little")
        await exerciser.order(Shrink(swapped_bytes=min(_BROUGHT_BACK_BYTES, target_bytes // 2)))
        brought_back = await exerciser.until(Usage, steps(step))
        step("swapoff")
        swapoff_s = await switch_swap_off(self._host, device)
        await exerciser.order(Shrink(swapped_bytes=0))
        if (left := await exerciser.until(Usage)).swapped_bytes:
            raise KernelWanting(f"{left.swapped_bytes} bytes are in swap after the only swap was switched off")
        await exerciser.order(End())
        step("settling after swapoff")
        returned = await self._settle()
        self._check_returned(before.memory, filled.memory, returned)
        total = filled.metadata_since(before)
        static = mounted.metadata_since(before)
        return Measurement(
            samples=(
                self._cost_sample("swap_fill.cost", total),
                self._cost_sample("swap_fill.static_cost", static),
                self._cost_sample("swap_fill.dynamic_cost", total - static),
                Sample(metric="swapoff.time", value=swapoff_s, unit="s"),
                Sample(metric="swap_fill.swapon_time", value=swapon_s, unit="s"),
                _mib("swap_fill.filled", filled.usage.swapped_bytes),
                _mib("swap_fill.page_tables", filled.usage.page_table_bytes - before.usage.page_table_bytes),
                _mib("swap_fill.zram_memory", filled.zram_bytes - before.zram_bytes),
                _mib("swap_fill.swap_cached", filled.swap_cached_bytes - before.swap_cached_bytes),
                _mib("swap_fill.brought_back", brought_back.swapped_bytes),
                _mib("swap_fill.device_size", self._size_bytes),
            ),
            evidence={
                **evidence,
                "meminfo_before": before.memory.text,
                "meminfo_mounted": mounted.memory.text,
                "meminfo_filled": filled.memory.text,
                "meminfo_after": returned.text,
            },
        )

    async def _look(self, exerciser: Exerciser, order: Order, step: StepReporter) -> _Look:
        """Have an order carried out, settle, and read memory."""
        await exerciser.order(order)
        await exerciser.until(Usage, steps(step))
        memory = await self._settle()
        # Asked again: reclaim may have taken pages of the process while memory settled.
        await exerciser.order(GoOn())
        usage = await exerciser.until(Usage)
        mm_stat = self._host.sys / "block" / Path(self._rig.device).name / "mm_stat"
        zram = parse_mm_stat(mm_stat.read_text()) if mm_stat.exists() else {}
        return _Look(
            memory=memory,
            usage=usage,
            zram_bytes=zram.get("memory_bytes", 0),
            swap_cached_bytes=parse_sizes(memory.text).get("SwapCached", 0),
        )

    def _check_returned(self, before: Memory, filled: Memory, returned: Memory) -> None:
        not_returned = returned.kernel_bytes - before.kernel_bytes
        if not_returned > _LEAK_ALLOWANCE_BYTES + max(0, filled.kernel_bytes - before.kernel_bytes) // 10:
            raise KernelWanting(
                f"swapoff {self._rig.device} did not give its memory back: {not_returned / MIB:.1f} MiB more are in use"
            )

    def _cost_sample(self, metric: str, delta_bytes: int) -> Sample:
        return Sample(metric=metric, value=cost_mib_per_tib(delta_bytes, self._size_bytes), unit="MiB/TiB")

    async def _settle(self) -> Memory:
        return await settled_memory(
            self._host,
            tolerance_bytes=self._order.settle_tolerance_bytes,
            timeout_s=self._order.settle_timeout_s,
        )


def _mib(metric: str, size_bytes: int) -> Sample:
    return Sample(metric=metric, value=size_bytes / MIB, unit="MiB")
