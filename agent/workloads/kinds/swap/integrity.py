"""Whether swap gives back every byte and every slot: pages swapped in every way, swapoff under load, then a count.

One run: several devices of different priority are switched on (one with discard), the scenarios run, each device is
switched off and on again under a load that compares what it reads, everything ends, and no slot may stay in use.
"""

import os
from pathlib import Path

from agent.domain.errors import AgentError, KernelWanting, RigError
from agent.domain.host.facts import parse_swaps
from agent.domain.host.memory import MIB
from agent.domain.host.process_memory import parse_status
from agent.domain.numbers import is_number
from agent.domain.orders.orders import SwapIntegrityOrder
from agent.domain.orders.preflight import Needs
from agent.domain.orders.swap_source import SourceKind, SwapSource
from agent.domain.results import Sample
from agent.domain.work.exercises import ChurnOptions, End, GoOn, IntegrityOptions, Ready, ScenarioDone
from agent.domain.work.integrity import COUNT_STEPS, IntegrityFindings, slot_allowance, unowned_slots
from agent.domain.work.leftovers import MadeDirectory, SwapOn
from agent.to_end import run_to_end
from agent.workloads.deaths import killed_for_memory
from agent.workloads.exerciser import exercising, steps
from agent.workloads.port import Host, Inspection, Measurement, StepReporter
from agent.workloads.rig.rig import Rig
from agent.workloads.rig.settling import PAGE_BYTES, read_memory
from agent.workloads.rig.swap_device import SWAP_TIMEOUT_S
from agent.workloads.rig.switching import make_swap_area, switch_swap_off, switch_swap_on
from agent.workloads.rig.undoing import undo

# Above what the host's own swap has by default, so that ours is used first.
_HIGHEST_PRIORITY = 100
# The kernel frees the last slots of ended processes a moment later.
_FREED_TIMEOUT_S = 15.0
_LOAD_TIMEOUT_S = 120.0
# A swapoff that has only leaked slots left never ends, and the run must say so before its own time is up; what lies in
# memory files of others is back in a few seconds.
_LEAKED_TIMEOUT_S = 45.0
_PAUSE_S = 0.1
# Slab keeps a little for the processes that were forked.
_LEAK_ALLOWANCE_BYTES = 32 * MIB


