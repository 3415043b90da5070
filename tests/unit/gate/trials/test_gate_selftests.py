"""Selftest cases in a verdict: what passed on the old kernel and fails on the new one, and nothing else."""

from dataclasses import replace

import pytest
from simulated_fleet import UID, Simulation
from simulated_host import NEW_RELEASE, OLD_RELEASE

from agent.domain.work.selftests import Ending, Program, evidence_of, judged
from controller.domain.judging.host_evidence import host_evidence
from controller.domain.record.events import Event, RunReported
from controller.domain.record.names import Key
from controller.domain.state.rollout import State
from controller.domain.state.runs import SELFTEST_CASES
from controller.gate.evidence.seen import GatePlan, HostEvidence, Outcome, Run, Side
from controller.gate.evidence.selftests import NO_CASES, parse_cases
from controller.gate.hosts.judge import GateDecision, judge
from controller.gate.verdict import Action, Verdict

STRATUM = "x86_64/vm"


def text(passed: str = "", failed: str = "", skipped: str = "") -> str:
    lines = [f"passed mm/cow: {each}" for each in passed]
    lines += [f"failed mm/cow: {each}\tworn out" for each in failed]
    return "\n".join([*lines, *(f"skipped mm/cow: {each}\tnot here" for each in skipped)])


def host(name: str, old: list[str], new: list[str]) -> HostEvidence:
    return HostEvidence(
        host=name,
        stratum=STRATUM,
        runs=tuple(
            Run(
                run_id=f"{side}-{number}",
                side=side,
                outcome=Outcome.OK,
                workload="mm_selftests",
                cases=parse_cases(told),
            )
            for side, runs in ((Side.OLD, old), (Side.NEW, new))
            for number, told in enumerate(runs)
        ),
    )


def decided(*hosts: HostEvidence, final: bool = True) -> GateDecision:
    return judge(GatePlan(claims=(), required_hosts={STRATUM: len(hosts)}, final=final), hosts)


def test_a_line_tells_state_name_and_remark() -> None:
    cases = parse_cases("passed mm/a: x y\nfailed mm/a: its end\tended by signal 11\nskipped mm/b: z\tno\n\nnonsense")
    assert cases.passed == {"mm/a: x y"}
    assert cases.failed == {"mm/a: its end": "ended by signal 11"}
    assert bool(cases)
    assert parse_cases("") == NO_CASES
    assert not NO_CASES
    # Thousands of hosts tell the same.
    assert parse_cases("passed a: b") is parse_cases("passed a: b")


def test_what_passed_twice_and_fails_twice_reverts() -> None:
    decision = decided(host("a", [text("xyz")] * 2, [text("z", "yx")] * 2))
    assert (decision.action, decision.verdict) == (Action.REVERT, Verdict.FAIL)
    assert decision.sentence == (
        'REVERT: x86_64/vm survival: a: the selftest "mm/cow: x" passed on the old kernel in 2 of 2 runs and failed on '
        'the new kernel in 2 of 2: worn out; so did "mm/cow: y". FAIL.'
    )
    many = decided(host("a", [text("abcdefgh")] * 2, [text("", "abcdefgh")] * 2))
    assert '; so did "mm/cow: b", "mm/cow: c", "mm/cow: d", "mm/cow: e", "mm/cow: f" and 2 more. FAIL.' in many.sentence


def test_it_reverts_on_a_second_host_too() -> None:
    decision = decided(*(host(name, [text("x")], [text("", "x")]) for name in "ab"))
    assert decision.action is Action.REVERT
    assert "; it did so on 2 hosts" in decision.sentence


def test_a_case_that_fails_in_other_words_than_it_passed_in_is_found_by_its_place() -> None:
    old, new = text("xyz"), "\n".join((text("x"), text("", "w"), text("z")))
    decision = decided(host("a", [old] * 2, [new] * 2))
    assert decision.action is Action.REVERT
    assert 'the selftest "mm/cow: y" passed on the old kernel in 2 of 2 runs' in decision.sentence
    assert "failed on the new kernel in 2 of 2: w (worn out)" in decision.sentence
    # Words that the old kernel knows, or whose place was taken by one that is told of elsewhere, are another case.
    for other in ("\n".join((text("x"), text("", "w"), text("yz"))), "\n".join((text("xyz"), text("", "w")))):
        assert decided(host("a", [old] * 2, [other] * 2)).action is Action.PROMOTE


