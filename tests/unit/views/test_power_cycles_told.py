"""What operators see of a host whose power was to be cut: in the status, in explanations, and counted."""

import pytest
from power_cut import UNHEARD, PowerCut
from simulated_fleet import UID, Faults

from controller.domain.record.actions.power_cycles import CycleOutcome
from controller.domain.record.journey import Step
from controller.views.models import RolloutView
from controller.views.report import report
from controller.views.rollouts.changes import Change, changes
from controller.views.rollouts.explain import explain
from controller.views.rollouts.status import rollout_view


def view_of(simulation: PowerCut) -> RolloutView:
    return rollout_view(simulation.rollout, simulation.world.attempts[UID], {}, simulation.now)


@pytest.mark.parametrize("step", list(UNHEARD))
def test_a_host_on_its_way_back_says_what_became_of_its_power(step: Step) -> None:
    simulation = PowerCut(UNHEARD[step], helps=False)
    simulation.run(until=lambda: bool(simulation.orders))
    view = view_of(simulation)
    assert view.power_cycles == 0
    assert view.waves[0].hosts[0].detail.endswith("; its power is to be cut and given again")
    simulation.run(until=lambda: simulation.attempt.power.outcome is not None)
    view = view_of(simulation)
    assert view.power_cycles == 1
    assert view.waves[0].hosts[0].step == step
    assert view.waves[0].hosts[0].detail.endswith("; its power was cut and given again")


@pytest.mark.parametrize(
    ("outcome", "told", "counted"),
    [
        (CycleOutcome.DONE, "a: its power was cut and given again.", 1),
        (CycleOutcome.UNKNOWN, "a: whether its power was cut is not known: as simulated.", 1),
        (CycleOutcome.REFUSED, "a: its power was not cut: as simulated.", 0),
        (CycleOutcome.SPARED, "a: its power was not cut: as simulated.", 0),
    ],
)
def test_an_explanation_names_it_with_what_the_management_controller_said(
    outcome: CycleOutcome, told: str, counted: int
) -> None:
    simulation = PowerCut(UNHEARD[Step.FALLBACK], outcome=outcome)
    simulation.run()
    evidence = explain(simulation.rollout, simulation.world.attempts[UID], "trial").evidence
    assert told in evidence
    said = "a management controller: Processor | IERR | Asserted" in evidence
    assert (view_of(simulation).power_cycles, said) == (counted, counted == 1)


@pytest.mark.parametrize(
    ("helps", "told"),
    [
        (
            True,
            "no healthy agent answered by the boot deadline; its power was cut and given again; back on its old kernel",
        ),
        (
            False,
            "did not come back on its old kernel by the revert deadline, nor after its power was cut and given again;",
        ),
    ],
)
def test_the_report_says_it_where_it_says_what_went_wrong(helps: bool, told: str) -> None:
    simulation = PowerCut(Faults(unanswered="hello", never_returns=not helps), helps=helps)
    simulation.run()
    events = [(key.stream, event) for key, event in simulation.log]
    text = report(simulation.rollout, simulation.world.attempts[UID], events, {}).markdown
    assert told in text
    assert "ipmi://bmc-a is told to cut its power and to give it again; before, power on; it says: Processor" in text


def test_whoever_watches_hears_of_it() -> None:
    simulation = PowerCut(UNHEARD[Step.FALLBACK])
    simulation.run(until=lambda: bool(simulation.orders))
    before = view_of(simulation)
    simulation.run(until=lambda: simulation.attempt.power.outcome is not None)
    after = view_of(simulation)
    assert Change(subject="power", text="cut and given again: 1 host by now") in list(changes(before, after))
    assert all(one.subject != "power" for one in changes(after, after))


def test_nothing_is_said_where_there_was_no_such_need() -> None:
    simulation = PowerCut(UNHEARD[Step.FALLBACK])
    simulation.run(until=lambda: simulation.step("a") is Step.FALLBACK)
    assert view_of(simulation).power_cycles == 0
    assert "power" not in view_of(simulation).waves[0].hosts[0].detail
