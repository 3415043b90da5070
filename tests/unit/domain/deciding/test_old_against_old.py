"""A/A rollouts: every host keeps its kernel, the gate is judged instead, and what they teach is kept and used."""

from dataclasses import replace

import pytest
from engine_parts import TEXT, Parts, outcome, run
from rollout_story import Story
from simulated_fleet import UID, Simulation
from simulated_host import OLD, OLD_RELEASE

from controller.domain.caller import Caller
from controller.domain.errors import Conflict, InvalidInput
from controller.domain.judging.learning import learnt
from controller.domain.judging.old_against_old import judgements, sham_arms
from controller.domain.judging.waves import judge_wave
from controller.domain.planning.policy import policy_of
from controller.domain.record.events import DeliveryReported, Event, RunReported
from controller.domain.record.journey import Role
from controller.domain.record.names import Key
from controller.domain.record.policy import SuspendedCell
from controller.domain.record.verdicts import WaveJudged
from controller.domain.spec.parse import parse_spec
from controller.domain.state.rollout import State
from controller.gate.ledger import Boot, Judgement, Ledger
from controller.gate.trial.model import Arm
from controller.views.report import report
from controller.views.rollouts.explain import explain
from controller.views.rollouts.status import rollout_view

COST, TIME = "swap_mount.cost", "swap_mount.swapoff_time"
HOSTS = [f"h{index:02}" for index in range(24)]


class Timed(Story):
    """A story whose runs tell how long swapoff took: the second boot of `slow` hosts is slower."""

    slow: frozenset[str] = frozenset()

    def record(self, key: Key, event: Event) -> None:
        """Record the event with a time."""
        if isinstance(event, RunReported):
            # Boots differ a little, runs within one hardly.
            spread = 0.02 * (int(event.boot_id.rpartition("-")[2]) * 7 + sum(map(ord, key.host))) % 0.01
            late = 0.5 if key.host in self.slow and event.boot_id.endswith("-2") else 0.0
            event = replace(event, values={**event.values, TIME: 1.0 + spread + late + 0.001 * event.index})
        super().record(key, event)


def aa(waves: list[list[str]], **more: object) -> Timed:
    spec = TEXT.replace("repetitions: 2", "repetitions: 4")
    story = Timed(waves, role=Role.CONTROL, aa=True, max_in_flight=50, spec=spec, **more)  # type: ignore[arg-type]  # passed on
    story.run()
    return story


def judged(story: Simulation) -> list[WaveJudged]:
    return [event for _, event in story.log if isinstance(event, WaveJudged)]


def test_every_host_reboots_into_its_own_kernel_and_nothing_is_promoted() -> None:
    story = aa([["a"], ["b"]])
    assert story.rollout.state is State.COMPLETED
    assert {host.release for host in story.hosts.values()} == {OLD_RELEASE}
    assert {host.boots for host in story.hosts.values()} == {2}
    first, last = judged(story)
    assert [(cell.metric, cell.verdict) for cell in first.cells] == [("survival", "PASS")]
    cells = {cell.metric: cell for cell in last.cells}
    assert cells[COST].verdict == "PASS"
    assert "old against old changed by +0.0 MiB/TiB (99 % interval" in cells[COST].sentence
    # Two hosts are no experiment on times.
    assert cells[TIME].verdict == "INCONCLUSIVE"
    assert last.sentence == (
        "old against old: 2 hosts came back on the same kernel; 1 of 3 cells could be judged, none called worse."
    )


def test_two_arms_that_differ_in_nothing_pass() -> None:
    story = aa([HOSTS])
    cell = next(cell for cell in judged(story)[-1].cells if cell.metric == TIME)
    assert cell.verdict == "PASS"
    assert "12 treated hosts against 12 control hosts" in cell.sentence
    taught = judgements(story.rollout, judged(story)[-1])
    assert [(one.metric, one.failed, one.alpha) for one in taught] == [
        (COST, False, pytest.approx(0.01)),
        (TIME, False, 0.01),
    ]


@pytest.mark.parametrize("shift", [-30.0, 30.0])
def test_a_cost_that_moved_to_either_side_is_a_mistake(shift: float) -> None:
    class Moving(Timed):
        def record(self, key: Key, event: Event) -> None:
            if isinstance(event, RunReported) and event.boot_id.endswith("-2"):
                event = replace(event, values={**event.values, COST: event.values[COST] + shift})
            super().record(key, event)

    spec = TEXT.replace("repetitions: 2", "repetitions: 4")
    story = Moving([["a", "b"]], role=Role.CONTROL, aa=True, max_in_flight=50, spec=spec)
    story.run()
    (cell,) = (cell for cell in judged(story)[-1].cells if cell.metric == COST)
    assert cell.verdict == "FAIL", cell.sentence


