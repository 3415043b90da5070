"""Texts of kernels and programs that an agent reads: whatever a broken kernel prints, a run ends in words."""

import json

from drawing import Draw, as_text
from promised import Target

from agent.adapters.wire.messages import hello
from agent.domain.host import boot_witnesses, counters, environment, facts, machine, process_memory
from agent.domain.host.memory import parked_pages, parse_meminfo
from agent.domain.host.swap_counters import parse_swap_counters
from agent.domain.host.swap_header import EDGE_BYTES, Content, content_of, first_mark
from agent.domain.session.kernel_log import parse_record, sequence_of, worth_reporting
from agent.domain.session.previous_boot import BootMark, last_words, obituary
from agent.domain.work import recording
from agent.domain.work.exercises import SwapsSeen
from agent.domain.work.ktap import parse_ktap
from agent.domain.work.mount_indicator import Call, Device, judge
from agent.domain.work.selftests import PROGRAMS, Ending, evidence_of, judged, samples_of
from agent.domain.work.spoken_results import parse_spoken
from agent.domain.work.stress_ng import parse_metrics
from agent.domain.work.timeline import Timeline
from agent.domain.work.valkey import parse_benchmark, parse_info

_PROGRAM = next(iter(PROGRAMS.values()))
_CALLS = (
    Call(begun_s=1.0, ended_s=2.0, on=True, failed=False, left_on=True),
    Call(begun_s=3.0, ended_s=4.0, on=False, failed=False, left_on=False),
)


def _counters(data: bytes) -> None:
    """The kernel's counters, of two moments: before and after "===" of the text, by whatever reads such files."""
    before, _, after = as_text(data).partition("===\n")
    readings = []
    for at_s, text in ((1.0, before), (2.0, after)):
        stalled = counters.parse_pressure(text)
        readings.append(
            recording.Reading(
                at_s=at_s,
                vmstat=counters.parse_pairs(text),
                pressure={} if stalled is None else {"memory": stalled},
                meminfo=counters.parse_sizes(text),
                zram={"zram0": counters.parse_mm_stat(text)},
                slabs=counters.parse_slabs(text, page_bytes=4096),
                swaps=text,
                processor_time=counters.parse_processor_time(text),
            )
        )
    first, last = readings
    timeline = Timeline(first)
    timeline.add(last)
    timeline.csv()
    json.dumps(recording.evidence_between(first, last))
    for sample in recording.samples_between(first, last):
        float(sample.value)
    recording.foreign_swap_sample(first, last, ())
    counters.chosen(before)
    process_memory.parse_status(before)
    process_memory.parse_smaps(before)
    parked_pages(before)


def _memory(data: bytes) -> None:
    text = as_text(data)
    parse_swap_counters(text)
    parse_meminfo(text)


def _hello(data: bytes) -> None:
    """Facts of any texts make a Hello."""
    draw = Draw(data, ("/proc/swaps\n/dev/zram0 partition 1024 0 5", "kvm-clock", "QEMU TCG", "flags : hypervisor"))
    hints = facts.PlatformHints(
        cpuinfo=draw.text(), dmi_vendor=draw.text(), hypervisor_type=draw.text(), clocksources=draw.text()
    )
    told = facts.platform_of(hints)
    boot = machine.BootHints(
        architecture=draw.of(("x86_64", "arm64", "")),
        loader_info=draw.text(),
        loader_type=draw.text(),
        command_line=draw.text(),
    )
    environment.cpu_fields(hints.cpuinfo)
    environment.parse_config(draw.text())
    host = facts.HostFacts(
        hostname=draw.text(),
        architecture=boot.architecture,
        page_size_bytes=4096,
        memory_bytes=1 << 30,
        kernel_release=draw.text(),
        kernel_version=draw.text(),
        boot_id=draw.text(),
        platform=told,
        swap_areas=facts.parse_swaps(draw.text() + as_text(draw.rest())),
        labels={draw.text(): draw.text()},
        agent_version="1",
        kernel_command_line=boot.command_line,
        cpu_count=1,
        firmware=machine.firmware_of(boot),
        boot_loader=machine.boot_loader_of(boot),
        virtualization=machine.virtualization_of(hints, told),
    )
    hello("a", host, active_command_ids=(), highest_epoch=1).SerializeToString()


def _selftests(data: bytes) -> None:
    draw, text = Draw(data[:2]), as_text(data[2:])
    parse_ktap(text)
    parse_spoken(text)
    status = draw.of((0, 1, 4, 127, None, -9, -11))
    result = judged(_PROGRAM, Ending(status=status, elapsed_s=1.0, stdout=text, stderr=text[: draw.byte()]))
    samples_of([result])
    json.dumps(evidence_of([result]))


def _kmsg(data: bytes) -> None:
    sequence_of(data)
    record = parse_record(data)
    if record is not None:
        assert record.sequence == sequence_of(data)
        worth_reporting(record)


