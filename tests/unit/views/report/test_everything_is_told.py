"""A report's timeline tells every kind of event, with who decided it and why; no reader of events leaves one out."""

import ast
from pathlib import Path
from typing import get_args

import pytest
from project import ROOT
from rollout_story import Story

from controller.domain.record.actions.power_cycles import CycleOutcome, PowerCycleBegun, PowerCycled, PowerSeen
from controller.domain.record.checks import Outcome
from controller.domain.record.control import (
    ApprovalAwaited,
    ApprovalGiven,
    AwaitedCheck,
    CheckReported,
    ChecksAsked,
    ChecksOverridden,
    ControlEvent,
    GateOverridden,
    HostsLeftOut,
    HostsRecalled,
    HostsRetried,
    RestOpened,
    RevertHastened,
    RolloutResumed,
    StratumHeld,
)
from controller.domain.record.events import (
    AbortStarted,
    Event,
    HostsAdmitted,
    Moved,
    RevertStarted,
    RolloutCompleted,
    RolloutEnded,
    RolloutEvent,
    RolloutPaused,
    RolloutPlanned,
    RolloutPromoted,
    RolloutStarted,
    WatchResumed,
    WaveOpened,
)
from controller.domain.record.journey import Step, Trigger
from controller.domain.record.verdicts import WaveJudged
from controller.views.report.timeline import timeline

AT = 2000.0

TOLD: list[tuple[Event, str]] = [
    (RolloutStarted(at=AT, by="ada"), "started by ada"),
    (HostsAdmitted(at=AT, wave=1, hosts=("a", "b")), "wave 2: the turn of a and b has come"),
    (WaveOpened(at=AT, wave=1), "wave 2 opened"),
    (WaveJudged(at=AT, wave=0, decision="hold", sentence="HOLD: unclear.", cells=()), "wave 1 judged: HOLD: unclear."),
    (RolloutPaused(at=AT, reason="paused by ada: lunch", by="ada"), "paused by ada: lunch"),
    (RolloutPaused(at=AT, reason="wave 1 took too long"), "paused: wave 1 took too long"),
    (RolloutPromoted(at=AT, reason="every host lives."), "promoted: every host lives."),
    (RolloutCompleted(at=AT, reason="all were measured."), "completed: all were measured."),
    (AbortStarted(at=AT, reason="aborted by ada: enough", by="ada"), "abort: aborted by ada: enough"),
    (
        RevertStarted(at=AT, reason="reverted by ada: fire", by="ada", emergency=True),
        "revert: reverted by ada: fire; all hosts at once, whatever the disruption budget says",
    ),
    (RolloutEnded(at=AT, state="reverted"), "reverted"),
    (RolloutEnded(at=AT, state="revert_incomplete", lost=("a",)), "revert incomplete; a did not come back"),
    (RolloutResumed(at=AT, by="ada", remark="incident over"), "resumed by ada: incident over"),
    (RolloutResumed(at=AT, by="ada"), "resumed by ada"),
    (
        ApprovalAwaited(at=AT, wave=1, deadline=AT + 86_400.0),
        "wave 2 awaits approval; without it the rollout pauses after 1 d",
    ),
    (ApprovalGiven(at=AT, wave=1, by="bob", remark="looks good"), "wave 2 approved by bob: looks good"),
    (
        GateOverridden(at=AT, wave=0, by="ada", remark="known noise"),
        "ada went on although the gate held wave 1: known noise",
    ),
    (RestOpened(at=AT, by="ada", remark="urgent fix"), "ada opened all waves that are left: urgent fix"),
    (HostsRecalled(at=AT, hosts=("a", "b")), "the turn of a and b to return has come"),
    (HostsRetried(at=AT, hosts=("a",), by="ada", remark="new cable"), "ada had a begin again: new cable"),
    (HostsLeftOut(at=AT, hosts=("b", "c"), by="ada"), "ada left b and c out"),
    (
        StratumHeld(at=AT, stratum="arm64/vm", reason="c: the kernel panicked: “Oops”", host="c", line="Oops"),
        "arm64/vm is held and goes back: c: the kernel panicked: “Oops”",
    ),
    (
        RevertHastened(at=AT, by="ada", remark="now"),
        "ada lifted the disruption budget from the way back: now",
    ),
    (
        ChecksAsked(at=AT, wave=0, number=1, checks=(AwaitedCheck(name="pages", deadline=AT),)),
        "wave 1 asks its checks: pages",
    ),
    (
        CheckReported(at=AT, wave=0, number=1, check="pages", outcome=Outcome.PASS, detail="none fires"),
        "check pages of wave 1: pass: none fires",
    ),
    (ChecksOverridden(at=AT, wave=0, checks=("pages",), by="ada", remark="ours"), "ada went on without pages: ours"),
]


