"""From a run that breaks a rule to a small one that breaks the same rule."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

from controller.sim.case import Case
from controller.sim.run import simulate
from controller.views.simulation import SimulationView

# A smaller case is looked for in at most this many runs.
MOST_RUNS: Final = 120
# What happens to the controller at some commit, and where the search for an earlier one begins.
_INCIDENTS: Final = ("controller.", "operator.")
_UNLIMITED: Final = 2**12


def broken_rule(view: SimulationView) -> str:
    """Return which rule a run broke first; empty when it broke none."""
    return view.breaches[0].partition(":")[0] if view.breaches else ""


def shrink(case: Case, rule: str, *, tried: Callable[[int], None] = lambda _runs: None) -> Case:
    """Return a case that still breaks the rule, with fewer hosts, fewer faults and an earlier end of trouble."""
    runs = 0
    found = True
    while found and runs < MOST_RUNS:
        found = False
        for smaller in _smaller(case):
            runs += 1
            tried(runs)
            if _breaks(smaller, rule):
                case, found = smaller, True
                break
            if runs >= MOST_RUNS:
                break
    return case


def _breaks(case: Case, rule: str) -> bool:
    try:
        return broken_rule(simulate(case)) == rule
    except Exception:
        # A fleet that is too small for the spec, for example: this way leads nowhere.
        return False


def _smaller(case: Case) -> Iterator[Case]:
    """Yield what might be left out, the largest parts first."""
    hosts = case.hosts
    for fewer in dict.fromkeys((hosts // 2, hosts * 3 // 4, hosts - 1)):
        if 0 < fewer < hosts:
            yield replace(case, hosts=fewer)
    for name in case.faults.names():
        yield replace(case, faults=case.faults.without((name,)))
    if case.then:
        yield replace(case, then="")
    if any(name.startswith(_INCIDENTS) for name in case.faults.names()):
        limit = case.calm_after or _UNLIMITED
        for earlier in (limit // 4, limit // 2):
            if earlier:
                yield replace(case, calm_after=earlier)
