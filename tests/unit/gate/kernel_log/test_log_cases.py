"""Whole trials with the kernel logs that people really have: what the gate asks for, and what it says of them."""

import dataclasses
import json
import re

import pytest
from trial_measured import measured, plan

from controller.domain.errors import InvalidInput
from controller.domain.samples.parse import parse_plan, parse_samples
from controller.gate.kernel_log import KnownLine
from controller.gate.statistics.cells import Design
from controller.gate.trial.judge import judge_trial
from controller.gate.trial.model import Arm, Measurement, TrialDecision
from controller.gate.verdict import Action, Verdict

RUNS = measured(Design.PAIRS, -0.05)
HOSTS = sorted({one.host for one in RUNS if one.arm is Arm.TREATED})
OLD, NEW = 1, 2
MM_WARNING = (
    "[    4.100001] ------------[ cut here ]------------",
    "[    4.100001] WARNING: CPU: 0 PID: 21 at mm/page_alloc.c:4711 __alloc_pages+0x11/0x22",
    "[    4.100003] CPU: 0 PID: 18 Comm: init Not tainted",
    "[    5.2] ---[ end trace 0000000000000000 ]---",
)
KILLED = (
    "[  700.1] Out of memory: Killed process {} (cc1) total-vm:{}kB, anon-rss:300100kB, pgtables:825kB oom_score_adj:0"
)


def hung(program: str, *frames: str) -> tuple[str, ...]:
    """Return the report of a hung task."""
    return (
        f"[ 1201.100000] INFO: task {program}:3311 blocked for more than 120 seconds.",
        "[ 1201.100100]       Not tainted 7.0.13+deb13-amd64 #1",
        '[ 1201.100200] "echo 0 > /proc/sys/kernel/hung_task_timeout_secs" disables this message.',
        f"[ 1201.100300] task:{program}              state:D stack:0     pid:3311  tgid:3311  ppid:3300",
        "[ 1201.100400] Call Trace:",
        "[ 1201.100500]  <TASK>",
        *(f"[ 1201.100600]  {name}+0x4d5/0xc10" for name in ("__schedule", "schedule", "io_schedule", *frames)),
        "[ 1201.101100]  do_syscall_64+0x82/0x190",
        "[ 1201.101200]  </TASK>",
    )


IN_NFS = hung("df", "rpc_wait_bit_killable", "nfs4_proc_statfs")
IN_SWAPOFF = hung("swapoff", "folio_wait_bit_common", "try_to_unuse", "__do_sys_swapoff")


def with_logs(*logs: tuple[str, int, tuple[str, ...]]) -> list[Measurement]:
    """Return the runs with kernel logs: host, position, lines."""
    told = {(host, position): lines for host, position, lines in logs}
    return [dataclasses.replace(one, kernel_log=told.get((one.host, one.position), ())) for one in RUNS]


def judged(*logs: tuple[str, int, tuple[str, ...]], **changes: object) -> TrialDecision:
    """Return the decision on the runs with these logs; it does not depend on their order."""
    runs = with_logs(*logs)
    decision = judge_trial(plan(Design.PAIRS, **changes), runs)
    assert decision == judge_trial(plan(Design.PAIRS, **changes), runs[::-1])
    return decision


@pytest.mark.parametrize(
    "log",
    [
        ("[Mon Mar  2 10:11:12 2026] BUG: unable to handle page fault for address: ffffea0004c2d008",),
        ("kern  :alert : [  412.100100] BUG: unable to handle page fault for address: ffffea0004c2d008",),
        ("[  412.100100] BUG: unable to handle page fault for address: ffffea0004c2d008",),
        ("Mar 02 10:11:12 canary-1 kernel: BUG: unable to handle page fault for address: ffffea0004c2d008",),
        ("1,4711,412100100,-;BUG: unable to handle page fault for address: ffffea0004c2d008",),
        ("Mar  2 10:11:12 canary-1 kernel: [  412.100100] BUG: unable to handle page fault for address: ffff",),
        (
            "[   71.201987] divide error: 0000 [#1] PREEMPT SMP NOPTI",
            "[   71.202859] RIP: 0010:swap_alloc_cluster+0x39/0xd0",
        ),
        ("[ 2411.1] zswap: Decompression error from zswap (1:4711 lz4 2044->4096)",),
        ("[   35.1] WARNING: CPU: 1 PID: 2001 at /build/linux-hwe-a1/linux-hwe-6.8.0/mm/swapfile.c:1233 f+0x5/0x6",),
        ("[  207.314493] BUG zswap_entry (Not tainted): Right Redzone overwritten",),
    ],
)
def test_a_kernel_that_broke_is_reverted(log: tuple[str, ...]) -> None:
    decision = judged((HOSTS[0], NEW, log))
    assert (decision.verdict, decision.action) == (Verdict.FATAL, Action.REVERT)
    # On the old kernel alone it says nothing against the new one.
    assert judged((HOSTS[0], OLD, log)).action is Action.PROMOTE


