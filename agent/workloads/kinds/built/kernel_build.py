"""S2, S3: building a kernel while memory is short: system, user and elapsed time of make and all its children.

Unpacking and configuring come before and are not measured; every run builds into a new directory. A subset of objects
is removed and built again in a directory that was prepared once, which is not measured either, and reported under names
of its own: kernel_build_subset.*. Preparing takes an emulated processor minutes, so it can be kept for later commands.
"""

from pathlib import Path

from agent.domain.errors import RigError, WorkloadDied
from agent.domain.host.memory import GIB, MIB
from agent.domain.orders.orders import KernelBuildOrder
from agent.domain.orders.preflight import Needs
from agent.domain.results import Sample
from agent.domain.work.leftovers import MadeDirectory
from agent.workloads.deaths import killed_for_memory
from agent.workloads.kinds.built.kept import is_kept, keep, made_for, still_fits
from agent.workloads.kinds.built.kernel_source import KernelTree, find_source, is_partial, needs_of, tree_of, unpack
from agent.workloads.port import Ended, Host, Inspection, Measurement, StepReporter
from agent.workloads.rig.rig import Rig, pages_to_mib

# The command's own deadline comes first; this one ends what hangs in spite of it.
_BUILD_TIMEOUT_S = 12 * 3600.0
_CONFIGURE_TIMEOUT_S = 1800.0
_TOOLS = ("make", "gcc", "ld", "flex", "bison", "bc")
# Whatever the agent's environment says, the same is built.
_ENVIRONMENT = {
    "MAKEFLAGS": "",
    "KBUILD_BUILD_USER": "kernroll",
    "KBUILD_BUILD_HOST": "kernroll",
    "KBUILD_BUILD_TIMESTAMP": "@0",
    "CCACHE_DISABLE": "1",
    # A source directory stays as it is: what changes in it is somebody's edit.
    "PYTHONDONTWRITEBYTECODE": "1",
}