def test_a_host_that_scatters_is_left_out_of_both_arms() -> None:
    story = aa([HOSTS])
    attempts = dict(story.attempts)
    runs = tuple(
        replace(run, values={**run.values, TIME: 1.0 + 5.0 * run.index**3}) if run.leg == 0 else run
        for run in attempts["h00"].runs
    )
    attempts["h00"] = replace(attempts["h00"], runs=runs)
    (cell,) = (cell for cell in judge_wave(story.rollout, attempts, 0.0).cells if cell.metric == TIME)
    assert "Not qualified: h00" in cell.sentence
    assert "h00 (" not in cell.sentence.partition("Not qualified")[0]
    counts = ("11 treated hosts against 12 control hosts", "12 treated hosts against 11 control hosts")
    assert any(count in cell.sentence for count in counts)


def test_a_false_revert_is_told_counted_and_stops_nothing() -> None:
    arms = sham_arms(HOSTS, UID)
    slow = frozenset(host for host, arm in arms.items() if arm is Arm.TREATED)
    unlucky = type("Unlucky", (Timed,), {"slow": slow})
    spec = TEXT.replace("repetitions: 2", "repetitions: 4")
    story = unlucky([HOSTS], role=Role.CONTROL, aa=True, max_in_flight=50, spec=spec)
    story.run()
    last = judged(story)[-1]
    assert story.rollout.state is State.COMPLETED
    assert next(cell for cell in last.cells if cell.metric == TIME).verdict == "FAIL"
    assert f"called worse by mistake: x86_64/vm {TIME}" in last.sentence
    assert [one.failed for one in judgements(story.rollout, last) if one.metric == TIME] == [True]


def test_arms_are_dealt_by_the_salt_alone() -> None:
    arms = sham_arms(HOSTS, "s")
    assert arms == sham_arms(HOSTS[::-1], "s")
    assert arms != sham_arms(HOSTS, "another")
    assert sum(arm is Arm.TREATED for arm in arms.values()) == 12
    assert sum(arm is Arm.TREATED for arm in sham_arms(HOSTS[:5], "s").values()) == 3


def test_an_aa_rollout_reads_well_everywhere() -> None:
    story = aa([["a"], ["b"]])
    view = rollout_view(story.rollout, story.attempts, {}, story.now)
    assert (view.state, view.terminal) == ("completed", True)
    assert view.blocking_reason.startswith("completed: old against old: 2 hosts came back")
    told = explain(story.rollout, story.attempts, "trial-aa")
    assert told.sentence.startswith("trial is completed: old against old: 2 hosts")
    assert told.next_command == "kernroll gate ledger"
    made = report(story.rollout, story.attempts, story.events, {})
    assert "completed" in made.text
    assert "old against old changed by" in made.text


def test_a_measurement_teaches_one_row_a_metric_and_boot() -> None:
    story = aa([["a"]])
    rows: list[Boot] = []
    world = Timed([["a"]], role=Role.CONTROL, aa=True).world
    for key, event in story.log:
        if key.host:
            rows += learnt(story.rollout, world.attempts[UID]["a"], event)
        if key.host or type(event).__name__ not in ("RolloutPlanned", "RolloutStarted"):
            world.apply(key, event)
    assert [(row.metric, row.boot_id, row.runs, row.kernel) for row in rows] == [
        (COST, "a-boot-1", 4, OLD),
        (TIME, "a-boot-1", 4, OLD),
        ("swap_mount.swapon_time", "a-boot-1", 4, OLD),
        (COST, "a-boot-2", 4, OLD),
        (TIME, "a-boot-2", 4, OLD),
        ("swap_mount.swapon_time", "a-boot-2", 4, OLD),
    ]
    assert len({row.order for row in rows}) == 1
    # The warm-up is left out: the median of 819.1 … 819.4.
    assert rows[0].value == pytest.approx(819.25)


def taught(spread: float) -> Ledger:
    boots = [
        Boot(
            host=host,
            stratum="x86_64/vm",
            metric=COST,
            rollout="u0",
            kernel=OLD,
            order="o",
            boot_id=f"{host}{at}",
            at=float(at),
            value=819.0 + (spread if (index + at) % 2 else 0.0),
            runs=4,
        )
        for index, host in enumerate(HOSTS)
        for at in (1, 2)
    ]
    failed = [
        Judgement(stratum="x86_64/vm", metric=COST, rollout=f"u{at}", at=float(at), alpha=0.01, failed=at < 5)
        for at in range(10)
    ]
    return Ledger(boots=tuple(boots), judgements=tuple(failed))


