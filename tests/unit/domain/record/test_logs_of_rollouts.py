"""What a rollout makes of kernel logs that are cut in two, have holes, cannot be read, or say what was always said."""

import dataclasses

import pytest
from engine_parts import STARTED, TEXT, UID, Parts, planned, walked
from rollout_story import Story

from agent.adapters.wire import messages as agent_messages
from agent.domain.results import KernelLog, KernelRecord, Report
from controller.adapters.rpc.agent_messages import report_of
from controller.domain import bounds
from controller.domain.delivery import BootEnd
from controller.domain.errors import InvalidInput
from controller.domain.judging.host_evidence import host_evidence
from controller.domain.judging.waves import judge_wave
from controller.domain.planning.policy import policy_of
from controller.domain.record.events import FailureKind, LogFinding, TrialEnded
from controller.domain.record.journey import Step
from controller.domain.record.names import Key
from controller.domain.spec.parse import parse_spec
from controller.domain.state.trial_ends import trial_failure
from controller.gate.kernel_log import KnownLine, Severity, classify
from controller.services.agents.sessions import LogReported
from protos.kernroll.v1 import agent_pb2

MM_WARNING = "WARNING: CPU: 0 PID: 21 at mm/page_alloc.c:4711 __alloc_pages+0x11/0x22"
OOPS = "BUG: kernel NULL pointer dereference, address: 0000000000000008"
HUNG = (
    "INFO: task swapoff:811 blocked for more than 120 seconds.",
    "      Not tainted 7.1.13+deb13-amd64 #1",
    "Call Trace:",
    " __schedule+0x4d5/0xc10",
    " try_to_unuse+0x2b1/0x5c0",
    " __do_sys_swapoff+0x1c2/0x4e0",
)
KNOWN = """\
  known_lines:
    - line: mm/page_alloc.c __alloc_pages
      reason: our driver asks for too much
"""


async def logged(parts: Parts, name: str, boot: int, *lines: str, lost: int = 0, unreadable: str = "") -> None:
    report = LogReported(report_id=name, boot_id=f"a-boot-{boot}", lines=lines, lost=lost, unreadable=unreadable)
    await parts.sessions.reported("a", report)


@pytest.mark.parametrize("cut", range(1, len(HUNG)))
async def test_a_trace_that_comes_in_two_batches_has_the_signature_of_a_whole_one(cut: int) -> None:
    (whole,) = classify(HUNG)
    parts = await walked(Step.PROBATION)
    await logged(parts, "k1", 2, *HUNG[:cut])
    assert len(parts.attempt().findings) == 1, "told at once"
    await logged(parts, "k2", 2, *HUNG[cut:])
    assert [one.signature for one in parts.attempt().findings] == [whole.signature]
    assert list(parts.disk.hosts["a"].serious) == [whole.signature]


async def test_what_comes_much_later_or_of_another_boot_is_no_part_of_a_report() -> None:
    parts = await walked(Step.PROBATION)
    await logged(parts, "k1", 2, *HUNG[:3])
    before = parts.attempt().findings
    parts.clock.at += 3600
    await logged(parts, "k2", 2, *HUNG[3:])
    assert parts.attempt().findings == before
    await logged(parts, "k3", 2, *HUNG[:3])
    await logged(parts, "k4", 3, *HUNG[3:])
    assert parts.attempt().findings == before


def wave(spec: str = "", **told: str) -> tuple[str, str]:
    """Return decision and sentence when host a's log of a kernel ("old" or "new") shows a finding of a severity."""
    story = Story([["a", "b"]])
    story.run()
    attempts = dict(story.attempts)
    findings = tuple(
        LogFinding(
            signature=f"{severity}: x",
            line="7 of its records were gone",
            boot_id=attempts["a"].boot_ids[0 if kernel == "old" else 1],
            severity=severity,
        )
        for kernel, severity in told.items()
    )
    attempts["a"] = dataclasses.replace(attempts["a"], findings=findings)
    rollout = story.rollout
    if spec:
        read = parse_spec(TEXT + spec, "rollout.yaml")
        policy = dataclasses.replace(
            rollout.policy, known_lines=read.known_lines, accept_missing_logs=read.accept_missing_logs
        )
        rollout = dataclasses.replace(rollout, policy=policy)
    judged = judge_wave(rollout, attempts, 0.0)
    (cell,) = (one for one in judged.cells if one.metric == "survival")
    return judged.decision, cell.sentence


