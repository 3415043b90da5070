"""Whatever breaks, whoever intervenes and whenever the controller dies: a rollout ends, and ends well."""

from hypothesis import given, note, settings
from hypothesis import strategies as st
from restarting_fleet import RestartingFleet
from simulated_fleet import SPEC, Faults

from controller.domain.delivery import BootEnd
from controller.domain.events import CommandState
from controller.domain.journey import Role, Step, legs_of
from controller.domain.rollout import State

VERBS = ("stage", "arm", "reboot", "bless", "revert")
WATCHED = (Step.BASELINE, Step.ARM, Step.VERIFY, Step.PROBATION, Step.BLESS, Step.BAKE, Step.DONE)
ENDS = (BootEnd.PANIC, BootEnd.RESET)


@st.composite
def faults(draw: st.DrawFn) -> Faults:
    """Most hosts are well; the others have one or two things wrong with them."""
    if draw(st.booleans()):
        return Faults()
    return Faults(
        trial_end=draw(st.sampled_from([None, None, *ENDS])),
        refused=draw(st.sampled_from(["", "", "", *VERBS])),
        unanswered=draw(st.sampled_from(["", "", "", *VERBS, "old", "new", "hello"])),
        measurements=draw(st.lists(st.sampled_from([CommandState.COMPLETED, *CommandState]), max_size=4)),
        silent_in=draw(st.sampled_from([None, None, *WATCHED])),
        fatal_in=draw(st.sampled_from([None, None, *WATCHED])),
        dies_in=draw(st.sampled_from([None, None, Step.PROBATION, Step.BLESS, Step.BAKE, Step.DONE])),
        never_returns=draw(st.sampled_from([False, False, False, True])),
        returns_after_s=draw(st.sampled_from([10.0, 40.0, 85.0, 100.0])),
        ignores_new_kernel=draw(st.sampled_from([False, False, False, True])),
        strays=draw(st.sampled_from([False, False, False, True])),
        new_cost=draw(st.sampled_from([567.0, 567.0, 700.0, 819.0])),
    )


# (how much later, what): seconds of absence, or what an operator asks for.
INTERVENTIONS = st.tuples(
    st.floats(0.0, 120.0),
    st.one_of(st.sampled_from([0.0, 3.0, 30.0, 600.0, 90_000.0]), st.sampled_from([State.ABORTING, State.REVERTING])),
)


@st.composite
def fleets(draw: st.DrawFn) -> RestartingFleet:
    sizes = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    waves = [[f"h{wave}{place}" for place in range(size)] for wave, size in enumerate(sizes)]
    given_faults = {name: draw(faults()) for wave in waves for name in wave}
    for name, fault in given_faults.items():
        note(f"{name}: {fault}")
    return RestartingFleet(
        waves,
        given_faults,
        role=draw(st.sampled_from(Role)),
        max_in_flight=draw(st.integers(1, 3)),
        on_refuted=draw(st.sampled_from(["pause", "revert"])),
        spec=SPEC + draw(st.sampled_from(["", "  on_stratum_failure: hold\n"])),
    )


def intervene(fleet: RestartingFleet, interventions: list[tuple[float, float | State]]) -> None:
    """Let the rollout run, and come in between."""
    for delay_s, what in interventions:
        moment = fleet.now + delay_s
        fleet.later(delay_s, lambda: None)
        fleet.run(until=lambda moment=moment: fleet.now >= moment)  # type: ignore[misc]  # bound now
        if isinstance(what, State):
            fleet.operate(what)
        else:
            fleet.restart(what)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(fleet=fleets(), interventions=st.lists(INTERVENTIONS, max_size=5))
def test_a_rollout_ends_and_leaves_every_host_where_it_says(
    fleet: RestartingFleet, interventions: list[tuple[float, float | State]]
) -> None:
    intervene(fleet, interventions)
    fleet.run(horizon_s=50_000.0)
    fleet.check_replay()
    if not fleet.rollout.ended:
        assert fleet.rollout.state is State.PAUSED, f"{fleet.rollout.state} and nothing happens any more"
        fleet.revert()
        fleet.run(horizon_s=50_000.0)
    assert fleet.rollout.ended
    fleet.check_end()


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    sizes=st.lists(st.integers(1, 3), min_size=1, max_size=3),
    role=st.sampled_from([Role.TREATED, Role.CROSSOVER]),
    absences=st.lists(st.tuples(st.floats(0.0, 60.0), st.sampled_from([0.0, 1.0])), max_size=8),
)
def test_short_absences_change_nothing_in_how_it_ends(
    sizes: list[int], role: Role, absences: list[tuple[float, float]]
) -> None:
    """A controller that is soon back reaches the end that it would have reached, and boots nobody twice."""
    waves = [[f"h{wave}{place}" for place in range(size)] for wave, size in enumerate(sizes)]
    fleet = RestartingFleet(waves, role=role)
    intervene(fleet, [(delay_s, away_s) for delay_s, away_s in absences])
    fleet.run(horizon_s=50_000.0)
    assert fleet.rollout.state is State.PROMOTED, fleet.rollout.reason
    fleet.check_end()
    assert {host.boots for host in fleet.hosts.values()} == {len(legs_of(role))}
