"""The exercisers as programs: they find what is wrong, count what they did, and never outlive the agent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from exercising import exercise, loop_swap, zram_swap
from patience import PATIENCE_S

from agent.domain.work.exercises import (
    Advanced,
    ChildDied,
    ChurnOptions,
    End,
    Failed,
    FillOptions,
    FillUp,
    GoOn,
    IntegrityOptions,
    Ready,
    ScenarioDone,
    Shrink,
    SwapsSeen,
    SweepOptions,
    Swept,
    Usage,
    Watched,
    WatchOptions,
    WrongPage,
    as_line,
    options_text,
    parse_event,
)
from agent.exercisers.integrity import SCENARIOS

MIB = 1 << 20
# The smallest huge page that x86_64 and arm64 know for 4 KiB pages; with larger ones the scenario takes one page more.
SIZE = 4 * MIB


def done(events) -> dict[str, ScenarioDone]:
    return {event.scenario: event for event in events if isinstance(event, ScenarioDone)}


def test_without_a_fault_every_scenario_compares_and_finds_nothing() -> None:
    events = exercise("integrity", IntegrityOptions(size_bytes=SIZE, children=12), GoOn())
    assert isinstance(events[0], Ready)
    assert not [event for event in events if isinstance(event, WrongPage | ChildDied | Failed)]
    assert set(done(events)) == set(SCENARIOS)
    for scenario in done(events).values():
        assert scenario.skipped or scenario.compared_pages >= 512


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_one_flipped_bit_is_found_in_every_scenario(scenario: str) -> None:
    options = IntegrityOptions(size_bytes=SIZE, children=4, scenarios=(scenario,), corrupt_page=13)
    events = exercise("integrity", options, GoOn())
    result = done(events)[scenario]
    if result.skipped:
        pytest.skip(result.skipped)
    wrong = [event for event in events if isinstance(event, WrongPage)]
    assert {(event.scenario, event.page, event.wrong_bytes) for event in wrong} == {(scenario, 13, 1)}
    assert result.wrong_pages == len(wrong) > 0


def test_a_flipped_bit_under_churn_is_found_and_without_one_nothing_is() -> None:
    for corrupt_page, least in ((None, 0), (100, 1)):
        options = ChurnOptions(size_bytes=2 * SIZE, corrupt_page=corrupt_page)
        events = exercise("churn", options, End())
        result = done(events)["churn"]
        assert result.compared_pages >= 2048
        assert (result.wrong_pages > 0) == bool(least)


def test_an_unknown_scenario_is_refused_with_those_there_are() -> None:
    (failed,) = exercise("integrity", IntegrityOptions(size_bytes=SIZE, scenarios=("dance",)), GoOn())
    assert isinstance(failed, Failed)
    assert "dance" in failed.error
    assert "shared_counts" in failed.error


def test_every_pass_of_a_sweep_touches_everything() -> None:
    for pattern in ("sequential", "random"):
        options = SweepOptions(size_bytes=8 * MIB, processes=2, passes=2, pattern=pattern)
        events = exercise("sweep", options, GoOn(), GoOn(), GoOn())
        swept = [event for event in events if isinstance(event, Swept)]
        assert [(event.pattern, event.touched_bytes) for event in swept] == [
            ("populate", 8 * MIB),
            (pattern, 8 * MIB),
            (pattern, 8 * MIB),
        ]
        assert all(event.elapsed_s > 0 for event in swept)


def test_watching_tells_every_change_and_not_what_is_in_use(tmp_path: Path) -> None:
    swaps = tmp_path / "swaps"
    header = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
    line = "/dev/zram0                              partition\t1048572\t\t{used}\t\t-2\n"
    swaps.write_text(header)
    command = [sys.executable, "-m", "agent.exercisers.watch", options_text(WatchOptions(swaps=str(swaps)))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert isinstance(parse_event(process.stdout.readline()), Ready)
        texts = []
        for content in (header + line.format(used=10), header + line.format(used=20), header):
            seen = parse_event(process.stdout.readline())
            assert isinstance(seen, SwapsSeen)
            assert seen.begun_s <= seen.ended_s
            texts.append(seen.text)
            # In place and of one length up to the end, so that no reading sees half of it.
            replacement = tmp_path / "new"
            replacement.write_text(content)
            with swaps.open("r+") as file:
                file.write(content)
                file.truncate()
            if "20" in content:
                break
        process.stdin.write(as_line(End()))
        process.stdin.close()
        rest = [parse_event(each) for each in process.stdout]
    assert isinstance(rest[-1], Watched)
    assert rest[-1].readings >= 2
    assert not [event for event in rest if isinstance(event, SwapsSeen) and "\t20\t" in event.text]


def test_a_process_that_is_told_nothing_more_ends() -> None:
    # The end of its input says that the agent is gone.
    events = exercise("fill", FillOptions())
    assert [type(event) for event in events] == [Ready]


@pytest.mark.parametrize("name", ["churn", "sweep"])
def test_nothing_outlives_the_process_that_started_it(name: str, tmp_path: Path) -> None:
    options = options_text(ChurnOptions(size_bytes=SIZE) if name == "churn" else SweepOptions(size_bytes=SIZE))
    marker = tmp_path / "alive"
    os.mkfifo(marker)
    # The starter's child and grandchildren keep the marker open; reading it ends when all of them are gone.
    starter = (
        "import os, subprocess, sys; out = os.open(sys.argv[1], os.O_WRONLY); "
        "child = subprocess.Popen([sys.executable, '-m', sys.argv[2], sys.argv[3]], stdin=subprocess.PIPE, "
        "stdout=subprocess.PIPE, pass_fds=[out]); child.stdout.readline(); os.write(out, b'.'); "
        "os.kill(os.getpid(), 9)"
    )
    command = [sys.executable, "-c", starter, str(marker), f"agent.exercisers.{name}", options]
    with subprocess.Popen(command) as process, marker.open("rb") as alive:
        assert alive.read() == b"."
        assert process.wait(timeout=PATIENCE_S) == -signal.SIGKILL


def test_shared_pages_are_counted_past_every_width_on_real_swap() -> None:
    with zram_swap(256 * MIB):
        events = exercise("integrity", IntegrityOptions(size_bytes=8 * MIB), GoOn())
    results = done(events)
    assert not [event for event in events if isinstance(event, WrongPage | ChildDied | Failed)]
    for name, result in results.items():
        assert result.skipped or result.swapped_bytes >= 7 * MIB, name
    # As the kernel itself shows it: what is in swap over its shares, which are rounded down to whole KiB.
    assert 129 <= results["shared_counts"].highest_count <= 131


def test_fill_has_in_swap_what_was_ordered_and_gives_it_back() -> None:
    with zram_swap(512 * MIB):
        before = Path("/sys/block/zram0/mm_stat").read_text().split()
        orders = (FillUp(swapped_bytes=192 * MIB), Shrink(swapped_bytes=32 * MIB), Shrink(swapped_bytes=0), End())
        events = exercise("fill", FillOptions(chunk_bytes=16 * MIB), *orders)
    assert before[0] == "4096", "the header's page is all there is"
    full, less, empty = [event for event in events if isinstance(event, Usage)]
    assert 192 * MIB <= full.swapped_bytes <= 200 * MIB
    # One entry of 8 bytes a page, and the tables above.
    assert full.page_table_bytes - empty.page_table_bytes >= 192 * MIB // 512
    assert 31 * MIB <= less.swapped_bytes <= 32 * MIB
    assert (empty.mapped_bytes, empty.swapped_bytes) == (0, 0)
    assert any(isinstance(event, Advanced) for event in events)


def test_fill_says_when_the_kernel_takes_no_more() -> None:
    with zram_swap(16 * MIB):
        events = exercise("fill", FillOptions(chunk_bytes=8 * MIB), FillUp(swapped_bytes=64 * MIB), End())
    assert isinstance(events[-1], Failed)
    assert "the kernel swaps no more out" in events[-1].error
    assert "of 64 MiB" in events[-1].error


def test_a_device_that_gives_back_other_bytes_is_found_out() -> None:
    # What the kernel would do wrong is done to the file under the device: a byte of every page is changed while the
    # pages are out.
    with loop_swap(64 * MIB) as backing:
        command = [sys.executable, "-m", "agent.exercisers.churn", options_text(ChurnOptions(size_bytes=16 * MIB))]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert isinstance(parse_event(process.stdout.readline()), Ready)
            changed = 0
            while changed < 1000:
                changed += flip_bytes(backing)
            # The kernel may still have in memory what was changed on the device: only what it reads is wrong.
            enough, deadline = pages_read() + 1000, time.monotonic() + PATIENCE_S
            while pages_read() < enough:
                assert time.monotonic() < deadline, "nothing is read from swap"
                process.stdin.write(as_line(GoOn()))
                process.stdin.flush()
                assert isinstance(parse_event(process.stdout.readline()), Advanced)
            process.stdin.write(as_line(End()))
            process.stdin.close()
            events = [parse_event(line) for line in process.stdout]
    assert done(events)["churn"].wrong_pages > 0
    wrong = [event for event in events if isinstance(event, WrongPage)]
    assert {event.wrong_bytes for event in wrong} == {1}
    assert all(event.expected[:2] != event.found[:2] for event in wrong)


def pages_read() -> int:
    """Return how many pages the kernel has read from swap since it runs."""
    counters = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
    return int(counters["pswpin"])


def flip_bytes(backing: Path) -> int:
    """Change the same byte of every page that holds something, behind the header's; return how many."""
    changed = 0
    with backing.open("r+b") as file:
        for offset in range(4096, backing.stat().st_size, 4096):
            file.seek(offset + 100)
            byte = file.read(1)
            if byte != b"\0":
                file.seek(offset + 100)
                file.write(bytes([byte[0] ^ 0x10]))
                changed += 1
    return changed
