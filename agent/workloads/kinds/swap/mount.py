"""S1: what an idle mounted swap device costs in memory, and how long switching it on and off takes.

One run: settle, read memory, swapon (timed), settle, read again, check /proc/swaps, swapoff (timed), settle, check
that the memory came back. The swap area is written before the first reading, so that mkswap's page cache is in both.
"""

from agent.domain.errors import KernelWanting
from agent.domain.host.memory import MIB, Memory, cost_mib_per_tib
from agent.domain.orders.orders import SwapMountOrder
from agent.domain.orders.preflight import Needs
from agent.domain.results import Sample
from agent.domain.work.leftovers import SwapOn
from agent.to_end import run_to_end
from agent.workloads.port import Host, Inspection, Measurement, StepReporter
from agent.workloads.rig.rig import Rig
from agent.workloads.rig.settling import settled_memory
from agent.workloads.rig.swap_device import TOOL_TIMEOUT_S, swap_area
from agent.workloads.rig.switching import make_swap_area, switch_swap_off, switch_swap_on
from agent.workloads.rig.undoing import undo
from agent.workloads.rig.zswap import set_zswap

# Slab and per-CPU lists keep a little after swapoff; a kernel that loses the map loses hundreds of MiB.
_LEAK_ALLOWANCE_BYTES = 16 * MIB
_LARGEST_PAGE_BYTES = 65536


class SwapMount:
    """The workload; one object serves one command."""

    name = "swap_mount"

    def __init__(self, order: SwapMountOrder, host: Host) -> None:
        self._order = order
        self._host = host
        self._rig = Rig(host, swap=order.swap, needs=Needs(alone=False))
        self._device = ""
        self._size_bytes = 0

    def inspect(self) -> Inspection:
        """Say what would be touched."""
        return self._rig.inspect()

    async def prepare(self, step: StepReporter) -> None:
        """Get the device and write the swap area. Raises RigError; KernelWanting when earlier swap stays on."""
        await self._rig.check(step)
        step("preparing the device")
        self._device = await make_swap_area(self._host, self._order.swap)
        set_zswap(self._host, self._order.swap)
        self._size_bytes = self._host.devices.size_bytes(self._device)

    async def run(self, step: StepReporter) -> Measurement:
        """Switch the device on and off once. Raises KernelWanting, RigError."""
        try:
            return await self._measure(step)
        finally:
            # The usual case finds nothing to do; a failure or a cancellation must not leave swap on.
            await run_to_end(undo(self._host, SwapOn(device=self._device)))

    async def clean_up(self) -> None:
        """Switch off, and take the device down."""
        await self._rig.take_down()

    async def _measure(self, step: StepReporter) -> Measurement:
        step("settling before swapon")
        before = await self._settle()
        free_before = await self._free()
        step("swapon")
        swapon_s = await switch_swap_on(self._host, self._device)
        step("settling after swapon")
        after = await self._settle()
        free_after = await self._free()
        swaps = (self._host.proc / "swaps").read_text()
        swapped_out_bytes = self._check_swaps()
        step("swapoff")
        swapoff_s = await switch_swap_off(self._host, self._device)
        step("settling after swapoff")
        returned = await self._settle()
        # Judged on the kernel's own memory: a program that started meanwhile must not pass for a leak.
        not_returned = returned.kernel_bytes - before.kernel_bytes
        if not_returned > _LEAK_ALLOWANCE_BYTES + max(0, after.kernel_bytes - before.kernel_bytes) // 10:
            raise KernelWanting(
                f"swapoff {self._device} did not give its memory back: {not_returned / MIB:.1f} MiB more are in use"
            )
        return Measurement(
            samples=(
                self._cost_sample("swap_mount.cost", after.taken_bytes - before.taken_bytes),
                self._cost_sample("swap_mount.kernel_cost", after.kernel_bytes - before.kernel_bytes),
                self._cost_sample("swap_mount.memfree_cost", before.free_bytes - after.free_bytes),
                self._cost_sample("swap_mount.used_cost", after.used_bytes - before.used_bytes),
                Sample(metric="swap_mount.used_before", value=before.used_bytes / MIB, unit="MiB"),
                Sample(metric="swap_mount.used_after", value=after.used_bytes / MIB, unit="MiB"),
                Sample(metric="swap_mount.swapon_time", value=swapon_s, unit="s"),
                Sample(metric="swap_mount.swapoff_time", value=swapoff_s, unit="s"),
                Sample(metric="swap_mount.swapped_out", value=swapped_out_bytes / MIB, unit="MiB"),
                Sample(metric="swap_mount.not_returned", value=not_returned / MIB, unit="MiB"),
                Sample(metric="swap_mount.device_size", value=self._size_bytes / MIB, unit="MiB"),
            ),
            evidence={
                "free_before": free_before,
                "free_after": free_after,
                "meminfo_before": before.text,
                "meminfo_after": after.text,
                "proc_swaps": swaps,
            },
        )

    def _cost_sample(self, metric: str, delta_bytes: int) -> Sample:
        return Sample(metric=metric, value=cost_mib_per_tib(delta_bytes, self._size_bytes), unit="MiB/TiB")

    async def _settle(self) -> Memory:
        return await settled_memory(
            self._host,
            tolerance_bytes=self._order.settle_tolerance_bytes,
            timeout_s=self._order.settle_timeout_s,
        )

    async def _free(self) -> str:
        """Return what the host's own `free -m` prints; empty where there is none."""
        if not self._host.tools.has("free"):
            return ""
        return (await self._host.tools.run(("free", "-m"), timeout_s=TOOL_TIMEOUT_S)).stdout

    def _check_swaps(self) -> int:
        """Return the bytes swapped out; raise KernelWanting when /proc/swaps does not show the device as it is."""
        area = swap_area(self._host, self._device)
        if area is None:
            raise KernelWanting(f"/proc/swaps does not show {self._device} after swapon")
        # The header's page is not swap space.
        if not self._size_bytes - 2 * _LARGEST_PAGE_BYTES <= area.size_bytes <= self._size_bytes:
            raise KernelWanting(
                f"/proc/swaps shows {self._device} with {area.size_bytes} bytes; the device has {self._size_bytes}"
            )
        return area.used_bytes
