"""From evidence to a decision: what promotes, what holds, what reverts, and the sentence that says why."""

import dataclasses
import math

import pytest

from controller.gate.evidence.seen import ClaimPlan, GatePlan, HostEvidence, Outcome, Run, Side
from controller.gate.hosts.judge import GateDecision, judge
from controller.gate.kernel_log import Finding, classify
from controller.gate.verdict import Action, ClaimState, Verdict

STRATUM = "x86_64/emulated"
OLD, NEW = (819.5, 819.4, 819.6), (567.0, 567.1, 566.9)


def runs(side: Side, values: tuple[float, ...], attempt: int = 0) -> tuple[Run, ...]:
    return tuple(
        Run(
            run_id=f"{side.value}-{attempt}-{index}",
            side=side,
            outcome=Outcome.OK,
            values={"swap_mount.cost": value},
            attempt=attempt,
        )
        for index, value in enumerate(values)
    )


def bad(side: Side, outcome: Outcome = Outcome.DIED, attempt: int = 0) -> Run:
    return Run(
        run_id=f"bad-{side.value}-{attempt}", side=side, outcome=outcome, attempt=attempt, error="agent was killed"
    )


def host(name: str = "vm-1", stratum: str = STRATUM, **changes: object) -> HostEvidence:
    healthy = HostEvidence(
        host=name,
        stratum=stratum,
        runs=runs(Side.OLD, OLD) + runs(Side.NEW, NEW),
        old_release="7.0.13+deb13-cloud-amd64",
        new_release="7.1.13+deb13-cloud-amd64",
        device_tib=1.0,
    )
    return dataclasses.replace(healthy, **changes)  # type: ignore[arg-type]  # fields by name


def plan(at_least: float = 230.4, on_refuted: Action = Action.HOLD, final: bool = True, **required: int) -> GatePlan:
    return GatePlan(
        claims=(ClaimPlan(metric="swap_mount.cost", at_least=at_least, on_refuted=on_refuted),),
        required_hosts=required or {STRATUM: 1},
        repetitions={"swap_mount": 3},
        final=final,
    )


def finding(line: str, boot_id: str = "") -> Finding:
    (found,) = classify([line])
    return dataclasses.replace(found, boot_id=boot_id)


def cells(decision: GateDecision) -> dict[tuple[str, str], Verdict]:
    return {(cell.stratum, cell.metric): cell.verdict for cell in decision.cells}


def test_a_confirmed_claim_promotes() -> None:
    decision = judge(plan(), [host("vm-1"), host("vm-2")])
    assert decision.action is Action.PROMOTE
    assert decision.verdict is Verdict.PASS
    assert decision.sentence == "PROMOTE: every host lives and 1 of 1 claims confirmed, in 1 stratum."
    survival, claim = decision.cells
    assert survival.sentence == (
        "x86_64/emulated survival: 2 of 2 hosts live on the new kernel, no new fatal or serious log line. PASS."
    )
    assert claim.sentence == (
        "x86_64/emulated swap_mount.cost: saves 252.5 MiB/TiB (99 % interval 249.0 … 256.0, claim ≥ 230.4), "
        "2 hosts, 6 + 6 runs. CONFIRMED."
    )
    assert (claim.claim, claim.blocks, claim.bound, claim.unit) == (ClaimState.CONFIRMED, 2, 230.4, "MiB/TiB")
    assert decision.remarks == (
        "x86_64/emulated 7.0.13+deb13-cloud-amd64: 819.5 MiB/TiB measured, 816.0 by structure sizes "
        "(swap table phases I and II): they agree to 3.5 MiB.",
        "x86_64/emulated 7.1.13+deb13-cloud-amd64: 567.0 MiB/TiB measured, 564.0 by structure sizes "
        "(swap table phase III, no swap_map): they agree to 3.0 MiB.",
    )
    (fleet,) = decision.fleet
    assert fleet.sentence == (
        "Fleet, swap_mount.cost: 2 measured hosts with 2 TiB of swap save 505.0 MiB (99 % interval 498.0 … 512.0)."
    )


def test_a_rollout_without_claims_promotes_on_survival() -> None:
    decision = judge(GatePlan(claims=(), required_hosts={STRATUM: 1}), [host()])
    assert decision.action is Action.PROMOTE
    assert decision.sentence == "PROMOTE: every host lives and no claim was made, in 1 stratum."


