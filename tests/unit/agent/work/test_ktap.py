"""What test programs print, and which cases it tells of."""

import pytest

from agent.domain.work.ktap import Case, CaseState, parse_ktap

PASSED, FAILED, SKIPPED = CaseState.PASSED, CaseState.FAILED, CaseState.SKIPPED

MKDIRTY = """\
TAP version 13
1..5
# [INFO] detected THP size: 2048 KiB
# [RUN] PTRACE write access
ok 1 SIGSEGV generated, page not modified
# [RUN] Page migration
ok 2 SIGSEGV generated, page not modified
# [RUN] UFFDIO_COPY
ok 3 # SKIP __NR_userfaultfd failed
not ok 4 UFFDIO_COPY
not ok 5 # error mmap() failed
# Totals: pass:2 fail:1 xfail:0 xpass:0 skip:1 error:1
"""

HARNESS = """\
TAP version 13
1..3
# Starting 3 tests from 2 test cases.
#  RUN           guard_regions.anon.basic ...
#            OK  guard_regions.anon.basic
ok 1 guard_regions.anon.basic
#  RUN           guard_regions.file.basic ...
# guard-regions.c:412:basic:Expected 1 (1) == try_read_buf() (0)
# basic: Test terminated by assertion
#          FAIL  guard_regions.file.basic
not ok 2 guard_regions.file.basic
#  RUN           guard_regions.shmem.uffd ...
#      SKIP      No userfaultfd
#            OK  guard_regions.shmem.uffd
ok 3 guard_regions.shmem.uffd # SKIP No userfaultfd
# FAILED: 2 / 3 tests passed.
"""

NESTED = """\
KTAP version 1
1..3
  KTAP version 1
  1..2
    KTAP version 1
    1..1
    ok 1 deepest
  ok 1 deep
  not ok 2 - shallow # SKIP not here
ok 1 first
  1..2
  ok 1 good
  not ok 2 bad
not ok 2 second
  1..1
  ok 1 fine
not ok 3 third
"""


def cases(text: str) -> list[tuple[str, CaseState, str]]:
    return [(case.name, case.state, case.remark) for case in parse_ktap(text).cases]


def test_results_with_and_without_directives() -> None:
    assert cases(MKDIRTY) == [
        # The same words again are another case.
        ("SIGSEGV generated, page not modified [1]", PASSED, ""),
        ("SIGSEGV generated, page not modified [2]", PASSED, ""),
        ("__NR_userfaultfd failed", SKIPPED, "__NR_userfaultfd failed"),
        ("UFFDIO_COPY", FAILED, ""),
        ("mmap() failed", FAILED, "error: mmap() failed"),
    ]
    told = parse_ktap(MKDIRTY)
    assert (told.planned, told.told, told.skipped, told.bailed) == (5, 5, "", "")


def test_results_of_the_harness() -> None:
    assert cases(HARNESS) == [
        ("guard_regions.anon.basic", PASSED, ""),
        ("guard_regions.file.basic", FAILED, ""),
        ("guard_regions.shmem.uffd", SKIPPED, "No userfaultfd"),
    ]


def test_nested_cases_carry_their_parents_names_and_stand_for_them() -> None:
    assert cases(NESTED) == [
        ("first / deep / deepest", PASSED, ""),
        ("first / shallow", SKIPPED, "not here"),
        ("second / good", PASSED, ""),
        ("second / bad", FAILED, ""),
        ("third / fine", PASSED, ""),
        # It failed although nothing in it did.
        ("third", FAILED, ""),
    ]
    assert parse_ktap(NESTED).told == 3


def test_nested_cases_of_a_program_that_was_killed_are_kept() -> None:
    assert parse_ktap("1..2\n  1..2\n  ok 1 inner\n").cases == (Case(name="inner", state=PASSED),)


def test_a_plan_may_skip_everything_with_a_reason_or_without() -> None:
    assert parse_ktap("TAP version 13\n1..0 # SKIP cgroup v2 isn't mounted\n").skipped == "cgroup v2 isn't mounted"
    assert parse_ktap("1..0\n").skipped == "no reason given"


def test_a_program_that_bails_out_says_why() -> None:
    told = parse_ktap("TAP version 13\n1..4\nok 1 one\nBail out! mmap failed\n# Planned tests != run tests (4 != 1)\n")
    assert (told.bailed, told.told, told.planned) == ("mmap failed", 1, 4)
    assert parse_ktap("Bail out!\n").bailed == "no reason given"


