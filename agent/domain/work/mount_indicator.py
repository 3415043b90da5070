"""Whether readings of /proc/swaps fit the calls that were made meanwhile.

Between two calls the device is on or off, and every reading must say so. During a call that switches it on it may be
shown, but then whole and for good; one that fails must never show it. During a call that switches it off it must be
shown as long as anything is swapped out, and once gone it stays gone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from agent.domain.numbers import is_number
from agent.domain.work.exercises import SwapsSeen

_HEADER = ("Filename", "Type", "Size", "Used", "Priority")
_KINDS = ("partition", "file")
# The page with the header is no swap space; its size may be 64 KiB, and the area is rounded down to whole pages.
_HEADER_BYTES = 2 * 65536


class Period(StrEnum):
    """What the device was from one moment to another."""

    OFF = "off"
    ON = "on"
    SWITCHING_ON = "being switched on"
    FAILING_ON = "failing to be switched on"
    SWITCHING_OFF = "being switched off"
    FAILING_OFF = "failing to be switched off"


_NEVER_SHOWN = (Period.OFF, Period.FAILING_ON)
_ALWAYS_SHOWN = (Period.ON, Period.FAILING_OFF)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of swapon or swapoff, and what it left behind."""

    begun_s: float
    ended_s: float
    on: bool
    failed: bool
    # Whether the device is on afterwards.
    left_on: bool
    # Whether its process was killed meanwhile, so that its length says nothing of the kernel.
    killed: bool = False


def longest_swapoff_s(calls: Sequence[Call]) -> float | None:
    """Return how long the longest swapoff took that was left to end; None when there was none."""
    return max((each.ended_s - each.begun_s for each in calls if not each.on and not each.killed), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A period with its bounds."""

    begin_s: float
    end_s: float
    period: Period


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What must be shown."""

    path: str
    size_bytes: int


def spans(calls: Sequence[Call]) -> tuple[Span, ...]:
    """Return the periods of a device that is off at first, from the calls in their order."""
    found = []
    was_s, on = float("-inf"), False
    for call in calls:
        found.append(Span(begin_s=was_s, end_s=call.begun_s, period=Period.ON if on else Period.OFF))
        found.append(Span(begin_s=call.begun_s, end_s=call.ended_s, period=_period(call, on)))
        was_s, on = call.ended_s, call.left_on
    found.append(Span(begin_s=was_s, end_s=float("inf"), period=Period.ON if on else Period.OFF))
    return tuple(found)


def _period(call: Call, was_on: bool) -> Period:
    if call.on:
        # Switching on what is on fails and changes nothing.
        failing = Period.ON if was_on else Period.FAILING_ON
        return failing if call.failed else Period.SWITCHING_ON
    return Period.FAILING_OFF if call.failed else Period.SWITCHING_OFF


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What the readings of all watchers amount to."""

    # One sentence a wrong reading.
    wrong: tuple[str, ...]
    # Readings told, by the period they fell into.
    witnesses: dict[Period, int]


def judge(watchers: Sequence[Sequence[SwapsSeen]], calls: Sequence[Call], device: Device) -> Judged:
    """Judge every reading of every watcher."""
    periods = spans(calls)
    wrong: list[str] = []
    witnesses = dict.fromkeys(Period, 0)
    for readings in watchers:
        placed = [(reading, _span_of(reading, periods)) for reading in readings]
        for reading, span in placed:
            complaint = _malformed(reading.text)
            if not complaint and span is not None:
                witnesses[span.period] += 1
                complaint = _contradiction(reading, span.period, device)
            if complaint:
                wrong.append(f"at {reading.begun_s:.6f} s: {complaint}")
        wrong += _relapses(placed, device)
    return Judged(wrong=tuple(wrong), witnesses=witnesses)


def _span_of(reading: SwapsSeen, periods: Sequence[Span]) -> Span | None:
    """Return the period in which a reading was taken; None when it crossed into one with other rules."""
    touched = [each for each in periods if each.begin_s <= reading.ended_s and reading.begun_s <= each.end_s]
    if len(touched) == 1:
        return touched[0]
    for alike in (_NEVER_SHOWN, _ALWAYS_SHOWN):
        if all(each.period in alike for each in touched):
            return max(touched, key=lambda each: each.begin_s)
    return None


def _malformed(text: str) -> str:
    """Return what is wrong with the form of /proc/swaps; empty when nothing is."""
    header, *lines = text.splitlines() or [""]
    if tuple(header.split()) != _HEADER:
        return f"the first line is {header!r}"
    paths = []
    for line in lines:
        fields = line.rsplit(maxsplit=4)
        numbers = fields[2:]
        numeric = all(is_number(each.removeprefix("-")) for each in numbers)
        if len(fields) != 5 or fields[1] not in _KINDS or not numeric:
            return f"a line is {line!r}"
        if int(fields[3]) > int(fields[2]):
            return f"more is in use than there is: {line!r}"
        paths.append(fields[0])
    if len(set(paths)) != len(paths):
        return f"a device is shown twice: {text!r}"
    return "" if text.endswith("\n") else f"the last line is cut off: {text!r}"


def _contradiction(reading: SwapsSeen, period: Period, device: Device) -> str:
    """Return how a well-formed reading contradicts its period; empty when it does not."""
    shown_bytes = _shown_bytes(reading, device)
    if shown_bytes is not None and not device.size_bytes - _HEADER_BYTES <= shown_bytes <= device.size_bytes:
        return f"{device.path} is shown with {shown_bytes} bytes while {period}; it has {device.size_bytes}"
    if period in _ALWAYS_SHOWN and shown_bytes is None:
        return f"{device.path} is not shown while {period}"
    if period in _NEVER_SHOWN and shown_bytes is not None:
        return f"{device.path} is shown while {period}"
    left = reading.load_swapped_bytes or 0
    if period is Period.SWITCHING_OFF and shown_bytes is None and left:
        return f"{device.path} is not shown while {period}, and {left} bytes are still swapped out"
    return ""


def _relapses(placed: Sequence[tuple[SwapsSeen, Span | None]], device: Device) -> list[str]:
    """Return where one watcher saw a device come back within one switching off, or go within one switching on."""
    found = []
    for (earlier, span), (later, next_span) in pairwise(placed):
        if span is None or span is not next_span:
            continue
        was, now = _shown_bytes(earlier, device) is not None, _shown_bytes(later, device) is not None
        if (span.period is Period.SWITCHING_OFF and now and not was) or (
            span.period is Period.SWITCHING_ON and was and not now
        ):
            change = "came back" if now else "went away"
            found.append(f"at {later.begun_s:.6f} s: {device.path} {change} while {span.period}")
    return found


def _shown_bytes(reading: SwapsSeen, device: Device) -> int | None:
    """Return the size that is shown for the device; None when it is not shown."""
    for line in reading.text.splitlines()[1:]:
        fields = line.rsplit(maxsplit=4)
        if len(fields) == 5 and fields[0] == device.path and is_number(fields[2]):
            return int(fields[2]) * 1024
    return None
