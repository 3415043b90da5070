"""Looks for a run that breaks a rule, in drawn worlds and by killing the controller everywhere; prints what it finds.

Started by itself for every broken rule, with the broken source first on the path: see tests/sim/find_mutants.py.
"""

import json
import sys
import time

from designed_worlds import DESIGNS, designed_case
from killed_everywhere import cut_and_killed, kill_everywhere
from sim_cases import case

from controller.sim.cases import drawn
from controller.sim.run import simulate

# So many worlds before the kills, which find what no rule forbids: an end that depends on when the controller died.
_FIRST = 60


def found_in_worlds(seeds: range, hosts: int) -> tuple[str, str] | None:
    """Return the first seed that breaks a rule or stops the simulation itself, and how."""
    for seed in seeds:
        try:
            view = simulate(drawn(str(seed), hosts=hosts))
        except Exception as error:
            return f"seed {seed}", f"{type(error).__name__}: {error}"
        if view.breaches:
            return f"seed {seed}", view.breaches[0]
    return None


def found_by_kills() -> tuple[str, str] | None:
    """Return the first place in a small rollout where a killed controller changes the end, and how."""
    for killed in kill_everywhere(case(hosts=2)):
        if killed.difference:
            return f"kill {killed.point}", killed.difference
    return None


def found_by_power_cuts() -> tuple[str, str] | None:
    """Return the first place where a killed controller breaks a rule about a host's power, and how."""
    for point, (view, _) in enumerate(cut_and_killed()):
        if view.breaches:
            return f"kill {point} of one that cuts power", view.breaches[0]
    return None


def found_in_designs() -> tuple[str, str] | None:
    """Return the first design whose world breaks a rule, and how: only there is anybody a control host."""
    for design, hosts in DESIGNS:
        view = simulate(designed_case(design, hosts, ""))
        if view.breaches:
            return design.partition("\n")[0], view.breaches[0]
    return None


def main(arguments: list[str]) -> int:
    """Print what was found as one line of JSON; nothing found is null."""
    most, hosts = int(arguments[0]), int(arguments[1])
    began = time.process_time()
    found = (
        found_in_worlds(range(min(_FIRST, most)), hosts)
        or found_by_kills()
        or found_by_power_cuts()
        or found_in_designs()
        or found_in_worlds(range(_FIRST, most), hosts)
    )
    print(json.dumps({"found": found, "cpu_s": round(time.process_time() - began, 1)}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
