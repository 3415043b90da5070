"""A workload with what the kernel counted meanwhile: around every run two readings, and a point a second between."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import structlog

from agent.domain.errors import AgentError
from agent.domain.work.leftovers import SwapOn
from agent.domain.work.recording import Reading, evidence_between, foreign_swap_sample, samples_between
from agent.domain.work.timeline import Timeline
from agent.workloads.port import Host, Inspection, Measurement, StepReporter, Workload

_INTERVAL_S = 1.0

log = structlog.get_logger(__name__)


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
        self._unfinished = Measurement(samples=())

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
        try:
            async with self._watching(timeline):
                found = await self._workload.run(step)
        except BaseException:
            self._keep_unfinished(before, timeline)
            raise
        recorded = self._recorded(before, timeline)
        own = {sample.metric for sample in found.samples}
        others = (sample for sample in recorded.samples if sample.metric not in own)
        return Measurement(samples=(*found.samples, *others), evidence={**recorded.evidence, **found.evidence})

    def take_unfinished(self) -> Measurement:
        """Return once what was recorded of a run that did not come to its end; nothing otherwise."""
        found, self._unfinished = self._unfinished, Measurement(samples=())
        return found

    def _keep_unfinished(self, before: Reading, timeline: Timeline) -> None:
        try:
            self._unfinished = self._recorded(before, timeline)
        except (AgentError, OSError) as error:
            # What ended the run is what must be told.
            log.warning("unfinished_run_not_recorded", workload=self.name, error=str(error))

    def _recorded(self, before: Reading, timeline: Timeline) -> Measurement:
        """Return what the kernel has counted since."""
        after = self._readings.read(self._host.monotonic())
        samples = list(samples_between(before, after))
        if self._own_swap:
            samples.append(foreign_swap_sample(before, after, self._devices()))
        evidence = evidence_between(before, after)
        accounts = self._host.workers.statistics()
        evidence |= {f"cgroup_{name.replace('.', '_')}": text for name, text in accounts.items()}
        if csv := timeline.csv():
            evidence["timeline_csv"] = csv
        if self._environment:
            # The same in all runs of the command, so that it travels with the first one only.
            evidence["environment"], self._environment = self._environment, ""
        return Measurement(samples=tuple(samples), evidence=evidence)

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
