"""Designs in simulated worlds: the whole controller decides by performance, whatever breaks in between."""

import pytest
from designed_worlds import DESIGNS, TROUBLE, WORSE, designed_case

from controller.sim.run import simulate
from controller.views.simulation import SimulationView


def world(design: str, hosts: int, faults: str) -> SimulationView:
    view = simulate(designed_case(design, hosts, faults))
    assert view.breaches == ()
    return view


@pytest.mark.parametrize(("design", "hosts"), DESIGNS)
def test_a_stratum_in_which_the_kernel_is_worse_is_held_whatever_breaks_meanwhile(design: str, hosts: int) -> None:
    view = world(design, hosts, TROUBLE + WORSE)
    assert view.true_regressions == (("arm64/vm", "kernel_build_subset.system_time"),)
    assert view.state == "promoted", view.reason
    assert "arm64/vm was held back: arm64/vm kernel_build_subset.system_time" in view.reason
    assert view.steps["reverted"] > 0


def test_a_good_kernel_is_promoted_on_every_host_but_the_controls() -> None:
    view = world(DESIGNS[0][0], DESIGNS[0][1], "")
    assert (view.state, view.steps) == ("promoted", {"done": 54})
    # Everybody has booted once more; control hosts into their own kernel.
    assert view.boots == 54
