"""A workload with what the kernel counted meanwhile: around every run two readings, and a point a second between."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from agent.domain.leftovers import SwapOn
from agent.domain.recording import evidence_between, foreign_swap_sample, samples_between
from agent.domain.timeline import Timeline
from agent.workloads.port import Host, Inspection, Measurement, StepReporter, Workload

_INTERVAL_S = 1.0


class Recorded:
    """Another workload, recorded."""

    def __init__(
        self,
        workload: Workload,
        host: Host,
        *,
        every_second: bool,
        own_swap: bool = True,
    ) -> None:
        self._workload = workload
        self._host = host
        self._readings = host.readings
        # Off where the memory that the agent itself takes would be in what is measured.
        self._every_second = every_second
        # Off where the host's own swap is what the workload was ordered to use.
        self._own_swap = own_swap
        self._environment = ""

    @property
    def name(self) -> str:
        """Return the workload's own name."""
        return self._workload.name

    def inspect(self) -> Inspection:
        """Say what the workload would touch; recording touches nothing."""
        return self._workload.inspect()

    async def prepare(self, step: StepReporter) -> None:
        """Prepare the workload, then read the environment as its runs find it."""
        await self._workload.prepare(step)
        self._environment = await self._host.environment()

    async def run(self, step: StepReporter) -> Measurement:
        """Run the workload; its own samples and evidence come first and stand."""
        before = self._readings.read(self._host.monotonic())
        timeline = Timeline(before)
        async with self._watching(timeline):
            found = await self._workload.run(step)
        after = self._readings.read(self._host.monotonic())
        own = {sample.metric for sample in found.samples}
        recorded = [sample for sample in samples_between(before, after) if sample.metric not in own]
        if self._own_swap:
            recorded.append(foreign_swap_sample(before, after, self._devices()))
        evidence = evidence_between(before, after)
        accounts = self._host.workers.statistics()
        evidence |= {f"cgroup_{name.replace('.', '_')}": text for name, text in accounts.items()}
        if csv := timeline.csv():
            evidence["timeline_csv"] = csv
        if self._environment:
            # The same in all runs of the command, so that it travels with the first one only.
            evidence["environment"], self._environment = self._environment, ""
        return Measurement(samples=(*found.samples, *recorded), evidence={**evidence, **found.evidence})

    def _devices(self) -> set[str]:
        """Return what this command has switched on, or was about to."""
        noted = (each.leftover for each in self._host.leftovers.noted())
        return {each.device for each in noted if isinstance(each, SwapOn)}

    async def clean_up(self) -> None:
        """Clean the workload up."""
        await self._workload.clean_up()

    @asynccontextmanager
    async def _watching(self, timeline: Timeline) -> AsyncIterator[None]:
        if not self._every_second:
            yield
            return
        watch = asyncio.create_task(self._watch(timeline))
        try:
            yield
        finally:
            watch.cancel()
            with suppress(asyncio.CancelledError):
                await watch

    async def _watch(self, timeline: Timeline) -> None:
        while True:
            await self._host.sleep(_INTERVAL_S)
            timeline.add(self._readings.glance(self._host.monotonic()))
