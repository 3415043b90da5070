"""Whether /proc/swaps is right at every moment: while swap is switched on, switched off under load, and fails to be.

One run has several cycles. Watchers read /proc/swaps all the time while, by the system calls themselves, broken swap
areas are refused, the device is switched on, switched on a second time, filled, switched off by a process that is
killed meanwhile, and switched off. Every reading is then held against what was going on.
"""

import asyncio
import json
import os
from contextlib import AsyncExitStack
from dataclasses import asdict

from agent.domain.errors import KernelWanting, RigError
from agent.domain.host.memory import MIB
from agent.domain.host.swap_header import BROKEN_AREAS, OUR_LABEL
from agent.domain.orders.orders import SwapMountIndicatorOrder
from agent.domain.orders.preflight import Needs
from agent.domain.results import Sample
from agent.domain.work.exercises import (
    Called,
    Calling,
    End,
    Event,
    FillOptions,
    FillUp,
    Ready,
    Shrink,
    SwapsSeen,
    SwitchOff,
    SwitchOn,
    SwitchOptions,
    Usage,
    Watched,
    WatchOptions,
)
from agent.domain.work.leftovers import SwapOn
from agent.domain.work.mount_indicator import Call, Device, Judged, Period, judge, longest_swapoff_s
from agent.to_end import run_to_end
from agent.workloads.exerciser import Exerciser, exercising
from agent.workloads.port import Host, Inspection, Measurement, StepReporter
from agent.workloads.rig.rig import Rig
from agent.workloads.rig.settling import short_of_memory, swap_free_bytes, swap_total_bytes
from agent.workloads.rig.swap_device import TOOL_TIMEOUT_S
from agent.workloads.rig.undoing import undo

_SWAPOFF_TIME = "swap_mount_indicator.swapoff_under_load_time"
_NAMED = 3
# Of a file that is wrong all the time, the first ones tell as much as all.
_MOST_KEPT = 200


class SwapMountIndicator:
    """The workload; one object serves one command."""

    name = "swap_mount_indicator"

    def __init__(self, order: SwapMountIndicatorOrder, host: Host) -> None:
        self._order = order
        self._host = host
        # What swapoff brings back must fit into memory.
        self._rig = Rig(host, swap=order.swap, needs=Needs(memory_bytes=order.memory_bytes))
        self._device = Device(path="", size_bytes=0)

    def inspect(self) -> Inspection:
        """Say what would be touched."""
        return self._rig.inspect(
            f"damages its own swap area and makes it anew, and swaps {self._order.memory_bytes / MIB:.0f} MiB out"
        )

    async def prepare(self, step: StepReporter) -> None:
        """Make the device."""
        await self._rig.set_up(step, switch_on=False)
        self._device = Device(path=self._rig.device, size_bytes=self._host.devices.size_bytes(self._rig.device))

    async def run(self, step: StepReporter) -> Measurement:
        """Make all cycles and judge every reading. Raises KernelWanting, RigError, WorkloadDied."""
        session = _Session(self._host, self._rig, self._device, self._order, step)
        try:
            await session.play()
        finally:
            await run_to_end(undo(self._host, SwapOn(device=self._device.path)))
        judged = judge(session.seen, session.calls, self._device)
        evidence = {**self._rig.evidence(), "calls": json.dumps([asdict(each) for each in session.calls], indent=1)}
        _raise_wrong(judged, evidence)
        swapoff_s = longest_swapoff_s(session.calls)
        return Measurement(
            samples=(
                _count("swap_mount_indicator.readings", session.readings),
                _count("swap_mount_indicator.wrong_readings", len(judged.wrong)),
                *(
                    _count(f"swap_mount_indicator.witnesses_{period.name.lower()}", number)
                    for period, number in judged.witnesses.items()
                ),
                *([] if swapoff_s is None else [Sample(metric=_SWAPOFF_TIME, value=swapoff_s, unit="s")]),
            ),
            evidence=evidence,
        )

    async def clean_up(self) -> None:
        """Take everything down."""
        await self._rig.take_down()