def _last_words(data: bytes) -> None:
    """Logs that earlier boots left, and what else tells of their end."""
    files = {f"/sys/fs/pstore/dmesg-{number}": part for number, part in enumerate(as_text(data).split("\n====\n"))}
    words = last_words(files, ())
    sentences = boot_witnesses.told_by_dumps({"/var/crash/vmcore": 1}, ())
    obituary(BootMark(boot_id="b", stopped=False, known=()), words, sentences)


def _witnesses(data: bytes) -> None:
    for architecture in ("x86_64", "arm64"):
        boot_witnesses.told_by_wtmp(data, architecture)
    boot_witnesses.told_by_journal(boot_witnesses.journal_entries(as_text(data)))


def _swap_header(data: bytes) -> None:
    """Somebody's data is never taken for a blank device, nor for one of ours."""
    offset = int.from_bytes(data[:3], "little") % EDGE_BYTES
    head = bytearray(EDGE_BYTES)
    head[offset : offset + len(data[3:])] = data[3:]
    found = content_of(bytes(head[:EDGE_BYTES]), b"")
    blank = first_mark(bytes(head[:EDGE_BYTES])) is None
    assert blank == (found is Content.BLANK)
    if found is Content.OURS:
        assert b"kernroll" in head and b"SWAPSPACE2" in head


def _programs(data: bytes) -> None:
    """What the benchmark, its server and stress-ng print."""
    text = as_text(data)
    parse_info(text)
    refused: ValueError | None = None
    for parse in (lambda: parse_benchmark(text, "get"), lambda: parse_metrics(text)):
        try:
            parse()
        except ValueError as error:
            refused = error
    if refused is not None:
        raise refused


def _swaps_watched(data: bytes) -> None:
    draw = Draw(data[:16])
    readings = []
    for number, text in enumerate(as_text(data[16:]).split("\n====\n")[:8]):
        begun_s = float(draw.below(8)) + number / 10
        left = draw.of((None, 0, 4096))
        readings.append(SwapsSeen(begun_s=begun_s, ended_s=begun_s + 0.5, text=text, load_swapped_bytes=left))
    judge([readings], _CALLS, Device(path="/dev/ram0", size_bytes=1 << 20))


_PROC_WORDS = (
    *("MemTotal: 1024 kB", "MemFree: 1 kB", "MemAvailable: 1 kB", "pswpin 1", "pswpout 1", "cpu 1 2 3 4 5 6 7 8", "\n"),
    *(
        "some avg10=0.00 total=5",
        "full avg10=0 total=1",
        "/dev/zram0 partition 1024 0 5",
        "===\n",
        "count: 5",
        "VmRSS: 1 kB",
    ),
    *("00400000-00452000 r-xp 0 08:02 1", "Swap: 4 kB", "SwapPss: 1 kB", "²", "9" * 30, "-1", "swap_ 1 1 1 1 1 1"),
)
_KTAP_WORDS = (
    *(
        "KTAP version 1",
        "1..2",
        "ok 1 ",
        "not ok 2 ",
        "# SKIP ",
        "# XFAIL",
        "Bail out!",
        "    ok 1",
        "[PASS]",
        "[FAIL]",
    ),
    *("# Totals: pass:1 fail:0", "1..0 # SKIP x", "0xffff", "3 ms", "²", "[SKIP]", "running "),
)

TARGETS = (
    Target(name="kernel-counters", run=_counters, words=_PROC_WORDS),
    Target(name="kernel-memory", run=_memory, errors=(ValueError,), words=_PROC_WORDS),
    Target(name="host-facts", run=_hello, words=_PROC_WORDS),
    Target(name="selftests", run=_selftests, words=_KTAP_WORDS),
    Target(name="kernel-record", run=_kmsg, words=("4,1,5,-;", "²,1,1", "30,", " SUBSYSTEM=")),
    Target(
        name="last-words",
        run=_last_words,
        words=("Panic#1 Part1", "Oops#2 Part3", "<4>[    1.000000] ", "Linux version 7.1 (", "\n====\n", "9" * 30),
    ),
    Target(
        name="boot-witnesses",
        run=_witnesses,
        words=('{"__MONOTONIC_TIMESTAMP":"5","MESSAGE":"', '"PRIORITY":"4"', "shutdown", "Reached target Reboot"),
    ),
    Target(name="swap-header", run=_swap_header, stretched_bytes=1 << 12, words=("SWAPSPACE2", "kernroll")),
    Target(
        name="program-output",
        run=_programs,
        errors=(ValueError,),
        words=(
            '"test","rps","p50_latency_ms","p99_latency_ms"\n',
            '"GET","1.0","2","3"',
            "metrics:\n",
            "- stressor: vm\n",
        ),
    ),
    Target(
        name="swaps-watched",
        run=_swaps_watched,
        words=(
            "Filename\tType\tSize\tUsed\tPriority\n",
            "/dev/ram0 partition 1020 0 -2\n",
            "\n====\n",
            "-",
            "9" * 5000,
        ),
    ),
)
