"""What is recorded with every run: parsed as kernels write it, absent where they do not."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from fake_host import FakeProcess
from fake_kernel import FakeKernel

from agent.adapters.host.environment import read_environment
from agent.adapters.host.readings import KernelReadings
from agent.domain.host.counters import (
    StallTime,
    chosen,
    parse_mm_stat,
    parse_pairs,
    parse_pressure,
    parse_processor_time,
    parse_slabs,
)
from agent.domain.host.environment import cpu_fields, parse_config
from agent.domain.results import Sample
from agent.domain.work.recording import (
    VMSTAT_SUMS,
    Reading,
    counter,
    evidence_between,
    foreign_swap_sample,
    samples_between,
)
from agent.domain.work.timeline import HEADER, MOST_POINTS, Timeline
from agent.workloads.port import Inspection, Measurement, StepReporter
from agent.workloads.recorded import Recorded
from controller.gate.priors import PRIORS

# As Linux 6.18 writes them.
VMSTAT = """\
nr_free_pages 5584075
pswpin 100
pswpout 200
pgmajfault 30
allocstall_dma32 1
allocstall_normal 2
pgscan_kswapd 0
pgscan_direct_throttle 7
pgscan_anon 50
pgscan_file 5
pgsteal_anon 40
pgsteal_file 4
workingset_refault_anon 60
workingset_refault_file 1
oom_kill 0
thp_swpout 3
thp_swpout_fallback 1
zswpin 0
zswpout 0
"""
PRESSURE = "some avg10=0.00 avg60=1.25 avg300=0.10 total={some}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total={full}\n"
MM_STAT = "  134221824    87654321    90112000        0    91000000     1024        5      300      310\n"
SLABINFO = """\
slabinfo - version: 2.1
# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit> <batchcount> \
<sharedfactor> : slabdata <active_slabs> <num_slabs> <sharedavail>
swap_table            12     16   4096    8    8 : tunables    0    0    0 : slabdata      2      2      0
zspage-zram0           0    128     64   64    1 : tunables    0    0    0 : slabdata      2      2      0
dentry             51240  51240    192   21    1 : tunables    0    0    0 : slabdata   2440   2440      0
"""


def write_kernel(root: Path, *, some_us: int, pswpin: int) -> None:
    """Write the files of a kernel into a fake one."""
    proc, sys = root / "proc", root / "sys"
    (proc / "pressure").mkdir(exist_ok=True)
    (proc / "pressure/memory").write_text(PRESSURE.format(some=some_us, full=some_us // 2))
    (proc / "pressure/io").write_text(PRESSURE.format(some=0, full=0))
    (proc / "vmstat").write_text(VMSTAT.replace("pswpin 100", f"pswpin {pswpin}"))
    (proc / "slabinfo").write_text(SLABINFO)
    for name, disksize in (("zram0", "1073741824"), ("zram1", "0")):
        (sys / "block" / name).mkdir(exist_ok=True)
        (sys / "block" / name / "disksize").write_text(f"{disksize}\n")
        (sys / "block" / name / "mm_stat").write_text(MM_STAT)


def test_vmstat_metrics_are_those_the_gate_knows() -> None:
    named = {name.removeprefix("vmstat.") for name in PRIORS if name.startswith("vmstat.")}
    assert set(VMSTAT_SUMS) == named


def test_counters_are_summed_up_and_absent_where_a_kernel_has_none() -> None:
    vmstat = parse_pairs(VMSTAT)
    assert counter(vmstat, "allocstall") == 3
    assert counter(vmstat, "pgscan") == 55
    assert counter(vmstat, "pgsteal") == 44
    older = parse_pairs("pswpin 5\nallocstall 9\n")
    assert counter(older, "allocstall") == 9
    assert counter(older, "zswpin") is None
    samples = samples_between(Reading(at_s=0.0, vmstat=older), Reading(at_s=1.0, vmstat=older))
    assert {sample.metric for sample in samples} == {"vmstat.pswpin", "vmstat.allocstall"}


def test_stall_times_become_shares_of_the_time_between() -> None:
    first = StallTime(some_us=1_000_000, full_us=0)
    last = StallTime(some_us=3_500_000, full_us=None)
    samples = samples_between(
        Reading(at_s=10.0, pressure={"memory": first, "cpu": first}),
        Reading(at_s=20.0, pressure={"memory": last, "cpu": last}),
    )
    assert samples == (Sample(metric="psi.memory_some", value=25.0, unit="% of time"),)
    assert PRIORS["psi.memory_some"].unit == "% of time"


@pytest.mark.parametrize("text", ["", "some avg10=0.00", "Operation not supported"])
def test_no_stall_time_where_the_kernel_counts_none(text: str) -> None:
    assert parse_pressure(text) is None


def test_columns_of_zram_and_slabs() -> None:
    columns = parse_mm_stat(MM_STAT)
    assert (columns["stored_bytes"], columns["memory_bytes"], columns["same_filled_pages"]) == (
        134221824,
        90112000,
        1024,
    )
    # Before 5.10 there was one column less.
    assert "incompressible_pages" not in parse_mm_stat("1 2 3 4 5 6 7")
    assert parse_mm_stat("") == {}
    assert parse_slabs(SLABINFO, page_bytes=4096) == {"swap_table": 2 * 8 * 4096, "zspage-zram0": 2 * 4096}


def test_the_chosen_word_is_the_one_in_brackets() -> None:
    assert chosen("always [madvise] never\n") == "madvise"
    assert chosen("0x0007\n") == "0x0007"


def test_a_kernel_that_shows_nothing_gives_nothing(tmp_path: Path) -> None:
    reading = KernelReadings(tmp_path / "proc", tmp_path / "sys").read(1.0)
    assert reading == Reading(at_s=1.0)
    assert samples_between(reading, reading) == ()
    assert evidence_between(reading, reading) == {}


def test_this_machine_is_read() -> None:
    reading = KernelReadings(Path("/proc"), Path("/sys")).read(1.0)
    assert reading.meminfo["MemTotal"] > reading.meminfo["MemAvailable"] > 0
    assert reading.vmstat["pgfault"] > 0
    assert reading.swaps.startswith("Filename")


def test_a_timeline_is_thinned_and_keeps_its_ends() -> None:
    def at(second: int) -> Reading:
        return Reading(at_s=100.0 + second, vmstat={"pswpin": 1000 + second}, meminfo={"SwapFree": second})

    timeline = Timeline(at(0))
    assert timeline.csv() == ""
    for second in range(1, 5001):
        timeline.add(at(second))
    header, *lines = timeline.csv().splitlines()
    assert header == HEADER
    assert 250 <= len(lines) < MOST_POINTS
    assert lines[0] == "1.000,,1,,1,,,,,,"
    seconds = [float(line.split(",")[0]) for line in lines]
    steps = {later - earlier for earlier, later in pairwise(seconds)}
    assert len(steps) == 1, "evenly spaced"
    assert seconds[-1] > 4980


STAT = "cpu  {user} 0 50 800 5 1 4 {stolen} 40 0\ncpu0 1 2 3 4 5 6 7 8 9 10\nintr 5\n"
SWAPS = """\
Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority
/dev/zram0                              partition\t524284\t\t1024\t\t-2
/dev/vda3                               partition\t524284\t\t{0}\t\t-3
"""


def write_neighbours(root: Path, *, user: int, stolen: int, throttled: int, foreign_kib: int) -> None:
    """Write what the kernel counts of others."""
    (root / "proc/stat").write_text(STAT.format(user=user, stolen=stolen))
    (root / "proc/swaps").write_text(SWAPS.format(foreign_kib))
    for number in range(2):
        counts = root / f"sys/devices/system/cpu/cpu{number}/thermal_throttle"
        counts.mkdir(parents=True, exist_ok=True)
        (counts / "core_throttle_count").write_text(f"{throttled}\n")
        (counts / "package_throttle_count").write_text("1000\n")


def test_what_others_take_from_a_run(tmp_path: Path) -> None:
    for directory in ("proc", "sys"):
        (tmp_path / directory).mkdir()
    readings = KernelReadings(tmp_path / "proc", tmp_path / "sys")
    write_neighbours(tmp_path, user=100, stolen=0, throttled=3, foreign_kib=2048)
    before = readings.read(0.0)
    write_neighbours(tmp_path, user=175, stolen=25, throttled=5, foreign_kib=1024)
    after = readings.read(1.0)
    assert samples_between(before, after) == (
        Sample(metric="cpu.stolen", value=25.0, unit="% of time"),
        Sample(metric="cpu.throttled", value=4.0, unit="count"),
    )
    assert foreign_swap_sample(before, after, {"/dev/zram0"}) == Sample(
        metric="swap.foreign_used", value=2.0, unit="MiB"
    )
    assert foreign_swap_sample(before, after, {"/dev/zram0", "/dev/vda3"}).value == 0.0
    for text in ("", "cpu 1 2 3\n", "cpu  a 0 50 800 5 1 4 0\n", "intr 1 2 3 4 5 6 7 8 9\n"):
        assert parse_processor_time(text) is None


class Touching:
    """A workload in whose run the kernel counts something."""

    name = "touching"

    def __init__(self, root: Path, process: FakeProcess) -> None:
        self._root = root
        self._process = process
        self.cleaned_up = False

    def inspect(self) -> Inspection:
        return Inspection(touches=("nothing",))

    async def prepare(self, step: StepReporter) -> None:
        self._process.host().workers.confine(1 << 20)
        write_kernel(self._root, some_us=0, pswpin=100)

    async def run(self, step: StepReporter) -> Measurement:
        for _ in range(10):
            await self._process.host().sleep(1.0)
        write_kernel(self._root, some_us=5_000_000, pswpin=350)
        own = Sample(metric="vmstat.pswpout", value=-1.0, unit="pages")
        return Measurement(samples=(own,), evidence={"zram": "the workload's own"})

    async def clean_up(self) -> None:
        self.cleaned_up = True


async def test_a_run_is_recorded_and_the_workloads_own_words_stand(tmp_path: Path) -> None:
    kernel = FakeKernel(tmp_path)
    process = FakeProcess(kernel)
    inner = Touching(tmp_path, process)

    async def environment() -> str:
        return '{"schema": 1}'

    recorded = Recorded(inner, replace(process.host(), environment=environment), every_second=True)
    assert recorded.name == "touching"
    await recorded.prepare(lambda step: None)
    first, second = await recorded.run(lambda step: None), await recorded.run(lambda step: None)
    values = {sample.metric: sample.value for sample in first.samples}
    assert values["vmstat.pswpin"] == 250
    assert values["vmstat.pswpout"] == -1.0, "the workload's own"
    assert 0 < values["psi.memory_some"] <= 50
    assert values["zram.memory_peak"] == pytest.approx(86.8, abs=0.1), "only of the device that is set up"
    assert values["swap.foreign_used"] == 0.0
    assert len({sample.metric for sample in first.samples}) == len(first.samples)
    assert first.evidence["zram"] == "the workload's own"
    assert json.loads(first.evidence["vmstat_delta"]) == {"pswpin": 250}
    assert first.evidence["timeline_csv"].startswith(HEADER)
    assert first.evidence["timeline_csv"].count("\n") >= 5
    assert json.loads(first.evidence["environment"]) == {"schema": 1}
    assert "environment" not in second.evidence
    assert first.evidence["cgroup_memory_max"] == str(1 << 20)
    assert recorded.inspect().touches == ("nothing",)
    await recorded.clean_up()
    assert inner.cleaned_up


CONFIG = """\
#
# Automatically generated file; DO NOT EDIT.
#
CONFIG_CC_VERSION_TEXT="gcc 14"
CONFIG_SWAP=y
CONFIG_ZRAM=m
CONFIG_ZRAM_DEF_COMP="lzo-rle"
# CONFIG_KASAN is not set
CONFIG_HAVE_ARCH_KASAN=y
CONFIG_ARM64_64K_PAGES=y
CONFIG_HZ=250
CONFIG_E1000E=m
"""


def test_a_kernel_config_is_its_settings() -> None:
    config = parse_config(CONFIG)
    assert config is not None
    assert config.options == {
        "CONFIG_ARM64_64K_PAGES": "y",
        "CONFIG_HZ": "250",
        "CONFIG_SWAP": "y",
        "CONFIG_ZRAM": "m",
        "CONFIG_ZRAM_DEF_COMP": "lzo-rle",
    }
    reordered = parse_config("# another banner\n" + "\n".join(reversed(CONFIG.splitlines())))
    assert reordered is not None
    assert reordered.sha256 == config.sha256
    changed = parse_config(CONFIG.replace("CONFIG_E1000E=m", "CONFIG_E1000E=y"))
    assert changed is not None
    assert changed.sha256 != config.sha256
    assert parse_config("") is None


def test_processors_are_named_as_their_architecture_names_them() -> None:
    x86 = "processor\t: 0\nmodel name\t: AMD EPYC\nmicrocode\t: 0x1000065\n\nprocessor\t: 1\nmodel name\t: other\n"
    assert cpu_fields(x86) == {"cpu_model": "AMD EPYC", "microcode": "0x1000065"}
    arm = "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd08\nCPU revision\t: 3\n"
    assert cpu_fields(arm) == {"cpu_model": "CPU implementer 0x41, CPU part 0xd08, CPU revision 3"}
    assert cpu_fields("") == {}


async def test_an_environment_is_a_document_without_what_is_absent(tmp_path: Path) -> None:
    proc, sys, boot = tmp_path / "proc", tmp_path / "sys", tmp_path / "boot"
    (proc / "sys/vm").mkdir(parents=True)
    (proc / "sys/vm/swappiness").write_text("60\n")
    (sys / "kernel/mm/transparent_hugepage/hugepages-64kB").mkdir(parents=True)
    (sys / "kernel/mm/transparent_hugepage/enabled").write_text("always [madvise] never\n")
    (sys / "kernel/mm/transparent_hugepage/hugepages-64kB/enabled").write_text("always inherit [never]\n")
    for node in (0, 1):
        (sys / f"devices/system/node/node{node}").mkdir(parents=True)

    async def ask_version(tool: str) -> str:
        return "mkswap from util-linux 2.41\nmore\n" if tool == "mkswap" else ""

    environment = await read_environment(ask_version, proc=proc, sys=sys, boot=boot)
    document = json.loads(environment.document())
    assert document["schema"] == 1
    assert document["vm"] == {"swappiness": "60"}
    assert document["huge_pages"] == {"enabled": "madvise", "hugepages-64kB enabled": "never"}
    assert document["numa_nodes"] == 2
    assert document["tools"]["mkswap"] == "mkswap from util-linux 2.41"
    assert set(document["tools"]) == {"mkswap", "python"}
    assert not {"microcode", "kernel_config", "zswap", "frequency_governor"} & set(document)