@pytest.mark.parametrize(("on_refuted", "action"), [(Action.HOLD, Action.HOLD), (Action.REVERT, Action.REVERT)])
def test_a_refuted_claim_does_what_the_plan_says(on_refuted: Action, action: Action) -> None:
    decision = judge(plan(at_least=300.0, on_refuted=on_refuted), [host()])
    assert decision.action is action
    assert decision.verdict is Verdict.FAIL
    assert decision.sentence.startswith(f"{action.value.upper()}: x86_64/emulated swap_mount.cost: saves 252.5")
    assert decision.sentence.endswith("claim ≥ 300), 1 host, 3 + 3 runs. REFUTED.")


def test_an_open_claim_holds() -> None:
    decision = judge(plan(at_least=252.0), [host()])
    assert (decision.action, decision.verdict) == (Action.HOLD, Verdict.INCONCLUSIVE)
    assert decision.sentence.endswith("OPEN because the interval contains the claim.")


@pytest.mark.parametrize("final", [True, False])
@pytest.mark.parametrize(
    "evidence",
    [
        [],
        [host(runs=())],
        [host(runs=runs(Side.OLD, OLD))],
        [host(runs=runs(Side.NEW, NEW))],
        [host(runs=runs(Side.OLD, OLD[:2]) + runs(Side.NEW, NEW))],
        [host(runs=(*runs(Side.OLD, OLD), bad(Side.NEW, Outcome.INFRASTRUCTURE)), broken_rig="no device")],
        [host(runs=(*runs(Side.OLD, OLD), bad(Side.NEW, Outcome.CANCELLED)))],
    ],
    ids=["no hosts", "no runs", "no new runs", "no old runs", "one run short", "broken rig", "cancelled"],
)
def test_no_data_is_never_a_pass(evidence: list[HostEvidence], final: bool) -> None:
    decision = judge(plan(final=final), evidence)
    assert decision.action is Action.HOLD
    assert decision.verdict is (Verdict.INCONCLUSIVE if final else Verdict.NEED_MORE_DATA)
    assert cells(decision)[STRATUM, "swap_mount.cost"] is decision.verdict


def test_an_empty_plan_without_evidence_holds() -> None:
    decision = judge(GatePlan(claims=(), required_hosts={}), [])
    assert (decision.action, decision.sentence) == (Action.HOLD, "HOLD: there is no host to judge.")


def test_a_stratum_without_evidence_holds_the_others() -> None:
    decision = judge(
        GatePlan(claims=plan().claims, required_hosts={STRATUM: 1, "arm64/emulated": 1}, repetitions={"swap_mount": 3}),
        [host()],
    )
    assert decision.action is Action.HOLD
    assert cells(decision)[STRATUM, "swap_mount.cost"] is Verdict.PASS
    assert decision.sentence.startswith("HOLD: arm64/emulated survival: 0 of 1 hosts have a complete run")


def test_a_lost_host_is_fatal_and_named() -> None:
    lost = host("vm-2", lost="Kernel panic - not syncing: VFS: Unable to mount root fs")
    decision = judge(plan(), [host("vm-1"), lost])
    assert (decision.action, decision.verdict) == (Action.REVERT, Verdict.FATAL)
    assert decision.sentence == (
        "REVERT: x86_64/emulated survival: vm-2: Kernel panic - not syncing: VFS: Unable to mount root fs. FATAL."
    )
    assert decision.fleet == ()


def test_a_fatal_line_under_the_new_kernel_reverts_at_first_sight() -> None:
    line = "get_swap_device: Bad swap file entry 3ffffffffffff"
    decision = judge(plan(), [host(findings=(finding(line),))])
    assert (decision.action, decision.verdict) == (Action.REVERT, Verdict.FATAL)
    assert line in decision.sentence and "vm-1" in decision.sentence
    assert judge(plan(), [host(old_findings=(finding(line),))]).action is Action.PROMOTE


WARNING = "WARNING: net/core/dev.c:1301 at netif_rx_internal+0x2f/0x40, CPU#0: ksoftirqd/0/14"


@pytest.mark.parametrize(
    ("evidence", "action", "verdict"),
    [
        ([host("a", findings=(finding(WARNING),))], Action.HOLD, Verdict.INCONCLUSIVE),
        ([host("a", findings=(finding(WARNING), finding(WARNING)))], Action.HOLD, Verdict.INCONCLUSIVE),
        (
            [host("a", findings=(finding(WARNING, "boot-1"), finding(WARNING, "boot-2")))],
            Action.REVERT,
            Verdict.FAIL,
        ),
        (
            [host("a", findings=(finding(WARNING),)), host("b", findings=(finding(WARNING),))],
            Action.REVERT,
            Verdict.FAIL,
        ),
        (
            [host("a", findings=(finding(WARNING),)), host("b", old_findings=(finding(WARNING),))],
            Action.PROMOTE,
            Verdict.PASS,
        ),
    ],
    ids=["once", "echo", "second boot", "second host", "old kernel too"],
)
def test_a_serious_line_must_be_new_and_confirmed(
    evidence: list[HostEvidence], action: Action, verdict: Verdict
) -> None:
    decision = judge(plan(), evidence)
    assert (decision.action, decision.verdict) == (action, verdict)


