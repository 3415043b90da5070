"""Readings of /proc/swaps against the calls that were made: every way in which a kernel can show the wrong thing."""

from itertools import pairwise

import pytest

from agent.domain.work.exercises import SwapsSeen
from agent.domain.work.integrity import slot_allowance, unowned_slots
from agent.domain.work.mount_indicator import Call, Device, Period, judge, longest_swapoff_s, spans

HEADER = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
LINE = "/dev/zram0                              partition\t1048572\t\t{used}\t\t-2\n"
SHOWN = HEADER + LINE.format(used=0)
DEVICE = Device(path="/dev/zram0", size_bytes=1 << 30)
# Refused at 1, on from 2 to 3, refused again at 4, a killed swapoff from 5 to 6, off from 7 to 9.
CALLS = (
    Call(begun_s=1.0, ended_s=1.5, on=True, failed=True, left_on=False),
    Call(begun_s=2.0, ended_s=3.0, on=True, failed=False, left_on=True),
    Call(begun_s=4.0, ended_s=4.5, on=True, failed=True, left_on=True),
    Call(begun_s=5.0, ended_s=6.0, on=False, failed=True, left_on=True),
    Call(begun_s=7.0, ended_s=9.0, on=False, failed=False, left_on=False),
)


def seen(at_s: float, text: str, *, load: int | None = None, lasts_s: float = 0.01) -> SwapsSeen:
    return SwapsSeen(begun_s=at_s, ended_s=at_s + lasts_s, text=text, load_swapped_bytes=load)


RIGHT = (
    seen(0.5, HEADER),
    seen(1.2, HEADER),
    seen(1.8, HEADER),
    seen(2.2, HEADER),
    seen(2.8, SHOWN),
    seen(3.5, SHOWN),
    seen(4.2, SHOWN),
    seen(4.8, HEADER + LINE.format(used=512)),
    seen(5.5, SHOWN),
    seen(6.5, SHOWN),
    seen(7.5, SHOWN, load=4096),
    seen(8.5, HEADER, load=0),
    seen(9.5, HEADER),
)


def wrong(*readings: SwapsSeen) -> tuple[str, ...]:
    return judge([readings], CALLS, DEVICE).wrong


def test_right_readings_are_right_and_counted_by_their_period() -> None:
    judged = judge([RIGHT, RIGHT], CALLS, DEVICE)
    assert judged.wrong == ()
    assert judged.witnesses == {
        Period.OFF: 6,
        Period.ON: 8,
        Period.SWITCHING_ON: 4,
        Period.FAILING_ON: 2,
        Period.SWITCHING_OFF: 4,
        Period.FAILING_OFF: 2,
    }


def test_a_swapoff_that_was_killed_is_not_the_longest() -> None:
    killed = Call(begun_s=10.0, ended_s=90.0, on=False, failed=True, left_on=True, killed=True)
    assert longest_swapoff_s((*CALLS, killed)) == 2.0
    assert longest_swapoff_s((killed, CALLS[0])) is None


def test_periods_cover_all_time() -> None:
    periods = spans(CALLS)
    assert (periods[0].begin_s, periods[-1].end_s) == (float("-inf"), float("inf"))
    for earlier, later in pairwise(periods):
        assert earlier.end_s == later.begin_s
    assert [each.period for each in spans(())] == [Period.OFF]


@pytest.mark.parametrize(
    ("reading", "words"),
    [
        (seen(0.5, SHOWN), "is shown while off"),
        (seen(1.2, SHOWN), "is shown while failing to be switched on"),
        (seen(3.5, HEADER), "is not shown while on"),
        (seen(4.2, HEADER), "is not shown while on"),
        (seen(5.5, HEADER), "is not shown while failing to be switched off"),
        (seen(7.5, HEADER, load=4096), "is not shown while being switched off, and 4096 bytes are still swapped out"),
        (seen(9.5, SHOWN), "is shown while off"),
        (seen(2.5, SHOWN.replace("1048572", "0")), "is shown with 0 bytes while being switched on"),
        (seen(3.5, SHOWN.replace("1048572", "4194300")), "is shown with 4294963200 bytes while on"),
    ],
)
def test_every_contradiction_is_found(reading: SwapsSeen, words: str) -> None:
    (found,) = wrong(reading)
    assert words in found
    assert found.startswith(f"at {reading.begun_s:.6f} s: ")


def test_a_reading_across_a_bound_is_judged_only_where_both_sides_agree() -> None:
    # Off, then refused: never shown, in whatever moment it was read.
    assert wrong(seen(0.9, SHOWN, lasts_s=0.2)) != ()
    assert wrong(seen(0.9, HEADER, lasts_s=0.2)) == ()
    # On, then a swapoff that is killed: shown all the time.
    assert wrong(seen(4.9, HEADER, lasts_s=0.2)) != ()
    # Off, then switched on: either.
    for text in (SHOWN, HEADER):
        assert wrong(seen(1.9, text, lasts_s=0.2)) == ()


def test_what_is_gone_stays_gone_and_what_is_there_stays_there() -> None:
    (found,) = wrong(seen(7.2, HEADER), seen(7.4, SHOWN))
    assert "came back while being switched off" in found
    (found,) = wrong(seen(2.2, SHOWN), seen(2.4, HEADER))
    assert "went away while being switched on" in found
    # Two watchers see the same moment differently when they read at different times.
    assert judge([(seen(7.2, HEADER),), (seen(7.4, SHOWN),)], CALLS, DEVICE).wrong == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the first line is ''"),
        ("Filename Type Size Used\n", "the first line is"),
        (SHOWN.rstrip("\n"), "cut off"),
        (SHOWN + LINE.format(used=0), "shown twice"),
        (SHOWN.replace("partition", "partitio"), "a line is"),
        (SHOWN.replace("-2", "x"), "a line is"),
        (HEADER + LINE.format(used=1048576), "more is in use than there is"),
        (HEADER + "/dev/zram0 partition 7\n", "a line is"),
    ],
)
def test_what_is_not_well_formed_is_wrong_at_any_time(text: str, words: str) -> None:
    for at_s in (0.5, 1.99, 3.5):
        assert any(words in each for each in wrong(seen(at_s, text, lasts_s=0.02)))


def test_other_swap_of_the_host_is_not_judged() -> None:
    other = "/swap\\040file                          file\t\t2097148\t\t0\t\t-3\n"
    assert wrong(seen(0.5, HEADER + other), seen(3.5, SHOWN + other)) == ()


def test_slots_in_use_belong_to_somebody_or_are_leaked() -> None:
    assert unowned_slots(used_pages=10, owned_pages=10, allowance_pages=0) == 0
    assert unowned_slots(used_pages=10, owned_pages=9, allowance_pages=0) == 1
    # Pages that several processes share are counted for each.
    assert unowned_slots(used_pages=10, owned_pages=500, allowance_pages=0) == 0
    assert unowned_slots(used_pages=300, owned_pages=0, allowance_pages=256) == 44


@pytest.mark.parametrize(
    ("symbols", "allowance"),
    [
        (["ffffffff81000000 T _text\n"], 0),
        (["ffffffff81000000 T _text\n", "ffffffff81234560 T enable_swap_slots_cache\n"], 256),
        # A kernel that hides its symbols might have the cache.
        ([], 256),
    ],
)
def test_only_a_kernel_with_a_cache_of_slots_may_keep_some(symbols: list[str], allowance: int) -> None:
    assert slot_allowance(symbols, cpu_count=2) == allowance