class _Session:
    """One run: a load, watchers, and the calls that are made meanwhile."""

    def __init__(
        self, host: Host, rig: Rig, device: Device, order: SwapMountIndicatorOrder, step: StepReporter
    ) -> None:
        self._host = host
        self._rig = rig
        self._device = device
        self._order = order
        self._step = step
        self._total_bytes = swap_total_bytes(host)
        self.calls: list[Call] = []
        self.seen: list[list[SwapsSeen]] = []
        self.readings = 0

    async def play(self) -> None:
        """Make all cycles."""
        async with AsyncExitStack() as stack:
            load = await stack.enter_async_context(exercising(self._host, "fill", FillOptions()))
            pid = (await load.until(Ready)).pid
            options = WatchOptions(swaps=str(self._host.proc / "swaps"), load_status=f"{self._host.proc}/{pid}/status")
            watchers = [
                await stack.enter_async_context(exercising(self._host, "watch", options))
                for _ in range(self._order.readers)
            ]
            tasks = [asyncio.create_task(self._listen(watcher)) for watcher in watchers]
            tasks.append(asyncio.create_task(self._cycles(load, watchers)))
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await run_to_end(asyncio.wait(tasks))

    async def _cycles(self, load: Exerciser, watchers: list[Exerciser]) -> None:
        for cycle in range(self._order.cycles):
            await self._cycle(load, cycle)
        for watcher in watchers:
            await watcher.order(End())

    async def _listen(self, watcher: Exerciser) -> None:
        readings: list[SwapsSeen] = []
        self.seen.append(readings)

        def keep(event: Event) -> None:
            if isinstance(event, SwapsSeen):
                readings.append(event)

        self.readings += (await watcher.until(Watched, keep)).readings

    async def _cycle(self, load: Exerciser, cycle: int) -> None:
        async with exercising(self._host, "switch", SwitchOptions()) as switch:
            await switch.until(Ready)
            self._step("swapon of broken areas")
            for broken in BROKEN_AREAS:
                await self._refused(switch, broken.what, broken.offset, broken.content)
            await self._make_area()
            self._step("swapon")
            await self._call(switch, on=True, must_fail="")
            self._step("swapon of what is on")
            await self._call(switch, on=True, must_fail="a device that is on already")
            await load.order(FillUp(swapped_bytes=self._order.memory_bytes))
            await load.until(Usage)
            if cycle % 2 == 0:
                self._step("swapoff, killed")
                await self._interrupted()
            if swap_total_bytes(self._host) > self._total_bytes:
                self._step("swapoff under load")
                await self._call(switch, on=False, must_fail="")
            await load.order(Shrink(swapped_bytes=0))
            await load.until(Usage)
            await switch.order(End())

    async def _refused(self, switch: Exerciser, what: str, offset: int, content: bytes) -> None:
        """Damage the area, have swapon refuse it, and see that nothing of it counts."""
        await self._make_area()
        self._host.devices.write(self._device.path, offset, content)
        await self._call(switch, on=True, must_fail=what)

    async def _make_area(self) -> None:
        command = ("mkswap", "-L", OUR_LABEL, self._device.path)
        completed = await self._host.tools.run(command, timeout_s=TOOL_TIMEOUT_S)
        if completed.status:
            raise RigError(f"mkswap {self._device.path} failed: {completed.complaint}")

    async def _call(self, switch: Exerciser, *, on: bool, must_fail: str) -> None:
        """Make one call and check what it returned and how much swap there is then. Raises KernelWanting."""
        path = self._device.path
        before_bytes = swap_total_bytes(self._host)
        if on:
            # A sweep ends the process that switches before it looks.
            self._rig.own(SwapOn(device=path))
        await switch.order(SwitchOn(device=path) if on else SwitchOff(device=path))
        called = await switch.until(Called)
        after_bytes = swap_total_bytes(self._host)
        left_on = after_bytes > self._total_bytes
        self.calls.append(
            Call(begun_s=called.begun_s, ended_s=called.ended_s, on=on, failed=called.errno != 0, left_on=left_on)
        )
        verb = "swapon" if on else "swapoff"
        if must_fail and not called.errno:
            raise KernelWanting(f"{verb} accepted {must_fail}")
        if must_fail and before_bytes != after_bytes:
            raise KernelWanting(
                f"{verb} of {must_fail} failed, and SwapTotal went from {before_bytes} to {after_bytes}"
            )
        if not must_fail and called.errno:
            complaint = f"{verb} {path} failed with error number {called.errno} ({os.strerror(called.errno)})"
            needed_bytes = 0 if on else before_bytes - swap_free_bytes(self._host)
            if short_of_memory(self._host, complaint, needed_bytes=needed_bytes):
                raise RigError(f"{complaint}; this host has too little memory left")
            raise KernelWanting(complaint)
        if not must_fail and left_on is not on:
            raise KernelWanting(f"{verb} {path} succeeded, and SwapTotal is {after_bytes}")

    async def _interrupted(self) -> None:
        """Begin a swapoff in a process of its own and kill that; the device is then off, or on and whole."""
        begun_s = self._host.monotonic()
        async with exercising(self._host, "switch", SwitchOptions()) as victim:
            await victim.until(Ready)
            begun_s = self._host.monotonic()
            await victim.order(SwitchOff(device=self._device.path))
            await victim.until(Calling)
        left_on = swap_total_bytes(self._host) > self._total_bytes
        self.calls.append(
            Call(
                begun_s=begun_s,
                ended_s=self._host.monotonic(),
                on=False,
                failed=left_on,
                left_on=left_on,
                killed=True,
            )
        )


def _raise_wrong(judged: Judged, evidence: dict[str, str]) -> None:
    """Raise KernelWanting for wrong readings, RigError when none fell into a swapoff."""
    if judged.wrong:
        named = "; ".join(judged.wrong[:_NAMED])
        more = f"; and {len(judged.wrong) - _NAMED} more" if len(judged.wrong) > _NAMED else ""
        kept = judged.wrong[:_MOST_KEPT]
        left_out = len(judged.wrong) - len(kept)
        kept += (f"and {left_out} more",) if left_out else ()
        evidence = {**evidence, "wrong_readings": "\n".join(kept)}
        raise KernelWanting(f"/proc/swaps was wrong: {named}{more}", evidence=evidence)
    for period in (Period.OFF, Period.ON, Period.SWITCHING_OFF):
        if not judged.witnesses[period]:
            raise RigError(
                f"no reading fell into the time in which the device was {period}, so this run says nothing of it; "
                "choose more memory to swap out, or fewer readers"
            )


def _count(metric: str, number: int) -> Sample:
    return Sample(metric=metric, value=float(number), unit="count")