def text(event: Event, stream: str = "rollout/u1") -> list[str]:
    return [moment.text for moment in timeline(Story([["a"]]).rollout, [(stream, event)])]


@pytest.mark.parametrize(("event", "sentence"), TOLD, ids=lambda one: type(one).__name__)
def test_every_event_of_a_rollout_is_told(event: Event, sentence: str) -> None:
    assert text(event) == [sentence]


def test_no_kind_of_event_is_missing_here() -> None:
    kinds = set(get_args(RolloutEvent)) | set(get_args(ControlEvent))
    assert {type(event) for event, _ in TOLD} | {RolloutPlanned} == kinds


def test_a_host_that_a_new_controller_watches_says_so() -> None:
    assert text(WatchResumed(at=AT, deadline=None), "rollout/u1/a") == ["a controller has started and watches again"]


@pytest.mark.parametrize(
    ("on", "says", "told"),
    [
        (True, (), "before, power on"),
        (False, ("fan 2: failed", "IERR"), "before, power off; it says: fan 2: failed / IERR"),
        (None, (), "before, power not told"),
    ],
)
def test_an_order_to_cut_power_says_what_was_known(on: bool | None, says: tuple[str, ...], told: str) -> None:
    seen = PowerSeen(controller="ipmi://bmc", on=on, says=says)
    said = f"ipmi://bmc is told to cut its power and to give it again; {told}"
    assert text(PowerCycleBegun(at=AT, command_id="p", seen=seen), "rollout/u1/a") == [said]


@pytest.mark.parametrize(
    ("outcome", "told"),
    [
        (CycleOutcome.DONE, "its power was cut and given again"),
        (CycleOutcome.REFUSED, "its power was not cut: why"),
        (CycleOutcome.SPARED, "its power was not cut: why"),
        (CycleOutcome.UNKNOWN, "whether its power was cut is not known: why"),
    ],
)
def test_how_it_ended_that_power_was_to_be_cut_is_told(outcome: CycleOutcome, told: str) -> None:
    assert text(PowerCycled(at=AT, command_id="p", outcome=outcome, detail="why"), "rollout/u1/a") == [told]


def test_a_host_whose_power_is_to_be_cut_says_by_what_policy() -> None:
    moved = Moved(at=AT, trigger=Trigger.POWER_CYCLE, step=Step.FALLBACK, deadline=AT, leg=1, tries=0)
    assert "(limits.power_cycle)" in text(moved, "rollout/u1/a")[0]


# Matches over what is open: texts from files, libraries' own classes, workloads that say nothing of a metric.
_OPEN = frozenset(
    {
        "controller/domain/spec/errors.py",
        "controller/domain/spec/yaml.py",
        "controller/domain/spec/margins.py",
        "controller/lab/kernel_source.py",
    }
)


def catch_alls(module: Path) -> list[int]:
    """Lines of `case _` whose body is anything but assert_never."""
    found = []
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Match):
            continue
        for case in node.cases:
            wild = isinstance(case.pattern, ast.MatchAs) and case.pattern.pattern is None and case.guard is None
            if not wild:
                continue
            body, subject = ast.unparse(case.body[0]), ast.unparse(node.subject)
            # What is left may go to a reader of its own, whose type says what that is.
            if not body.startswith(("assert_never(", "raise AssertionError(")) and f"{subject})" not in body:
                found.append(case.pattern.lineno)
    return found


@pytest.mark.parametrize("folder", ["domain", "views", "services", "sim", "lab"])
def test_no_reader_of_events_has_a_drawer_for_the_rest(folder: str) -> None:
    modules = sorted((ROOT / "controller" / folder).rglob("*.py"))
    found = {str(path.relative_to(ROOT)): lines for path in modules if (lines := catch_alls(path))}
    assert {name: lines for name, lines in found.items() if name not in _OPEN} == {}


@pytest.mark.parametrize("folder", ["domain", "views", "sim"])
def test_every_match_ends_with_a_case_for_whatever_is_left(folder: str) -> None:
    """A match without one passes over in silence what it does not know."""
    open_ended = []
    for path in sorted((ROOT / "controller" / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Match):
                last = node.cases[-1]
                if not isinstance(last.pattern, ast.MatchAs) or last.guard is not None:
                    open_ended.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert open_ended == []
