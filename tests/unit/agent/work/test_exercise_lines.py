"""What the agent and its exercisers say to each other survives the way, and nonsense is refused with its text."""

import pytest

from agent.domain.host.process_memory import parse_smaps, parse_status
from agent.domain.work.exercises import (
    ChurnOptions,
    End,
    FillUp,
    IntegrityOptions,
    Ready,
    ScenarioDone,
    Shrink,
    SweepOptions,
    Swept,
    WrongPage,
    as_line,
    options_text,
    parse_event,
    parse_options,
    parse_order,
)

EVENTS = (
    Ready(pid=12),
    Swept(pattern="random", touched_bytes=1 << 40, elapsed_s=0.25),
    ScenarioDone(scenario="race", compared_pages=9, swapped_bytes=4096, wrong_pages=0, elapsed_s=1.5),
    WrongPage(
        scenario="race",
        page=3,
        generation=2,
        offset=17,
        wrong_bytes=1,
        expected="00",
        found="01",
        looks_like="ünknown\n",
    ),
)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_is_one_line_and_comes_back(event) -> None:
    line = as_line(event)
    assert line.count(b"\n") == 1
    assert parse_event(line) == event


@pytest.mark.parametrize("order", [End(), FillUp(swapped_bytes=1 << 33), Shrink(swapped_bytes=0)])
def test_an_order_comes_back(order) -> None:
    assert parse_order(as_line(order)) == order


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"7",
        b"{",
        b'{"kind": "dance"}',
        b'{"kind": "ready"}',
        b'{"kind": "ready", "pid": 1, "x": 2}',
        # Of another type than it says: nothing may be computed from it.
        b'{"kind": "ready", "pid": "1"}',
        b'{"kind": ["ready"], "pid": 1}',
        b'{"kind": "swept", "pattern": "random", "touched_bytes": 1, "elapsed_s": NaN}',
        b'{"kind": "fill_up", "swapped_bytes": true}',
    ],
)
def test_what_is_no_event_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"event|JSON"):
        parse_event(line)
    with pytest.raises(ValueError, match=r"order|JSON"):
        parse_order(line)


def test_options_come_back_with_their_tuples() -> None:
    options = IntegrityOptions(size_bytes=4096, scenarios=("race", "huge"))
    assert parse_options(IntegrityOptions, options_text(options)) == options
    with pytest.raises(ValueError, match="options that SweepOptions does not have"):
        parse_options(SweepOptions, options_text(ChurnOptions(size_bytes=1)))


STATUS = "Name:\tpython3\nVmRSS:\t   19046 kB\nVmPTE:\t     610 kB\nVmSwap:\t  262144 kB\nThreads:\t1\n"
SMAPS = """\
7f0000000000-7f0000100000 rw-p 00000000 00:00 0
Size:               1024 kB
Swap:                512 kB
SwapPss:               4 kB
VmFlags: rd wr mr
7f0000200000-7f0000201000 r--p 00000000 fe:00 1234                       /usr/lib/libc.so.6
Size:                  4 kB
"""


def test_what_a_process_has_in_memory_and_in_swap() -> None:
    memory = parse_status(STATUS)
    assert (memory.resident_bytes, memory.swapped_bytes, memory.page_table_bytes) == (19046 << 10, 1 << 28, 610 << 10)
    first, second = parse_smaps(SMAPS)
    assert (first.begin, first.end) == (0x7F0000000000, 0x7F0000100000)
    assert (first.swapped_bytes, first.swap_share_bytes) == (512 << 10, 4 << 10)
    assert (second.swapped_bytes, second.swap_share_bytes) == (0, 0)
    # A kernel thread, or a process that has ended.
    assert parse_status("Name:\tkswapd0\n").swapped_bytes == 0