def test_a_new_hang_is_not_masked_by_an_old_one() -> None:
    masked = judged((HOSTS[0], OLD, IN_NFS), (HOSTS[0], NEW, IN_SWAPOFF), (HOSTS[1], NEW, IN_SWAPOFF))
    assert (masked.verdict, masked.action) == (Verdict.FAIL, Action.REVERT)
    assert judged((HOSTS[0], NEW, IN_SWAPOFF), (HOSTS[1], NEW, IN_SWAPOFF)).sentence == masked.sentence
    same = judged((HOSTS[0], OLD, IN_NFS), (HOSTS[0], NEW, IN_NFS), (HOSTS[1], NEW, IN_NFS))
    assert same.action is Action.PROMOTE


def test_an_out_of_memory_kill_that_both_kernels_do_is_not_new() -> None:
    logs = [
        (host, position, (KILLED.format(300 + position, 412812 + position),))
        for host in HOSTS[:2]
        for position in (OLD, NEW)
    ]
    assert judged(*logs).action is Action.PROMOTE
    assert judged(*(one for one in logs if one[1] == NEW)).action is Action.REVERT


def test_a_fatal_line_of_both_kernels_on_as_many_hosts_is_told_and_held_against_neither() -> None:
    both = [(host, position, MM_WARNING) for host in HOSTS for position in (OLD, NEW)]
    decision = judged(*both)
    assert decision.action is Action.PROMOTE
    (remark,) = (one for one in decision.remarks if "both kernels" in one.lower())
    line = "WARNING: CPU: 0 PID: 21 at mm/page_alloc.c:4711 __alloc_pages+0x11/0x22"
    counts = f"{len(HOSTS)} hosts with the old kernel, {len(HOSTS)} hosts with the new one"
    assert remark == f'x86_64/vm survival: Both kernels write "{line}" ({counts}), which is held against neither.'


def test_a_fatal_line_on_more_hosts_than_before_is_fatal() -> None:
    logs = [*((host, NEW, MM_WARNING) for host in HOSTS[:3]), *((host, OLD, MM_WARNING) for host in HOSTS[:2])]
    decision = judged(*logs)
    assert (decision.verdict, decision.action) == (Verdict.FATAL, Action.REVERT)
    assert "(2 hosts with the old kernel, 3 hosts with the new one)" in decision.sentence
    # Not the same hosts, but as many of them.
    elsewhere = [(HOSTS[0], NEW, MM_WARNING), (HOSTS[1], OLD, MM_WARNING)]
    assert judged(*elsewhere).action is Action.PROMOTE


def test_a_known_line_counts_nowhere_and_is_told_with_its_reason() -> None:
    known = (KnownLine(line="mm/page_alloc.c __alloc_pages", reason="our driver asks for too much; ticket 12"),)
    decision = judged((HOSTS[0], NEW, MM_WARNING), (HOSTS[1], NEW, MM_WARNING), known_lines=known)
    assert decision.action is Action.PROMOTE
    (remark,) = (one for one in decision.remarks if "known line" in one)
    assert "met on 2 hosts, and counts nowhere: our driver asks for too much; ticket 12." in remark
    other = ("[    4.1] WARNING: CPU: 0 PID: 21 at mm/vmscan.c:4711 shrink_x+0x11/0x22",)
    assert judged((HOSTS[0], NEW, other), known_lines=known).action is Action.REVERT


NOT_READ = [
    ("2026/03/02 10:11:12 agent E something",),
    ("hello", "world"),
    ('{"_TRANSPORT": "kernel", "MESSAGE": null}',),
    ("[    0.0] Linux version 7.1", "2026/03/02 10:11:12 agent E something"),
]


