"""What a workload stands on: its swap switched on, zswap as ordered, its processes short of memory; and back again.

    rig = Rig(host, swap=order.swap, pressure=order.pressure, needs=Needs(memory_bytes=...))
    await rig.set_up(step)
    ended = await host.workers.run(command, timeout_s=60)
    await rig.take_down()

Everything is noted in the leftovers before it is set up, so taking down is the sweep that a starting agent does too.
"""

import os
from pathlib import Path
from typing import assert_never

from agent.domain.errors import RigError
from agent.domain.host.facts import parse_swaps
from agent.domain.host.memory import MIB
from agent.domain.host.swap_counters import SwapCounters, parse_swap_counters
from agent.domain.orders.preflight import GUARDS, HostView, Needs, refusals
from agent.domain.orders.swap_source import Pressure, SourceKind, SwapSource
from agent.domain.work.leftovers import Leftover, Workers
from agent.workloads.port import Host, Inspection, StepReporter
from agent.workloads.rig.abilities import lacking
from agent.workloads.rig.modules import is_loaded
from agent.workloads.rig.settling import PAGE_BYTES, read_memory
from agent.workloads.rig.swap_device import claim_block_device, require_no_brd
from agent.workloads.rig.swap_files import swap_file_path
from agent.workloads.rig.switching import make_swap_area, switch_swap_on
from agent.workloads.rig.undoing import sweep
from agent.workloads.rig.zram import zram_is_there
from agent.workloads.rig.zswap import NO_ZSWAP, has_zswap, set_zswap, zswap_change, zswap_state

# mkswap writes a few pages, but a swap file of many GiB is checked for holes at swapon.
_ON_TOOLS = ("mkswap", "swapon", "swapoff")