def test_a_run_that_died_once_asks_for_a_repetition() -> None:
    evidence = host(runs=(*runs(Side.OLD, OLD), *runs(Side.NEW, NEW), bad(Side.NEW)))
    decision = judge(plan(final=False), [evidence])
    assert (decision.action, decision.rerun) == (Action.HOLD, ("vm-1",))
    assert decision.cells[0].verdict is Verdict.NEED_MORE_DATA
    assert "vm-1: a run died (agent was killed) on the new kernel; it must be repeated." in decision.cells[0].sentence
    assert judge(plan(final=True), [evidence]).cells[0].verdict is Verdict.INCONCLUSIVE


def test_a_repetition_that_ends_well_makes_the_death_good() -> None:
    evidence = host(runs=(*runs(Side.OLD, OLD), bad(Side.NEW), *runs(Side.NEW, NEW, attempt=1)))
    decision = judge(plan(), [evidence])
    assert (decision.action, decision.rerun) == (Action.PROMOTE, ())


@pytest.mark.parametrize("outcome", [Outcome.DIED, Outcome.TIMED_OUT, Outcome.FAILED])
def test_dying_again_fails_the_kernel(outcome: Outcome) -> None:
    evidence = host(runs=(*runs(Side.OLD, OLD), bad(Side.NEW, outcome), bad(Side.NEW, outcome, attempt=1)))
    decision = judge(plan(), [evidence])
    assert (decision.action, decision.verdict) == (Action.REVERT, Verdict.FAIL)
    assert "and again when it was repeated (2 runs in 2 attempts)" in decision.sentence


def test_dying_on_two_hosts_fails_the_kernel() -> None:
    sick = (*runs(Side.OLD, OLD), bad(Side.NEW))
    decision = judge(plan(), [host("a", runs=sick), host("b", runs=sick), host("c")])
    assert (decision.action, decision.verdict) == (Action.REVERT, Verdict.FAIL)
    assert "as on another host" in decision.sentence


def test_dying_on_the_old_kernel_too_decides_nothing() -> None:
    evidence = host(runs=(bad(Side.OLD), bad(Side.NEW), bad(Side.NEW, attempt=1)))
    decision = judge(plan(), [evidence])
    assert decision.action is Action.HOLD
    assert "on the old kernel; repeat it" in decision.cells[0].sentence


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -500.0, 1e308])
def test_a_value_that_is_no_measurement_leaves_the_claim_open(value: float) -> None:
    wrong = Run(run_id="wrong", side=Side.NEW, outcome=Outcome.OK, values={"swap_mount.cost": value})
    decision = judge(plan(), [host(runs=(*runs(Side.OLD, OLD), *runs(Side.NEW, NEW), wrong))])
    assert decision.action is Action.HOLD
    assert f"vm-1: run wrong reports {value:g} MiB/TiB, which is no measurement" in decision.sentence


def test_a_run_listed_twice_counts_once() -> None:
    one = host(runs=runs(Side.OLD, OLD) + runs(Side.NEW, NEW))
    twice = host(runs=one.runs + one.runs)
    assert judge(plan(), [one]) == judge(plan(), [twice])


def test_a_run_with_two_values_leaves_the_claim_open() -> None:
    other = dataclasses.replace(runs(Side.NEW, NEW)[0], values={"swap_mount.cost": 500.0})
    decision = judge(plan(), [host(runs=(*runs(Side.OLD, OLD), *runs(Side.NEW, NEW), other))])
    assert decision.action is Action.HOLD
    assert "run new-0-0 was reported with different values" in decision.sentence


def test_a_small_device_widens_the_interval() -> None:
    full = judge(plan(), [host()]).cells[1]
    small = judge(plan(), [host(device_tib=1 / 16)]).cells[1]
    assert full.low is not None and small.low is not None
    assert small.low < full.low
    assert small.claim is ClaimState.OPEN


def test_strata_are_judged_apart() -> None:
    worse = host("arm-1", "arm64/emulated", runs=runs(Side.OLD, OLD) + runs(Side.NEW, OLD))
    decision = judge(plan(), [host("vm-1"), worse])
    assert cells(decision) == {
        ("arm64/emulated", "survival"): Verdict.PASS,
        ("arm64/emulated", "swap_mount.cost"): Verdict.FAIL,
        (STRATUM, "survival"): Verdict.PASS,
        (STRATUM, "swap_mount.cost"): Verdict.PASS,
    }
