"""S1: what an idle mounted swap device costs in memory, and how long switching it on and off takes.

One run: settle, read memory, swapon (timed), settle, read again, check /proc/swaps, swapoff (timed), settle, check
that the memory came back. The swap area is written before the first reading, so that mkswap's page cache is in both.
"""

from agent.domain.errors import KernelWanting, RigError
from agent.domain.leftovers import SwapHeader, SwapOn
from agent.domain.memory import MIB, Memory, cost_mib_per_tib
from agent.domain.orders import SwapMountOrder
from agent.domain.results import Sample
from agent.domain.swap_header import OUR_LABEL
from agent.domain.swap_source import SourceKind
from agent.ending import run_to_end
from agent.workloads.port import Host, Measurement, StepReporter
from agent.workloads.settling import settled_memory
from agent.workloads.swap_device import (
    SWAP_TIMEOUT_S,
    TOOL_TIMEOUT_S,
    claim_block_device,
    load_brd,
    swap_area,
    sweep,
    undo,
)

# Slab and per-CPU lists keep a little after swapoff; a kernel that loses the map loses hundreds of MiB.
_LEAK_ALLOWANCE_BYTES = 16 * MIB
_LARGEST_PAGE_BYTES = 65536
_NO_PERMISSION = ("Operation not permitted", "Permission denied", "must be superuser")


class SwapMount:
    """The workload; one object serves one command."""

    name = "swap_mount"

    def __init__(self, order: SwapMountOrder, host: Host) -> None:
        self._order = order
        self._host = host
        self._device = ""
        self._size_bytes = 0

    async def prepare(self, step: StepReporter) -> None:
        """Get the device and write the swap area. Raises RigError; KernelWanting when earlier swap stays on."""
        step("taking down what an earlier run left")
        await sweep(self._host)
        for tool in ("mkswap", "swapon", "swapoff"):
            if not self._host.tools.has(tool):
                raise RigError(f"{tool} is not installed on this host; install util-linux or busybox")
        step("preparing the device")
        self._device = await self._get_device()
        self._size_bytes = self._host.devices.size_bytes(self._device)
        step("mkswap")
        command = ("mkswap", "-L", OUR_LABEL, self._device)
        completed = await self._host.tools.run(command, timeout_s=TOOL_TIMEOUT_S)
        if completed.status:
            raise RigError(f"mkswap {self._device} failed: {completed.complaint}")

    async def _get_device(self) -> str:
        swap = self._order.swap
        match swap.kind:
            case SourceKind.BRD:
                return await load_brd(self._host, swap.size_bytes)
            case SourceKind.BLOCK_DEVICE:
                device = claim_block_device(self._host, swap.path)
                self._host.leftovers.note(SwapHeader(device=device))
                return device
            case _:
                raise RigError(f"swap_mount cannot mount {swap.kind} swap; give a block device or a brd size")

    async def run(self, step: StepReporter) -> Measurement:
        """Switch the device on and off once. Raises KernelWanting, RigError."""
        try:
            return await self._measure(step)
        finally:
            # The usual case finds nothing to do; a failure or a cancellation must not leave swap on.
            await run_to_end(undo(self._host, SwapOn(device=self._device)))

    async def clean_up(self) -> None:
        """Switch off, erase our swap area, unload our brd."""
        await sweep(self._host)

    async def _measure(self, step: StepReporter) -> Measurement:
        step("settling before swapon")
        before = await self._settle()
        free_before = await self._free()
        step("swapon")
        swapon_s = await self._switch_on()
        step("settling after swapon")
        after = await self._settle()
        free_after = await self._free()
        swaps = (self._host.proc / "swaps").read_text()
        swapped_out_bytes = self._check_swaps()
        step("swapoff")
        swapoff_s = await self._switch_off()
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

    async def _switch_on(self) -> float:
        self._host.leftovers.note(SwapOn(device=self._device))
        begun = self._host.monotonic()
        try:
            completed = await self._host.tools.run(("swapon", self._device), timeout_s=SWAP_TIMEOUT_S)
        except TimeoutError as error:
            raise KernelWanting(f"swapon did not end: {error}") from error
        swapon_s = self._host.monotonic() - begun
        if completed.status:
            if any(hint in completed.complaint for hint in _NO_PERMISSION):
                raise RigError(f"swapon {self._device}: {completed.complaint}; the agent must run as root")
            listed = swap_area(self._host, self._device) is not None
            remark = ", and /proc/swaps shows it all the same" if listed else ""
            raise KernelWanting(f"swapon {self._device} failed: {completed.complaint}{remark}")
        return swapon_s

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

    async def _switch_off(self) -> float:
        begun = self._host.monotonic()
        try:
            completed = await self._host.tools.run(("swapoff", self._device), timeout_s=SWAP_TIMEOUT_S)
        except TimeoutError as error:
            raise KernelWanting(f"swapoff did not end: {error}") from error
        swapoff_s = self._host.monotonic() - begun
        if completed.status:
            raise KernelWanting(f"swapoff {self._device} failed: {completed.complaint}")
        if swap_area(self._host, self._device) is not None:
            raise KernelWanting(f"/proc/swaps still shows {self._device} after swapoff")
        self._host.leftovers.forget(SwapOn(device=self._device))
        return swapoff_s