class KernelBuild:
    """The workload; one object serves one command."""

    name = "kernel_build"

    def __init__(self, order: KernelBuildOrder, host: Host) -> None:
        self._order = order
        self._host = host
        scratch = Path(order.directory) if order.directory else host.scratch
        self._kept = Path(order.prepared_directory) if order.prepared_directory else None
        self._work = self._kept or scratch / f"{host.workers.name}.build"
        self._source = find_source(host, order.source)
        # What is kept has its room already; when it does not fit any more, it makes room for what takes its place.
        kept = self._kept is not None and is_kept(host, self._kept)
        build_bytes = needs_of(self._source) + (_FULL_BYTES if order.config == "defconfig" else _TINY_BYTES)
        needs = Needs(disk_bytes=0 if kept else build_bytes)
        self._rig = Rig(host, swap=order.swap, pressure=order.pressure, needs=needs, scratch=self._kept or scratch)
        self._tree: KernelTree | None = None
        self._metric = "kernel_build_subset" if order.objects else "kernel_build"

    def inspect(self) -> Inspection:
        """Say what would be touched."""
        source = self._source or "a kernel's source, which is not there"
        what = f"builds {len(self._order.objects)} objects" if self._order.objects else "builds a whole kernel"
        after = "leaves what the objects need there for later commands" if self._kept else "removes it"
        inspection = self._rig.inspect(
            f"makes {self._work}, {what} ({self._order.config}) from {source} in it, and {after}"
        )
        return Inspection(touches=inspection.touches, refusals=(*inspection.refusals, *self._refusals()))

    async def prepare(self, step: StepReporter) -> None:
        """Set the rig up and unpack the source. Raises RigError, KernelWanting."""
        refusals = self._refusals()
        if refusals:
            raise RigError("this host is not touched: " + "; ".join(refusals))
        # The limit comes when the source is there: unpacking is no part of the measurement.
        await self._rig.set_up(step, limited=False)
        # Read before anything is prepared from it: an edit meanwhile is one that the next command finds.
        wanted = await made_for(self._host, self._source, self._order.config) if self._kept else ""
        if self._kept and await still_fits(self._host, self._kept, wanted):
            self._tree = tree_of(self._source, self._kept)
            return
        step("unpacking the source")
        if self._host.files.exists(self._work):
            raise RigError(f"{self._work} is there already, and this agent did not note it; remove it, or name another")
        self._rig.own(MadeDirectory(path=str(self._work)))
        self._tree = await unpack(self._host, self._source, self._work)
        if self._order.objects:
            await self._configure(step)
        if self._kept:
            await keep(self._host, self._kept, wanted)

    async def run(self, step: StepReporter) -> Measurement:
        """Build once. Raises WorkloadDied, RigError (also when nothing was swapped)."""
        assert self._tree is not None, "prepared"
        self._rig.limit(False)
        if self._order.objects:
            # What the objects need stays as it was prepared: that takes far longer than they do.
            for each in self._order.objects:
                self._host.files.remove(self._tree.output / each)
        else:
            await self._configure(step)
        self._rig.limit()
        step("building")
        before = self._rig.counters()
        deaths_before = killed_for_memory(self._host)
        ended = await self._make(*self._order.objects, jobs=self._order.jobs, timeout_s=_BUILD_TIMEOUT_S)
        swapped = self._rig.counters().since(before)
        self._check(ended, killed_for_memory(self._host) - deaths_before)
        self._rig.check_swapped_out(swapped, self._order.min_swapped_out_bytes)
        return Measurement(
            samples=(
                Sample(metric=f"{self._metric}.system_time", value=ended.system_s, unit="s"),
                Sample(metric=f"{self._metric}.user_time", value=ended.user_s, unit="s"),
                Sample(metric=f"{self._metric}.elapsed", value=ended.elapsed_s, unit="s"),
                Sample(metric=f"{self._metric}.swapped_out", value=pages_to_mib(swapped.all_out), unit="MiB"),
                Sample(metric=f"{self._metric}.swapped_in", value=pages_to_mib(swapped.all_in), unit="MiB"),
                Sample(metric=f"{self._metric}.largest_process", value=ended.peak_bytes / MIB, unit="MiB"),
            ),
            evidence={**self._rig.evidence(), **await self._environment()},
        )

    async def clean_up(self) -> None:
        """Take everything down."""
        await self._rig.take_down()

    async def _configure(self, step: StepReporter) -> None:
        """Make an empty build directory and configure it; prepare what a subset of objects needs."""
        assert self._tree is not None, "unpacked"
        step("configuring")
        await self._host.files.remove_tree(self._tree.output)
        self._host.files.make_directory(self._tree.output)
        targets = (self._order.config, "prepare") if self._order.objects else (self._order.config,)
        for target in targets:
            ended = await self._make(target, jobs=self._order.jobs, timeout_s=_CONFIGURE_TIMEOUT_S)
            if ended.status:
                raise RigError(f"make {target} failed: {ended.complaint}; is this a clean kernel source?")

    async def _make(self, *targets: str, jobs: int, timeout_s: float) -> Ended:
        assert self._tree is not None, "unpacked"
        command = ("make", "-s", f"-j{jobs}", "-C", str(self._tree.source), f"O={self._tree.output}", *targets)
        return await self._host.workers.run(command, timeout_s=timeout_s, environment=_ENVIRONMENT)

    def _check(self, ended: Ended, deaths: int) -> None:
        if deaths or ended.status < 0:
            raise WorkloadDied(f"the build died: {deaths} of its processes were killed for memory; {_end(ended)}")
        if ended.status:
            raise RigError(f"the build failed: {_end(ended)}")
        assert self._tree is not None, "unpacked"
        for product in self._order.objects or ("vmlinux",):
            if not self._host.files.exists(self._tree.output / product):
                raise RigError(f"make ended well and made no {product}; that is no build")

    async def _environment(self) -> dict[str, str]:
        assert self._tree is not None, "unpacked"
        version = await self._make("kernelversion", jobs=1, timeout_s=_CONFIGURE_TIMEOUT_S)
        compiler = await self._host.tools.run(("gcc", "--version"), timeout_s=60.0)
        objects = " ".join(self._order.objects)
        return {
            "built": f"a subset, not the kernel: {objects}" if objects else "the whole kernel, make's default target",
            "command": f"make -j{self._order.jobs} {objects}".strip(),
            "config": self._order.config,
            "source": f"{self._source}, version {version.stdout.strip()}",
            "compiler": compiler.stdout.split("\n")[0],
        }

    def _refusals(self) -> tuple[str, ...]:
        missing = [tool for tool in _TOOLS if not self._host.tools.has(tool)]
        found = [f"{', '.join(missing)} not installed; install gcc, make, flex, bison and bc"] if missing else []
        if not self._source:
            found.append("no kernel source is here; install linux-source, or name one (--source)")
        elif is_partial(self._source) and not self._order.objects:
            found.append(
                f"{self._source} is enough for some objects, not for a kernel; name objects, or another source"
            )
        return tuple(found)


# Measured with Debian's linux-source 6.1 on x86_64, and rounded up.
_TINY_BYTES = 512 * MIB
_FULL_BYTES = 4 * GIB


def _end(ended: Ended) -> str:
    """Return the first errors of a build; its last words only say that there were some."""
    errors = [line for line in ended.stderr.splitlines() if "rror" in line or "Killed" in line]
    return "; ".join(errors[:3])[:500] or ended.complaint