@pytest.mark.parametrize("log", NOT_READ)
def test_a_log_that_cannot_be_read_is_never_clean(log: tuple[str, ...]) -> None:
    decision = judged((HOSTS[3], NEW, log))
    assert (decision.verdict, decision.action) == (Verdict.INCONCLUSIVE, Action.HOLD)
    assert f"the kernel log of {HOSTS[3]} was not read whole: " in decision.sentence
    assert judged((HOSTS[3], NEW, log), looks=(50,), final=False).verdict is Verdict.NEED_MORE_DATA
    accepted = judged((HOSTS[3], NEW, log), accept_missing_logs="no console here")
    assert accepted.action is Action.PROMOTE
    assert any(one.endswith("that is accepted (accept_missing_logs): no console here.") for one in accepted.remarks)


@pytest.mark.parametrize("log", NOT_READ)
def test_what_was_not_read_of_the_old_kernel_is_told_and_holds_nothing(log: tuple[str, ...]) -> None:
    decision = judged((HOSTS[3], OLD, log))
    assert decision.action is Action.PROMOTE
    (remark,) = (one for one in decision.remarks if "old kernel was not read" in one)
    assert f"The kernel log of {HOSTS[3]} under the old kernel was not read whole: " in remark
    assert remark.endswith("; what stood there excuses nothing of the new kernel.")
    assert judged((HOSTS[3], OLD, log), (HOSTS[3], NEW, MM_WARNING)).verdict is Verdict.FATAL


def test_a_fatal_line_beside_lines_that_cannot_be_read_is_fatal() -> None:
    log = ("2026/03/02 10:11:12 agent E something", "[  1.0] kernel BUG at mm/swapfile.c:1!")
    assert judged((HOSTS[0], NEW, log)).verdict is Verdict.FATAL


PLAN = {
    "design": "before_after",
    "metrics": {"cost": {"unit": "s", "better": "low", "margin": "3 %"}},
    "known_lines": [{"line": "mm/page_alloc.c __alloc_pages", "reason": "known"}],
    "accept_missing_logs": "no console",
}


def test_the_plan_file_says_known_lines_and_what_is_accepted() -> None:
    read = parse_plan(json.dumps(PLAN), "plan.json")
    assert read.known_lines == (KnownLine(line="mm/page_alloc.c __alloc_pages", reason="known"),)
    assert read.accept_missing_logs == "no console"


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"line": "mm/page_alloc.c __alloc_pages"}, r"known_lines\[0\]\.reason: is missing"),
        ({"line": "WARNING: CPU: 0 PID: 1 at ", "reason": "x"}, r"known_lines\[0\]\.line: excepts more than one fault"),
        ({"line": "BUG: ", "reason": "x"}, r"known_lines\[0\]\.line: excepts more than one fault"),
        ({"line": "Kernel panic - not syncing: ", "reason": "x"}, r"known_lines\[0\]\.line: excepts more than one"),
    ],
)
def test_an_exception_names_one_fault_and_its_reason(entry: dict[str, str], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        parse_plan(json.dumps({**PLAN, "known_lines": [entry]}), "plan.json")


OOPS = "BUG: unable to handle page fault for address: ffffea0004c2d008"


@pytest.mark.parametrize(
    "line",
    [
        {"MESSAGE": OOPS, "_TRANSPORT": "kernel", "__CURSOR": "s=1", "more": "x" * 5000},
        {"MESSAGE": list(OOPS.encode()), "_TRANSPORT": "kernel"},
        list(OOPS.encode()),
        json.dumps({"MESSAGE": list(OOPS.encode()), "_TRANSPORT": "kernel"}),
    ],
)
def test_samples_may_bring_entries_of_a_journal(line: object) -> None:
    sample = {"host": "a", "stratum": "s", "position": "new", "run": 1, "metric": "cost", "value": 1, "unit": "s"}
    read = parse_plan(json.dumps(PLAN), "plan.json")
    brought = parse_samples([json.dumps({**sample, "kernel_log": [line]})], "runs.jsonl", read)
    decision = judge_trial(read, brought.measurements)
    assert re.search("a: the kernel log of the new kernel says .BUG: unable to handle", decision.sentence)


def test_an_entry_without_text_is_a_sentence_and_no_refusal() -> None:
    sample = {"host": "a", "stratum": "s", "position": "new", "run": 1, "metric": "cost", "value": 1, "unit": "s"}
    read = parse_plan(json.dumps({**PLAN, "accept_missing_logs": None}), "plan.json")
    for nothing in (None, {"MESSAGE": None, "_TRANSPORT": "kernel"}):
        brought = parse_samples([json.dumps({**sample, "kernel_log": [nothing]})], "runs.jsonl", read)
        (cell,) = (one for one in judge_trial(read, brought.measurements).cells if one.metric == "survival")
        assert "1 of 1 entries have no text, their MESSAGE is null" in cell.sentence