class SwapIntegrity:
    """The workload; one object serves one command."""

    name = "swap_integrity"

    def __init__(self, order: SwapIntegrityOrder, host: Host) -> None:
        self._order = order
        self._host = host
        disk_bytes = (order.device_count - 1) * self._further_bytes()
        needs = Needs(
            memory_bytes=order.memory_bytes,
            incompressible_bytes=order.memory_bytes,
            disk_bytes=disk_bytes,
            strictly_alone=True,
        )
        self._rig = Rig(host, swap=order.swap, pressure=order.pressure, needs=needs)
        self._devices: list[str] = []
        self._allowance_pages = 0

    def inspect(self) -> Inspection:
        """Say what would be touched."""
        more = self._order.device_count - 1
        return self._rig.inspect(
            *([f"makes {more} more below {self._host.scratch} or in zram, and removes them"] if more else []),
            f"writes {self._order.memory_bytes / MIB:.0f} MiB of memory, swaps them out and compares them",
        )

    async def prepare(self, step: StepReporter) -> None:
        """Make the devices; they are switched on and off in every run. Raises RigError."""
        await self._rig.set_up(step, switch_on=False)
        self._devices = [self._rig.device]
        for number in range(2, self._order.device_count + 1):
            step(f"preparing swap device {number} of {self._order.device_count}")
            self._devices.append(await self._another(number))
        self._allowance_pages = _allowance_pages(self._host.proc / "kallsyms")

    async def run(self, step: StepReporter) -> Measurement:
        """Run everything `rounds` times. Raises KernelWanting, RigError, WorkloadDied."""
        found_wanting = False
        try:
            return await self._check(step)
        except KernelWanting:
            found_wanting = True
            raise
        finally:
            try:
                for device in self._devices:
                    await run_to_end(undo(self._host, SwapOn(device=device)))
            except (AgentError, OSError):
                # What was found says more, and cleaning up tries this once more and tells.
                if not found_wanting:
                    raise

    async def clean_up(self) -> None:
        """Take everything down."""
        await self._rig.take_down()

    async def _check(self, step: StepReporter) -> Measurement:
        order, findings = self._order, IntegrityFindings()
        before, counted_before = read_memory(self._host), self._rig.counters()
        deaths_before = killed_for_memory(self._host)
        for index, device in enumerate(self._devices):
            step(f"swapon {device}")
            await switch_swap_on(self._host, device, *self._options(index))
        # A sweep must end the processes before it switches off: not all of their memory need fit.
        self._rig.own()
        swapoff_s: list[float] = []
        for number in range(order.rounds):
            await self._scenarios(findings, step, seed=order.seed + number)
            swapoff_s += await self._swapoff_under_load(findings, step, seed=order.seed + number)
        least_count = max(each for each in COUNT_STEPS if each <= order.sharers + 1)
        deaths = killed_for_memory(self._host) - deaths_before
        findings.judge(size_bytes=order.memory_bytes, least_count=least_count, killed_for_memory=deaths)
        self._rig.check_swapped_in(self._rig.counters().since(counted_before), order.memory_bytes // 2)
        evidence = {**self._rig.evidence(), **findings.evidence()}
        evidence = await self._free_everything(evidence, step)
        taken = read_memory(self._host).kernel_bytes - before.kernel_bytes
        if taken > _LEAK_ALLOWANCE_BYTES:
            raise KernelWanting(f"the kernel kept {taken / MIB:.1f} MiB after all swap was off", evidence=evidence)
        return Measurement(
            samples=(
                *findings.samples(),
                # More than none has failed the run by now.
                Sample(metric="swap_integrity.leaked_slots", value=0.0, unit="pages"),
                Sample(metric="swap_integrity.swapoff_under_load_time", value=max(swapoff_s), unit="s"),
                Sample(metric="swap_integrity.not_returned", value=taken / MIB, unit="MiB"),
            ),
            evidence=evidence,
        )

    def _options(self, index: int) -> tuple[str, ...]:
        options: tuple[str, ...] = ("-p", str(_HIGHEST_PRIORITY - index))
        # The second one where there is one, so that the others are also tested without.
        if self._order.discard and index == min(1, len(self._devices) - 1):
            options += ("-d",)
        return options

    async def _scenarios(self, findings: IntegrityFindings, step: StepReporter, *, seed: int) -> None:
        options = IntegrityOptions(size_bytes=self._order.memory_bytes, seed=seed, children=self._order.sharers)
        shown = steps(step)
        async with exercising(self._host, "integrity", options) as exerciser:
            await exerciser.until(Ready)
            await exerciser.order(GoOn())
            while not isinstance(event := await exerciser.next(), Ready):
                findings.hear(event)
                shown(event)

    async def _swapoff_under_load(self, findings: IntegrityFindings, step: StepReporter, *, seed: int) -> list[float]:
        """Switch each device off and on again while a load compares what it reads; return how long each took."""
        order, took_s = self._order, []
        limit_bytes = order.pressure.memory_limit_bytes
        # What a single device gives back has to fit below the limit; of several, the others take it.
        size_bytes = min(order.memory_bytes, limit_bytes // 2) if limit_bytes and len(self._devices) == 1 else 0
        options = ChurnOptions(size_bytes=size_bytes or order.memory_bytes, seed=seed)
        async with exercising(self._host, "churn", options) as exerciser:
            await exerciser.until(Ready)
            for index, device in enumerate(self._devices):
                await self._until_used(device)
                step(f"swapoff {device} under load")
                took_s.append(await switch_swap_off(self._host, device))
                if len(self._devices) > 1:
                    # While this one is off, the load has to go to the next, which is only then used at all.
                    await self._until_used(self._devices[(index + 1) % len(self._devices)])
                await switch_swap_on(self._host, device, *self._options(index))
                self._rig.own()
            step("comparing everything")
            await exerciser.order(End())
            findings.hear(await exerciser.until(ScenarioDone, findings.hear))
        return took_s

    async def _until_used(self, device: str) -> None:
        """Wait until the load has pages on the device, so that swapoff has work to do. Raises RigError."""
        deadline = self._host.monotonic() + _LOAD_TIMEOUT_S
        while not self._used_pages(device):
            if self._host.monotonic() > deadline:
                raise RigError(f"the load put nothing onto {device} within {_LOAD_TIMEOUT_S:g} s; is it too small?")
            await self._host.sleep(_PAUSE_S)

    async def _free_everything(self, evidence: dict[str, str], step: StepReporter) -> dict[str, str]:
        """Switch all devices off, and add to the evidence what was in use. Raises KernelWanting for a leaked slot.

        Only swapoff knows whose a slot is that no process accounts for: it brings back what lies in memory files, and
        does not end while a slot is in use that belongs to nobody.
        """
        step("counting slots that stay in use")
        used, unowned = await self._unowned()
        text = f"{used} in use, {unowned} of them not by a process, {self._allowance_pages} may be cached\n"
        evidence = {**evidence, "slots": text}
        for device in self._devices:
            step(f"swapoff {device}")
            try:
                await switch_swap_off(self._host, device, timeout_s=_LEAKED_TIMEOUT_S if unowned else SWAP_TIMEOUT_S)
            except KernelWanting as error:
                if not unowned:
                    raise
                raise KernelWanting(
                    f"{unowned} slots stayed in use when no process had anything in them (of {used} in use; the kernel "
                    f"may keep {self._allowance_pages} in its caches): {error}",
                    evidence=evidence,
                ) from error
        return evidence

    async def _unowned(self) -> tuple[int, int]:
        """Return the slots in use and those of them that no process owns, once they have stopped falling."""
        deadline = self._host.monotonic() + _FREED_TIMEOUT_S
        while True:
            used = sum(self._used_pages(device) for device in self._devices)
            owned = _owned_bytes(self._host.proc) // PAGE_BYTES
            unowned = unowned_slots(used_pages=used, owned_pages=owned, allowance_pages=self._allowance_pages)
            if not unowned or self._host.monotonic() > deadline:
                return used, unowned
            await self._host.sleep(_PAUSE_S)

    def _used_pages(self, device: str) -> int:
        areas = parse_swaps((self._host.proc / "swaps").read_text())
        return sum(area.used_bytes for area in areas if area.path == device) // PAGE_BYTES

    async def _another(self, number: int) -> str:
        """Make a further device: zram beside zram where the kernel adds one, else a file, under loop where there is."""
        host, swap = self._host, self._order.swap
        if swap.kind is SourceKind.ZRAM and (host.sys / "class/zram-control/hot_add").exists():
            try:
                return await make_swap_area(host, swap)
            except RigError:
                # A /dev that makes no nodes for added devices.
                pass
        directory = host.scratch / f"{host.workers.name}-{number}"
        host.leftovers.note(MadeDirectory(path=str(directory)))
        host.files.make_directory(directory)
        loop = host.tools.has("losetup") and any((host.sys / "block").glob("loop*"))
        kind = SourceKind.LOOP if loop else SourceKind.FILE
        source = SwapSource(kind=kind, size_bytes=self._further_bytes(), directory=str(directory))
        return await make_swap_area(host, source)

    def _further_bytes(self) -> int:
        # As large as ordered, but a disk of many GiB need not be matched by a file.
        largest_bytes = max(64 * MIB, 2 * self._order.memory_bytes)
        return min(self._order.swap.size_bytes or largest_bytes, largest_bytes)


def _allowance_pages(kallsyms: Path) -> int:
    try:
        with kallsyms.open(errors="replace") as symbols:
            return slot_allowance(symbols, os.cpu_count() or 1)
    except OSError:
        return slot_allowance((), os.cpu_count() or 1)


def _owned_bytes(proc: Path) -> int:
    """Return what processes have in swap, memory files apart; pages that several share count for each."""
    owned = 0
    for entry in proc.iterdir():
        if is_number(entry.name):
            try:
                owned += parse_status((entry / "status").read_text()).swapped_bytes
            except OSError:
                # Ended since it was listed.
                continue
    return owned