class Rig:
    """The rig of one command."""

    def __init__(
        self,
        host: Host,
        *,
        swap: SwapSource,
        pressure: Pressure | None = None,
        needs: Needs,
        scratch: Path | None = None,
    ) -> None:
        """`scratch` is where the workload's own files go; None: where the host keeps such files."""
        self._host = host
        self._scratch = scratch or host.scratch
        self._swap = swap
        self._pressure = pressure or Pressure()
        self._needs = needs
        # The swap device's path, empty before it is made and with the host's own swap.
        self.device = ""

    def inspect(self, *touches: str) -> Inspection:
        """Say what setting up would touch, then these, and what speaks against it."""
        return Inspection(
            touches=(*self._touches(), *touches),
            refusals=(*refusals(self._swap, self._pressure, self._needs, self._view()), *self._lacking()),
        )

    async def set_up(self, step: StepReporter, *, limited: bool = True, switch_on: bool = True) -> None:
        """Take down what an earlier run left, check the host, set up. Raises RigError, KernelWanting (swapon).

        Without `switch_on` the workload switches the device on and off by itself.
        """
        await self.check(step)
        if self._swap.kind is not SourceKind.EXISTING:
            step("preparing the swap device")
            self.device = await make_swap_area(self._host, self._swap)
        set_zswap(self._host, self._swap)
        if self.device and switch_on:
            step("swapon")
            await switch_swap_on(self._host, self.device)
        self._host.leftovers.note(Workers(name=self._host.workers.name))
        self.limit(limited)

    def own(self, *leftovers: Leftover) -> None:
        """Note what the workload is about to make for its processes: taken down after they have been ended."""
        for leftover in leftovers:
            self._host.leftovers.note(leftover)
        # Newest first is the order of taking down, and nobody writes there any more then.
        self._host.leftovers.note(Workers(name=self._host.workers.name))

    def limit(self, limited: bool = True) -> None:
        """Limit the memory of the workload's processes as ordered, or not for what is not measured. Raises RigError."""
        self._host.workers.confine(self._pressure.memory_limit_bytes if limited else 0)

    async def check(self, step: StepReporter) -> None:
        """Take down what an earlier run left and raise RigError with everything that speaks against running here."""
        step("taking down what an earlier run left")
        await sweep(self._host)
        step("checking the host")
        found = self.inspect().refusals
        if found:
            raise RigError("this host is not touched: " + "; ".join(found))

    async def take_down(self) -> None:
        """Take everything down. Raises KernelWanting, RigError."""
        await sweep(self._host)

    def counters(self) -> SwapCounters:
        """Read what the kernel has counted of swapping. Raises RigError."""
        try:
            return parse_swap_counters((self._host.proc / "vmstat").read_text())
        except ValueError as error:
            raise RigError(str(error)) from error

    def check_swapped_out(self, swapped: SwapCounters, least_bytes: int) -> None:
        """Raise RigError when less left memory than the order wants of a valid run."""
        self._check_swapped("out", pages_to_mib(swapped.all_out), least_bytes)

    def check_swapped_in(self, swapped: SwapCounters, least_bytes: int) -> None:
        """Raise RigError when less came back than the order wants of a valid run."""
        self._check_swapped("in", pages_to_mib(swapped.all_in), least_bytes)

    def _check_swapped(self, direction: str, found_mib: float, least_bytes: int) -> None:
        if found_mib * MIB < least_bytes:
            raise RigError(
                f"the run is not valid: {found_mib:.1f} MiB were swapped {direction}, and a run that swaps less than "
                f"{least_bytes / MIB:.1f} MiB measures something else; make memory shorter or the data larger"
            )

    def evidence(self) -> dict[str, str]:
        """Return the state of what was set up, as raw text."""
        found = {"proc_swaps": (self._host.proc / "swaps").read_text(), "zswap_parameters": zswap_state(self._host)}
        statistics = self._host.workers.statistics()
        found |= {f"cgroup_{name.replace('.', '_')}": text for name, text in statistics.items()}
        name = Path(self.device).name
        for each in ("comp_algorithm", "disksize", "mm_stat"):
            path = self._host.sys / "block" / name / each
            if name and path.exists():
                found[f"zram_{each}"] = path.read_text().strip()
        return {key: text for key, text in found.items() if text}

    def _lacking(self) -> list[str]:
        """Return what the swap that was ordered needs and does not find here."""
        host, swap = self._host, self._swap
        if swap.kind in (SourceKind.EXISTING, SourceKind.NONE):
            return []
        found = [f"{tool} is not installed; install util-linux" for tool in _ON_TOOLS if not host.tools.has(tool)]
        try:
            if swap.kind is SourceKind.BLOCK_DEVICE:
                claim_block_device(host, swap.path)
            elif swap.kind is SourceKind.BRD:
                require_no_brd(host)
        except RigError as error:
            found.append(str(error))
        if swap.zswap and not has_zswap(host):
            found.append(NO_ZSWAP)
        return found + lacking(host, swap, idle=not self._needs.alone)

    def _view(self) -> HostView:
        host = self._host
        comms = host.proc.glob("[0-9]*/comm")
        directory = swap_file_path(host, self._swap).parent
        return HostView(
            available_bytes=read_memory(host).available_bytes,
            swaps=parse_swaps((host.proc / "swaps").read_text()),
            swap_directory=str(directory),
            swap_directory_free_bytes=host.files.free_bytes(directory),
            scratch=str(self._scratch),
            scratch_free_bytes=host.files.free_bytes(self._scratch),
            no_limit=host.workers.can_limit(),
            running_as_root=host.is_root,
            device_bytes=self._device_bytes(),
            kernel_release=host.kernel_release,
            guards=tuple(sorted({name for comm in comms if (name := _comm(comm)) in GUARDS})),
            zswap_is_charged=host.files.exists(host.sys / "fs/cgroup/cgroup.controllers"),
            allows_active_swap=host.allows_active_swap,
        )

    def _device_bytes(self) -> int:
        """Return the size of the block device that was ordered; 0 when there is none, or none that can be read."""
        if self._swap.kind is not SourceKind.BLOCK_DEVICE:
            return 0
        try:
            return self._host.devices.size_bytes(os.path.realpath(self._swap.path))
        except OSError:
            # Claiming it tells why.
            return 0

    def _touches(self) -> tuple[str, ...]:
        swap, limit_bytes = self._swap, self._pressure.memory_limit_bytes
        said = [_touched_by(self._host, swap)]
        if swap.kind is not SourceKind.NONE and (word := zswap_change(self._host, swap)):
            said.append(f"switches zswap {word}, and back to what it is now afterwards")
        name = self._host.workers.name
        limit = f"limited to {limit_bytes / MIB:.0f} MiB of memory" if limit_bytes else "without a limit of memory"
        said.append(f"makes the cgroup {name} for the workload's processes, {limit}, and removes it afterwards")
        return tuple(said)


def pages_to_mib(pages: int) -> float:
    """Return what so many pages of this machine hold."""
    return pages * PAGE_BYTES / MIB


def _touched_by(host: Host, swap: SwapSource) -> str:
    size = f"{swap.size_bytes / MIB:.0f} MiB"
    match swap.kind:
        case SourceKind.NONE:
            return "touches no swap"
        case SourceKind.EXISTING:
            return "uses the swap that is switched on, and leaves it on"
        case SourceKind.BLOCK_DEVICE:
            return f"writes a swap area onto {os.path.realpath(swap.path)}, switches it on and off, and erases it"
        case SourceKind.BRD:
            return f"loads the module brd with a disk of {size}, switches swap on and off, and unloads it"
        case SourceKind.ZRAM:
            load, unload = ("", "") if zram_is_there(host) else ("loads the module zram, ", ", and unloads the module")
            return (
                f"{load}adds a zram device (or takes an idle one) of {size}, switches swap on and off, and resets it"
                f"{unload}"
            )
        case SourceKind.LOOP:
            path = swap_file_path(host, swap)
            load, unload = ("", "") if is_loaded(host, "loop") else ("loads the module loop, ", ", and unloads it")
            return (
                f"{load}makes a sparse file {path} of {size} under a loop device, switches swap on and off, and "
                f"removes both{unload}"
            )
        case SourceKind.FILE:
            path = swap_file_path(host, swap)
            return f"writes the file {path} of {size}, switches swap on and off, and removes it"
        case _:
            assert_never(swap.kind)


def _comm(path: Path) -> str:
    """Return the name of a process; empty when it has ended meanwhile."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""