def test_a_plan_takes_what_the_ledger_knows() -> None:
    spec = parse_spec(TEXT, "trial.yaml")
    policy = policy_of(spec, (60.0, 60.0), ledger=taught(0.5), strata=["x86_64/vm", "arm64/vm"])
    assert list(policy.sigma_host[COST]) == ["x86_64/vm"]
    assert 0.5 < policy.sigma_host[COST]["x86_64/vm"] < 1.0
    (cell,) = policy.suspended
    assert (cell.stratum, cell.metric) == ("x86_64/vm", COST)
    # Old against old is judged by what claims are judged by, and claims nothing.
    aa_policy = policy_of(spec, (60.0, 60.0), aa=True, ledger=taught(0.5), strata=["x86_64/vm"])
    assert (aa_policy.claims, aa_policy.sigma_host) == ((), policy.sigma_host)
    assert policy_of(spec, (60.0, 60.0)).sigma_host == {}


def test_a_suspended_cell_decides_nothing_and_says_so() -> None:
    story = Story([["a"]])
    story.run()
    assert story.rollout.state is State.PROMOTED
    why = SuspendedCell(stratum="x86_64/vm", metric=COST, why="5 of 10 old-vs-old judgements failed")
    policy = replace(story.rollout.policy, suspended=(why,))
    again = judge_wave(replace(story.rollout, policy=policy), story.attempts, 0.0)
    assert again.decision == "hold"
    assert "OPEN because the cell is suspended: 5 of 10 old-vs-old judgements failed." in again.sentence


def test_a_narrower_ledger_narrows_the_interval() -> None:
    story = Story([["a"]])
    story.run()
    policy = replace(story.rollout.policy, sigma_host={COST: {"x86_64/vm": 0.1}})
    then = {cell.metric: cell for cell in judged(story)[-1].cells}[COST]
    now = {cell.metric: cell for cell in judge_wave(replace(story.rollout, policy=policy), story.attempts, 0.0).cells}[
        COST
    ]
    assert None not in (then.low, then.high, now.low, now.high)
    assert now.high - now.low < then.high - then.low  # type: ignore[operator]  # none is None, as said above


async def test_an_operator_runs_aa_and_the_next_plan_knows_more() -> None:
    parts = await Parts().start()
    stream = await parts.connect()
    empty = await parts.operations.ledger()
    assert empty.cells == ()
    planned = await parts.operations.plan(TEXT, "trial.yaml", aa=True)
    assert (planned.name, planned.aa, planned.claims) == ("trial-aa", True, ())
    assert "staged and never booted" in planned.notes[-1]
    assert {cell.metric for cell in planned.cells} == {TIME, "swap_mount.swapon_time"}
    assert all(cell.noise_hosts == 0 and cell.hosts == 1 for cell in planned.cells)
    view = await parts.operations.start(TEXT, "trial.yaml", Caller("test"), aa=True)
    assert view.name == "trial-aa"
    assert [host.role for wave in view.waves for host in wave.hosts] == ["control"]
    with pytest.raises(Conflict, match="held by"):
        await parts.operations.start(TEXT, "trial.yaml", Caller("test"), aa=True)
    await parts.engine.settle()
    uid = next(iter(parts.engine.world.rollouts))
    attempt = parts.attempt(uid=uid)
    for index in range(3):
        await parts.sessions.reported("a", run(attempt, index))
    await parts.sessions.reported("a", outcome(attempt))
    await parts.engine.settle()
    # What the old kernel is comes to light when the new one is staged.
    assert (await parts.operations.ledger()).cells == ()
    staging = parts.attempt(uid=uid)
    staged = DeliveryReported(at=1.0, command_id=staging.command_id, default_kernel=OLD, running_kernel=OLD)
    await parts.engine.observe(Key(uid, "a"), staged)
    await parts.engine.settle()
    known = await parts.operations.ledger()
    assert [(cell.metric, cell.boots, cell.hosts, cell.unit) for cell in known.cells] == [(COST, 1, 0, "MiB/TiB")]
    await parts.sessions.disconnected(stream)


def test_margins_are_read_checked_and_defaulted() -> None:
    spec = parse_spec(TEXT.replace("  limits:", f"  margins: {{{TIME}: 4 %}}\n  limits:"), "trial.yaml")
    assert policy_of(spec, (60.0,)).margins == {TIME: 0.04, "swap_mount.swapon_time": 0.1}
    with pytest.raises(InvalidInput, match=r"swap_mount\.cost: is no performance metric with a margin; there are"):
        parse_spec(TEXT.replace("  limits:", "  margins: {swap_mount.cost: 4 %}\n  limits:"), "trial.yaml")
    with pytest.raises(InvalidInput, match=r"needs workloads\.kernel_build, which measures it"):
        parse_spec(TEXT.replace("  limits:", "  margins: {kernel_build.elapsed: 4 %}\n  limits:"), "trial.yaml")
    with pytest.raises(InvalidInput, match="must be a percentage"):
        parse_spec(TEXT.replace("  limits:", f"  margins: {{{TIME}: 0 %}}\n  limits:"), "trial.yaml")
