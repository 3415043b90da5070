"""An exception names one fault: never a kind, never the words with which every line of a kind begins."""

import re._constants as codes
import re._parser as parser
from collections.abc import Iterator

import pytest
from pydantic import ValidationError

from controller.domain.spec.fields import KnownLineEntry
from controller.gate.kernel_log import TABLE, KnownLine, classify
from controller.gate.kernel_log.table import WARNING_IN_MM, Row


def openings(parsed: parser.SubPattern | list, before: tuple[str, ...] = ("",)) -> Iterator[str]:
    """Yield the fixed texts with which what a pattern matches may begin."""
    ends = list(before)
    for operation, value in parsed:
        if operation is codes.LITERAL:
            ends = [end + chr(value) for end in ends]
        elif operation is codes.SUBPATTERN:
            ends = [end + more for end in ends for more in openings(value[3])]
        elif operation is codes.BRANCH:
            ends = [end + more for end in ends for branch in value[1] for more in openings(branch)]
        elif operation is codes.IN and all(one is codes.LITERAL for one, _ in value):
            ends = [end + chr(sign) for end in ends for _, sign in value]
        elif operation is codes.MAX_REPEAT and value[:2] == (0, 1):
            with_it = [end + more for end in ends for more in openings(value[2]) if len(more) >= value[2].getwidth()[0]]
            ends = with_it if len(value[2]) == 1 and value[2][0][0] is codes.LITERAL else [*ends, *with_it]
        elif operation is codes.MIN_REPEAT and value[:2] == (0, 3):
            # The names of subsystems that may stand before every line.
            continue
        elif operation in (codes.ASSERT, codes.ASSERT_NOT):
            continue
        else:
            break
    yield from ends


OPENINGS = sorted({text for row in TABLE for text in openings(parser.parse(row.pattern.pattern))})


def refused(line: str) -> bool:
    try:
        KnownLineEntry(line=line, reason="x")
    except ValidationError as error:
        assert "excepts more than one fault" in str(error)
        return True
    return False


def test_the_openings_of_the_table_are_those_of_its_lines() -> None:
    assert {"Internal error: ", "refcount_t: ", "list_del corruption", "kernel BUG at "} <= set(OPENINGS)


@pytest.mark.parametrize("row", (*TABLE, WARNING_IN_MM), ids=lambda row: row.kind)
def test_no_kind_is_an_exception(row: Row) -> None:
    for line in (row.kind, f"{row.kind}:", f"{row.kind}: ", f" {row.kind} "):
        assert not line.strip() or refused(line), line


@pytest.mark.parametrize("opening", [text for text in OPENINGS if text.strip()])
def test_no_opening_of_a_row_is_an_exception(opening: str) -> None:
    for line in (opening, opening.rstrip(": "), f"[    1.000000] {opening}", f"{opening}#1"):
        assert not line.strip() or refused(line), line


@pytest.mark.parametrize(
    "line",
    [
        *("warning_in_mm", "null_or_paging", "swap_entry", "refcount", "bad_page", "Internal error", "hung_task"),
        *("BUG: unable to handle page fault for address: ffffea0004c2d008", "stuck for", "detected stalls"),
        *("page allocation failure", "blocked for more than", "Oops: 0000 [#1] PREEMPT SMP"[:14], "log_not_read"),
    ],
)
def test_words_of_many_lines_are_none(line: str) -> None:
    assert refused(line)


@pytest.mark.parametrize(
    "line",
    [
        *("mm/page_alloc.c __alloc_pages", "warning_in_mm: mm/page_alloc.c", "hung_task: rpc_wait_bit_killable"),
        "WARNING: CPU: 0 PID: 21 at mm/page_alloc.c:4711 __alloc_pages+0x11/0x22",
        "BTRFS critical (device sda1): corrupt leaf, slot offset bad",
        "INFO: task khugepaged:41 blocked for more than 120 seconds.",
        "Out of memory: Killed process 311 (cc1) total-vm:412812kB",
        "unregister_netdevice: waiting for lo to become free. Usage count = 2",
        "refcount_t: underflow; use-after-free.",
    ],
)
def test_a_line_with_its_place_is_one(line: str) -> None:
    assert not refused(line)


FOUND = {
    "warning_in_mm": "WARNING: CPU: 1 PID: 2 at mm/swapfile.c:12 swap_free_nr+0x1/0x2",
    "null_or_paging": "BUG: unable to handle page fault for address: ffffea0004c2d008",
    "swap_entry": "swap_free: Bad swap file entry 680000000000000a",
    "refcount": "refcount_t: underflow; use-after-free.",
    "kernel_bug": "kernel BUG at mm/a.c:1!",
    "hung_task": "INFO: task df:12 blocked for more than 120 seconds.",
}


@pytest.mark.parametrize(("kind", "line"), FOUND.items())
def test_a_kind_covers_nothing(kind: str, line: str) -> None:
    (found,) = classify([line])
    assert found.kind == kind
    for written in (kind, f"{kind}:", f"{kind}: ", kind[:-1], f"{kind[-4:]}: "):
        covered = KnownLine(line=written, reason="x").covers(found)
        # "refcount" stands in the line itself; the entry refuses it.
        assert not covered or refused(written), written
    assert KnownLine(line=found.signature, reason="x").covers(found)
    assert KnownLine(line=line, reason="x").covers(found)


def test_a_killed_program_covers_its_kills_alone() -> None:
    known = KnownLine(line="Out of memory: Killed process 311 (c) total-vm:1kB", reason="x")
    (own,) = classify(["Out of memory: Killed process 9 (c) total-vm:2kB"])
    (other,) = classify(["Out of memory: Killed process 9 (cc1) total-vm:2kB"])
    (oops,) = classify(["BUG: unable to handle page fault for address: ffffea0004c2d008"])
    assert [known.covers(one) for one in (own, other, oops)] == [True, False, False]