def test_a_log_that_was_not_read_whole_is_never_a_pass() -> None:
    assert wave()[0] == "promote"
    decision, sentence = wave(new="unread")
    assert decision == "hold"
    assert "the kernel log of a was not read whole: 7 of its records were gone" in sentence
    assert sentence.endswith("INCONCLUSIVE.")
    # What the old kernel wrote before is nothing that must be known to trust the new one.
    assert wave(old="unread")[0] == "promote"


def test_an_operator_may_go_on_without_logs_and_says_why_on_record() -> None:
    decision, sentence = wave("  accept_missing_logs: these guests hide /dev/kmsg\n", new="unread")
    assert decision == "promote"
    assert "that is accepted (accept_missing_logs): these guests hide /dev/kmsg." in sentence


def test_a_fatal_line_of_both_kernels_is_told_and_reverts_nothing() -> None:
    decision, sentence = wave(old="fatal", new="fatal")
    assert decision == "promote"
    assert "(1 host with the old kernel, 1 host with the new one), which is held against neither" in sentence
    assert wave(new="fatal")[0] == "revert"


async def test_what_an_agent_lost_or_cannot_read_is_recorded() -> None:
    parts = await walked(Step.PROBATION)
    await logged(parts, "k1", 2, lost=12)
    await logged(parts, "k2", 2, unreadable="the agent cannot open /dev/kmsg")
    evidence = host_evidence(parts.engine.world.rollouts[UID], parts.attempt())
    assert {one.severity for one in evidence.findings} == {Severity.UNREAD}
    assert sorted(one.line for one in evidence.findings) == [
        "12 of its records were gone before they could be read or sent; a larger log_buf_len keeps more to read",
        "the agent cannot open /dev/kmsg",
    ]
    before = len(parts.disk.log)
    await logged(parts, "k3", 2, lost=3)
    assert len(parts.disk.log) == before, "once a boot"


async def test_a_fatal_line_that_the_old_kernel_wrote_before_its_turn_does_not_revert() -> None:
    parts = await Parts().start()
    await parts.connect()
    await logged(parts, "early", 1, MM_WARNING)
    assert list(parts.disk.hosts["a"].fatal) == ["warning_in_mm: mm/page_alloc.c __alloc_pages"]
    await parts.engine.record(Key(UID), lambda: (planned(), STARTED))
    await parts.engine.settle()
    assert parts.attempt().step is Step.BASELINE
    # It lives through it again, and so it is measured.
    await logged(parts, "again", 1, MM_WARNING)
    await parts.engine.settle()
    assert parts.attempt().step is Step.BASELINE
    assert [one.severity for one in parts.attempt().findings] == ["fatal"]


async def test_only_what_the_old_kernel_wrote_is_excused() -> None:
    parts = await walked(Step.PROBATION)
    await logged(parts, "k1", 1, MM_WARNING)
    await logged(parts, "k2", 2, MM_WARNING)
    await parts.engine.settle()
    assert parts.attempt().step is Step.PROBATION
    await logged(parts, "k3", 2, MM_WARNING, OOPS)
    await parts.engine.settle()
    assert parts.attempt().step is Step.REVERTING


async def test_a_fatal_line_of_the_new_kernel_alone_still_reverts() -> None:
    parts = await walked(Step.PROBATION)
    await logged(parts, "k2", 2, MM_WARNING)
    await parts.engine.settle()
    assert parts.attempt().step is Step.REVERTING


