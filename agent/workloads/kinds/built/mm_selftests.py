"""The kernel's own selftests of memory, where memory is short and there is swap: what passes, what fails, what cannot.

A failed case is no failed run: whether it speaks against the kernel is for who sees another kernel's cases beside it.
"""

from pathlib import Path

from agent.domain.errors import RigError
from agent.domain.host.memory import MIB
from agent.domain.orders.orders import MmSelftestsOrder
from agent.domain.orders.preflight import Needs
from agent.domain.results import Sample
from agent.domain.work.ktap import CaseState
from agent.domain.work.leftovers import KernelSettings, MadeDirectory, SelftestCgroups
from agent.domain.work.selftests import Ending, Program, ProgramResult, chosen, evidence_of, judged, missing, samples_of
from agent.workloads.deaths import killed_for_memory
from agent.workloads.kinds.built.kept import keep, made_for, still_fits
from agent.workloads.kinds.built.kernel_source import find_source, needs_of
from agent.workloads.kinds.built.selftest_programs import build, find_installed, find_program, refusals
from agent.workloads.port import Host, Inspection, Measurement, StepReporter
from agent.workloads.rig.kernel_settings import noted, read_settings, restore_settings
from agent.workloads.rig.rig import Rig, pages_to_mib
from agent.workloads.rig.selftest_cgroups import noted_cgroups, remove_cgroups

# Of one program's output; a few thousand cases.
_KEPT_BYTES = 1 << 20
# A copied source and what is built from it.
_BUILT_BYTES = 1024 * MIB


class MmSelftests:
    """The workload; one object serves one command."""

    name = "mm_selftests"

    def __init__(self, order: MmSelftestsOrder, host: Host) -> None:
        self._order = order
        self._host = host
        self._programs = chosen(order.programs)
        scratch = Path(order.directory) if order.directory else host.scratch
        self._kept = Path(order.prepared_directory) if order.prepared_directory else None
        self._work = self._kept or scratch / f"{host.workers.name}.selftests"
        # Where the programs are; None until they are built.
        self._where = None if order.source else find_installed(host, order.selftests_directory)
        self._source = "" if self._where else find_source(host, order.source)
        disk_bytes = needs_of(self._source) + _BUILT_BYTES if self._source else 0
        needs = Needs(memory_bytes=order.memory_bytes, disk_bytes=disk_bytes)
        self._rig = Rig(host, swap=order.swap, pressure=order.pressure, needs=needs, scratch=self._kept or scratch)
        self._settings, self._cgroups = KernelSettings(values=""), SelftestCgroups(known="")

    def inspect(self) -> Inspection:
        """Say what would be touched."""
        after = "leaves them there for later commands" if self._kept else "removes it"
        built = () if self._where else (f"makes {self._work}, builds the kernel's selftests in it, and {after}",)
        where = f" from {self._where}" if self._where else ""
        inspection = self._rig.inspect(
            *built,
            f"runs {len(self._programs)} test programs of the kernel{where} as root, each for at most "
            f"{self._order.program_timeout_s:g} s; they change settings of huge pages and of KSM, which are put back",
        )
        return Inspection(touches=inspection.touches, refusals=(*inspection.refusals, *self._refusals()))

    async def prepare(self, step: StepReporter) -> None:
        """Set the rig up, and build the programs where there are none. Raises RigError, KernelWanting."""
        found = self._refusals()
        if found:
            raise RigError("this host is not touched: " + "; ".join(found))
        # The limit comes when the programs are there: building is no part of the test.
        await self._rig.set_up(step, limited=False)
        if self._where is None:
            self._where = await self._built(step)
        self._settings = noted(read_settings(self._host))
        self._cgroups = noted_cgroups(self._host)
        self._rig.own(self._cgroups, *([self._settings] if self._settings.values else []))

    async def run(self, step: StepReporter) -> Measurement:
        """Run every program once. Raises RigError when none could run, or hardly anything was swapped out."""
        assert self._where is not None, "prepared"
        self._rig.limit()
        before = self._rig.counters()
        results = []
        for number, program in enumerate(self._programs, 1):
            step(f"{program.name}, {number} of {len(self._programs)}")
            results.append(await self._result_of(program, self._where))
        swapped = self._rig.counters().since(before)
        if all(result.state is CaseState.SKIPPED for result in results):
            reasons = "; ".join(f"{each.name}: {each.remark}" for each in results[:3])
            raise RigError(f"the run is not valid: none of {len(results)} test programs could run here ({reasons})")
        evidence = {**self._rig.evidence(), **evidence_of(results), "source": self._source or str(self._where)}
        try:
            self._rig.check_swapped_out(swapped, self._order.min_swapped_out_bytes)
        except RigError as error:
            # The cases say what the programs did instead.
            raise RigError(str(error), evidence=evidence) from error
        return Measurement(
            samples=(
                *samples_of(results),
                Sample(metric="mm_selftests.swapped_out", value=pages_to_mib(swapped.all_out), unit="MiB"),
                Sample(metric="mm_selftests.swapped_in", value=pages_to_mib(swapped.all_in), unit="MiB"),
            ),
            evidence=evidence,
        )

    async def clean_up(self) -> None:
        """Take everything down."""
        await self._rig.take_down()

    async def _built(self, step: StepReporter) -> Path:
        """Return where the programs are that an earlier command has kept, or that are built now. Raises RigError."""
        names = " ".join(program.name for program in self._programs)
        wanted = await made_for(self._host, self._source, f"selftests {names}")
        if self._kept and await still_fits(self._host, self._kept, wanted):
            return self._kept / "output"
        if self._host.files.exists(self._work):
            raise RigError(f"{self._work} is there already, and this agent did not note it; remove it, or name another")
        self._rig.own(MadeDirectory(path=str(self._work)))
        where = await build(self._host, self._source, self._work, self._programs, jobs=self._order.jobs, step=step)
        if self._kept:
            await keep(self._host, self._kept, wanted)
        return where

    async def _result_of(self, program: Program, where: Path) -> ProgramResult:
        path = find_program(self._host, where, program)
        if path is None:
            return missing(program, f"not among the programs in {where}")
        mib = str(self._order.memory_bytes // MIB)
        ending = await self._ending(path, tuple(word.replace("{mib}", mib) for word in program.arguments))
        restore_settings(self._host, self._settings)
        # A test does not run where one that was killed has left its cgroups.
        await remove_cgroups(self._host, self._cgroups)
        return judged(program, ending)

    async def _ending(self, path: Path, arguments: tuple[str, ...]) -> Ending:
        """Run one program to its end, or to that of its time."""
        host, timeout_s = self._host, self._order.program_timeout_s
        deaths_before = killed_for_memory(host)
        async with host.workers.started(
            (str(path), *arguments), directory=path.parent, kept_bytes=_KEPT_BYTES
        ) as worker:
            try:
                ended = await worker.ended(timeout_s=timeout_s)
            except TimeoutError:
                ending = Ending(status=None, elapsed_s=timeout_s, stdout=worker.printed, stderr="")
            else:
                ending = Ending(
                    status=ended.status,
                    elapsed_s=ended.elapsed_s,
                    stdout=ended.stdout,
                    stderr=ended.stderr,
                    killed_for_memory=killed_for_memory(host) - deaths_before,
                )
        if ending.status is None:
            # Whatever it has started goes with it; the others need their limit again.
            await host.workers.end_all()
            self._rig.own()
            self._rig.limit()
        return ending

    def _refusals(self) -> tuple[str, ...]:
        return refusals(self._host, self._where, self._source)