MKDIRTY = """\
TAP version 13
1..6
# [INFO] PTRACE write access
{0} 1 {1}
# [INFO] PTRACE write access to THP
{0} 2 {1}
# [INFO] Page migration
ok 3 SIGSEGV generated, page not modified
# [INFO] Page migration of THP
ok 4 SIGSEGV generated, page not modified
# [INFO] PTE-mapping a THP
ok 5 SIGSEGV generated, page not modified
# [INFO] UFFDIO_COPY
ok 6 SIGSEGV generated, page not modified
"""


def test_what_an_agent_tells_of_a_real_program_is_compared_case_by_case() -> None:
    def told(status: int, output: str) -> str:
        ending = Ending(status=status, elapsed_s=0.6, stdout=output, stderr="")
        return evidence_of([judged(Program(name="mm/mkdirty"), ending)])[SELFTEST_CASES]

    old = told(0, MKDIRTY.format("ok", "SIGSEGV generated, page not modified"))
    new = told(1, MKDIRTY.format("not ok", "write() failed") + "Bail out! 2 out of 6 tests failed\n")
    sentence = decided(host("a", [old], [new])).sentence
    assert (
        'the selftest "mm/mkdirty: SIGSEGV generated, page not modified [1]" passed on the old kernel in 1 of 1 runs '
        "and failed on the new kernel in 1 of 1: write() failed [1]; so did "
        '"mm/mkdirty: SIGSEGV generated, page not modified [2]"; more runs'
    ) in sentence
    assert decided(host("a", [new], [new])).action is Action.PROMOTE


@pytest.mark.parametrize(
    ("new", "seen"),
    [([text("", "x")], "in 1 of 1"), ([text("x"), text("", "x")], "in 1 of 2")],
    ids=["once", "now and then"],
)
def test_what_is_not_certain_holds(new: list[str], seen: str) -> None:
    decision = decided(host("a", [text("x")], new))
    assert (decision.action, decision.verdict) == (Action.HOLD, Verdict.INCONCLUSIVE)
    assert seen in decision.sentence
    assert "more runs, or a second host, must confirm it" in decision.sentence
    assert decided(host("a", [text("x")], new), final=False).verdict is Verdict.NEED_MORE_DATA


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ([text("y", "x")] * 2, [text("y", "x")] * 2),
        ([text("x"), text("", "x")], [text("", "x")] * 2),
        ([text("y", "", "x")] * 2, [text("y", "x")] * 2),
        ([text("y")] * 2, [text("y", "x")] * 2),
        ([text("y", "x")] * 2, [text("yx")] * 2),
        ([text("yx")] * 2, [text("y", "", "x")] * 2),
    ],
    ids=["fails on both", "fails on both at times", "was skipped", "was not there", "is repaired", "is skipped"],
)
def test_nothing_else_speaks_against_the_new_kernel(old: list[str], new: list[str]) -> None:
    assert decided(host("a", old, new)).action is Action.PROMOTE


def test_cases_that_pass_again_are_counted() -> None:
    decision = decided(host("a", [text("xy", "z")], [text("xy", "z")]), host("b", [text("x")], [text("xy")]))
    assert decision.cells[0].sentence == (
        "x86_64/vm survival: 2 of 2 hosts live on the new kernel, no new fatal or serious log line, 3 selftest cases "
        "pass as before. PASS."
    )


class Telling(Simulation):
    """A rollout whose runs tell of two cases: one fails on the kernels that `fails_on` names, one on every kernel."""

    fails_on: tuple[str, ...] = (NEW_RELEASE,)

    def record(self, key: Key, event: Event) -> None:
        """Record the event with its cases."""
        if isinstance(event, RunReported):
            told = text("", "xz") if event.release in self.fails_on else text("x", "z")
            event = replace(event, evidence={SELFTEST_CASES: told})
        super().record(key, event)


@pytest.mark.parametrize(
    ("fails_on", "state"),
    [
        ((NEW_RELEASE,), State.REVERTED),
        ((OLD_RELEASE, NEW_RELEASE), State.PROMOTED),
        ((OLD_RELEASE,), State.PROMOTED),
        ((), State.PROMOTED),
    ],
)
def test_a_rollout_goes_back_for_a_case_that_only_the_new_kernel_fails(fails_on: tuple[str, ...], state: State) -> None:
    simulation = Telling([["a", "b"]])
    simulation.fails_on = fails_on
    simulation.run()
    assert simulation.rollout.state is state
    assert ('the selftest "mm/cow: x" passed on the old kernel' in simulation.rollout.reason) is (
        state is State.REVERTED
    )
    evidence = host_evidence(simulation.rollout, simulation.world.attempts[UID]["a"])
    assert all(run.cases for run in evidence.runs)