async def test_a_known_line_does_not_revert_and_is_recorded() -> None:
    parts = await walked(Step.PROBATION)
    rollouts = parts.engine.world.rollouts
    policy = policy_of(parse_spec(TEXT + KNOWN, "rollout.yaml"), (60.0,))
    assert policy.known_lines == (
        KnownLine(line="mm/page_alloc.c __alloc_pages", reason="our driver asks for too much"),
    )
    rollouts[UID] = dataclasses.replace(rollouts[UID], policy=policy)
    await logged(parts, "k2", 2, MM_WARNING)
    await parts.engine.settle()
    assert parts.attempt().step is Step.PROBATION
    assert [one.severity for one in parts.attempt().findings] == ["fatal"]


def test_an_exception_needs_its_reason() -> None:
    with pytest.raises(InvalidInput, match=r"rollout.yaml:\d+: spec.known_lines\[0\]\.reason: is missing"):
        parse_spec(TEXT + KNOWN.replace("      reason: our driver asks for too much\n", ""), "rollout.yaml")
    with pytest.raises(InvalidInput, match=r"spec.known_lines\[0\]\.line: excepts more than one fault"):
        parse_spec(TEXT + KNOWN.replace("mm/page_alloc.c __alloc_pages", '"WARNING: "'), "rollout.yaml")


def received(log: KernelLog, *, cut: bool = False) -> LogReported:
    """Return what the controller understands of an agent's batch."""
    report = Report(report_id="k", command_id="", boot_id="b", at=1.0, body=log)
    message = agent_messages.report_from_bytes(agent_messages.report_to_bytes(report))
    assert message is not None
    told = report_of(message, 1.0, cut=cut)
    assert isinstance(told, LogReported)
    return told


def test_the_controller_reads_what_an_agent_lost() -> None:
    records = tuple(KernelRecord(sequence=n, monotonic_us=n, level=4, text="x") for n in range(bounds.LOG_RECORDS + 3))
    assert received(KernelLog(records=records[:1], lost_records=7)).lost == 7
    assert received(KernelLog(records=records, lost_records=7)).lost == 10, "what is not taken is lost too"
    assert received(KernelLog(records=records[:1], lost_records=0), cut=True).lost == 1
    assert received(KernelLog(records=records[:1], lost_records=0)).lost == 0
    assert received(KernelLog(records=(), lost_records=0, unreadable="no")).unreadable == "no"


def test_a_spoiled_count_is_bounded() -> None:
    told = report_of(agent_pb2.Report(report_id="k", kernel_log=agent_pb2.KernelLog(lost_records=2**64 - 1)), 1.0)
    assert isinstance(told, LogReported)
    assert told.lost == bounds.whole(2**64 - 1)


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("Kernel panic - not syncing: Fatal machine check", FailureKind.INFRASTRUCTURE),
        ("Kernel panic - not syncing: Fatal local machine check", FailureKind.INFRASTRUCTURE),
        ("Kernel panic - not syncing: Fatal exception", FailureKind.PANIC),
        ("", FailureKind.PANIC),
    ],
)
def test_a_machine_check_is_the_hardwares_and_not_the_kernels(line: str, kind: FailureKind) -> None:
    assert trial_failure(TrialEnded(at=1.0, command_id="c", end=BootEnd.PANIC, line=line)).kind is kind


async def test_losses_without_a_line_are_kept_with_the_host_and_hold_the_wave() -> None:
    parts = await walked(Step.PROBATION)
    parts.engine.world.rollouts[UID] = dataclasses.replace(
        parts.engine.world.rollouts[UID], policy=policy_of(parse_spec(TEXT, "rollout.yaml"), (60.0,))
    )
    told = received(KernelLog(records=(), lost_records=12))
    await parts.sessions.reported("a", dataclasses.replace(told, boot_id="a-boot-2"))
    assert list(parts.disk.hosts["a"].unread) == [one.signature for one in parts.attempt().findings]
    await parts.measure(cost=567.0)
    judged = judge_wave(parts.engine.world.rollouts[UID], {"a": parts.attempt()}, 0.0)
    (cell,) = (one for one in judged.cells if one.metric == "survival")
    assert judged.decision == "hold"
    assert "the kernel log of a was not read whole: 12 of its records were gone" in cell.sentence
