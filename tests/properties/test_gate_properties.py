"""Whatever the evidence, the gate answers, says the same in any order, and never promotes what it did not see."""

import math
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from controller.gate.evidence.seen import ClaimPlan, GatePlan, HostEvidence, Outcome, Run, Side
from controller.gate.hosts.judge import judge
from controller.gate.kernel_log import Finding, Severity, classify, panic_line
from controller.gate.verdict import Action, ClaimState

STRATA = ("arm64/vm", "x86_64/vm")
VALUES = st.one_of(
    st.floats(0, 900),
    st.sampled_from([567.0, 819.5, -0.0, 1e308, -1e308, 5e-324]),
    st.floats(),
)
RUNS = st.builds(
    Run,
    run_id=st.sampled_from(["a", "b", "c", "d"]),
    side=st.sampled_from(Side),
    outcome=st.sampled_from([Outcome.OK, Outcome.OK, Outcome.OK, *Outcome]),
    values=st.dictionaries(st.sampled_from(["swap_mount.cost", "other"]), VALUES, max_size=2),
    attempt=st.integers(0, 2),
    error=st.sampled_from(["", "killed"]),
)
FINDINGS = st.builds(
    Finding,
    severity=st.sampled_from(Severity),
    kind=st.just("kind"),
    line=st.sampled_from(["one line", "another"]),
    signature=st.sampled_from(["s", "t"]),
    boot_id=st.sampled_from(["", "boot"]),
)


@st.composite
def evidences(draw: st.DrawFn) -> list[HostEvidence]:
    return [
        HostEvidence(
            host=f"h{index}",
            stratum=draw(st.sampled_from(STRATA)),
            runs=tuple(draw(st.lists(RUNS, max_size=8))),
            findings=tuple(draw(st.lists(FINDINGS, max_size=2))),
            old_findings=tuple(draw(st.lists(FINDINGS, max_size=2))),
            lost=draw(st.sampled_from(["", "", "", "it panicked"])),
            device_tib=draw(st.sampled_from([None, 1.0, 0.25, 0.0])),
            old_release=draw(st.sampled_from(["", "7.0.13"])),
            new_release=draw(st.sampled_from(["", "7.1.13"])),
        )
        for index in range(draw(st.integers(0, 4)))
    ]


PLANS = st.builds(
    GatePlan,
    claims=st.sampled_from(
        [
            (),
            (ClaimPlan(metric="swap_mount.cost", at_least=200.0),),
            (ClaimPlan(metric="swap_mount.cost", at_least=1.0),),
        ]
    ),
    required_hosts=st.dictionaries(st.sampled_from(STRATA), st.integers(0, 3)),
    repetitions=st.integers(1, 3).map(lambda runs: {"swap_mount": runs}),
    final=st.booleans(),
)


@given(PLANS, evidences(), st.randoms(use_true_random=False))
def test_any_order_gives_the_same_decision_to_the_last_character(
    plan: GatePlan, evidence: list[HostEvidence], random: Random
) -> None:
    first = repr(judge(plan, evidence))
    shuffled = [
        HostEvidence(
            **{name: getattr(one, name) for name in one.__slots__}
            | {"runs": tuple(random.sample(one.runs, len(one.runs)))}
        )
        for one in random.sample(evidence, len(evidence))
    ]
    assert repr(judge(plan, shuffled)) == first


@given(PLANS, evidences())
def test_nothing_unseen_is_promoted(plan: GatePlan, evidence: list[HostEvidence]) -> None:
    decision = judge(plan, evidence)
    if decision.action is not Action.PROMOTE:
        assert decision.sentence.startswith(("HOLD: ", "REVERT: "))
        return
    assert evidence
    for one in evidence:
        assert not one.lost
        assert not any(finding.severity is Severity.UNREAD for finding in one.findings)
        peers = [each for each in evidence if each.stratum == one.stratum]
        for signature in {finding.signature for finding in one.findings if finding.severity is Severity.FATAL}:
            new = sum(
                any((f.signature, f.severity) == (signature, Severity.FATAL) for f in peer.findings) for peer in peers
            )
            assert new <= sum(any(f.signature == signature for f in peer.old_findings) for peer in peers)
    for stratum in {*plan.required_hosts, *(one.stratum for one in evidence)}:
        members = [one for one in evidence if one.stratum == stratum]
        assert len(members) >= plan.required_hosts.get(stratum, 1)
        for side in (Side.NEW, *((Side.OLD,) if plan.claims else ())):
            assert any(run.side is side and run.outcome is Outcome.OK for one in members for run in one.runs)
    assert all(cell.claim in (None, ClaimState.CONFIRMED) for cell in decision.cells)


@given(PLANS, evidences())
def test_intervals_are_numbers_in_order(plan: GatePlan, evidence: list[HostEvidence]) -> None:
    for cell in judge(plan, evidence).cells:
        numbers = (cell.low, cell.estimate, cell.high)
        if None not in numbers:
            low, estimate, high = (float(number or 0) for number in numbers)
            assert math.isfinite(low) and math.isfinite(high)
            assert low <= estimate <= high


@given(st.lists(st.text(max_size=80), max_size=20))
def test_any_text_can_be_classified(lines: list[str]) -> None:
    classify(lines)
    panic_line("\n".join(lines))
