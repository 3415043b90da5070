"""`on_stratum_failure: hold`: the stratum that failed goes back alone, and the others go on."""

from simulated_fleet import NEW, OLD, SPEC, Faults, Simulation

from controller.domain.delivery import BootEnd
from controller.domain.record.journey import Step
from controller.domain.state.rollout import State

HOLD = SPEC + "  on_stratum_failure: hold\n"
TWO_STRATA = {"a": "x86_64/metal", "b": "x86_64/vm"}


def test_a_judged_failure_holds_its_stratum_alone_where_the_spec_says_so() -> None:
    spec = HOLD.replace("on_refuted: ON_REFUTED", "on_refuted: revert")
    simulation = Simulation([["a", "b"]], {"a": Faults(new_cost=800.0)}, spec=spec, strata=TWO_STRATA)
    simulation.run()
    assert simulation.rollout.state is State.PROMOTED
    assert "x86_64/metal was held back" in simulation.rollout.reason
    assert "REFUTED" in simulation.rollout.reason
    assert (simulation.hosts["a"].running, simulation.hosts["b"].running) == (OLD, NEW)


def test_a_host_that_fails_holds_its_stratum_alone_and_no_further_host_of_it_starts() -> None:
    simulation = Simulation(
        [["a", "b"], ["c", "d"]],
        {"a": Faults(trial_end=BootEnd.PANIC)},
        spec=HOLD,
        strata=TWO_STRATA | {"c": "x86_64/metal"},
    )
    simulation.run()
    assert simulation.rollout.state is State.PROMOTED
    steps = {name: simulation.step(name) for name in "abcd"}
    assert steps == {"a": Step.REVERTED, "b": Step.DONE, "c": Step.SKIPPED, "d": Step.DONE}


def test_finished_hosts_of_a_held_stratum_return_before_the_rollout_goes_on() -> None:
    simulation = Simulation(
        [["a", "b"], ["c", "d"]],
        {"c": Faults(fatal_in=Step.BAKE)},
        spec=HOLD,
        strata=TWO_STRATA | {"c": "x86_64/metal"},
    )
    simulation.run()
    assert simulation.rollout.state is State.PROMOTED
    assert simulation.step("a") is Step.REVERTED
    assert (simulation.hosts["a"].default, simulation.hosts["d"].default) == (OLD, NEW)


def test_the_rollout_reverts_when_no_stratum_is_left() -> None:
    simulation = Simulation([["a"]], {"a": Faults(trial_end=BootEnd.PANIC)}, spec=HOLD)
    simulation.run()
    assert simulation.rollout.state is State.REVERTED


def test_an_abort_goes_on_although_failures_are_only_held() -> None:
    simulation = Simulation([["a", "b"]], {"a": Faults(trial_end=BootEnd.PANIC)}, spec=HOLD, strata=TWO_STRATA)
    simulation.run(until=lambda: bool(simulation.rollout.held))
    simulation.abort()
    simulation.run()
    assert simulation.rollout.state is State.ABORTED
    assert simulation.hosts["a"].running == OLD