def test_what_is_expected_to_fail_says_nothing() -> None:
    assert cases(
        "not ok 1 old bug # XFAIL known\nok 2 # XFAIL shared zeropage\nnot ok 3 late # TIMEOUT 45 seconds"
    ) == [
        ("old bug", SKIPPED, "expected to fail: known"),
        ("shared zeropage", SKIPPED, "expected to fail: shared zeropage"),
        ("late", FAILED, "timeout: 45 seconds"),
    ]


@pytest.mark.parametrize(
    ("line", "name", "state", "remark"),
    [
        ("ok 1 x # skipped", "x", SKIPPED, ""),
        ("ok 1 x # Skipped: no swap", "x", SKIPPED, "no swap"),
        ("not ok 1 x # skipping, no root", "x", SKIPPED, "no root"),
        ("ok 1 x # SKIP", "x", SKIPPED, ""),
        ("ok 1 x #skip y", "x", SKIPPED, "y"),
        ("ok 1 #skipped", "test 1", SKIPPED, ""),
        ("ok 1 swap # 5 pages # SKIP none", "swap # 5 pages", SKIPPED, "none"),
        # What stands within a word is the name's own.
        ("ok 1 test#skip", "test#skip", PASSED, ""),
        ("not ok 1 issue#skip me", "issue#skip me", FAILED, ""),
        ("ok 1 x# SKIP y", "x# SKIP y", PASSED, ""),
        ("ok 1 C \\# skip me", "C \\# skip me", PASSED, ""),
        ("not ok 1 a#xfail b", "a#xfail b", FAILED, ""),
        ("ok 1 x # unskipped", "x # unskipped", PASSED, ""),
        ("not ok 1 x # errors", "x # errors", FAILED, ""),
        ("ok 1 x # error handling works", "x # error handling works", PASSED, ""),
        ("ok 1 x # timeout is respected", "x # timeout is respected", PASSED, ""),
        ("ok 1 x # ERROR out of memory", "x", FAILED, "error: out of memory"),
        ("not ok 1 x # TIMEOUT: 45 pages", "x", FAILED, "timeout: 45 pages"),
    ],
)
def test_a_directive_stands_after_a_space_and_may_be_written_out(
    line: str, name: str, state: CaseState, remark: str
) -> None:
    assert cases(line) == [(name, state, remark)]


@pytest.mark.parametrize("word", ["SKIP", "skip", "skipped", "Skipped:", "SKIPPING,"])
def test_a_plan_of_nothing_says_why_in_any_of_these_words(word: str) -> None:
    assert parse_ktap(f"1..0 # {word} no root").skipped == "no root"


def test_what_differs_from_run_to_run_is_no_part_of_a_name() -> None:
    (case,) = parse_ktap("ok 7 5MB mremap at 0x7f01a2 -\tmremap time: 1234ns").cases
    assert case.name == "5MB mremap at # - mremap time: #"
    assert parse_ktap("ok 3").cases == (Case(name="test 3", state=PASSED),)


def test_other_text_is_no_case() -> None:
    assert parse_ktap("ok, let us begin\nnot ok at all\nRun test: collapse_full (khugepaged:anon)\n").cases == ()


@pytest.mark.parametrize(
    ("line", "name", "state", "remark"),
    [
        ("\x1b[32mok 1 a\x1b[0m", "a", PASSED, ""),
        ("\x1b[1;31mnot ok\x1b[m 1 a", "a", FAILED, ""),
        ("ok - a", "a", PASSED, ""),
        ("not ok - a # SKIP no swap", "a", SKIPPED, "no swap"),
        ("ok # SKIP no swap", "no swap", SKIPPED, "no swap"),
        ("ok  1 a", "a", PASSED, ""),
        ("not  ok 1 a", "a", FAILED, ""),
        ("ok 1 a # XPASS", "a", PASSED, "was expected to fail"),
        ("ok 1 a # XPASS known bug", "a", PASSED, "was expected to fail: known bug"),
        ("not ok 1 a # XPASS", "a", FAILED, "was expected to fail"),
    ],
)
def test_results_in_colours_without_numbers_and_with_surprises(
    line: str, name: str, state: CaseState, remark: str
) -> None:
    assert cases(line) == [(name, state, remark)]
    told = parse_ktap(f"\ufeff1..1\n{line}\n")
    assert (told.planned, told.told) == (1, 1)
