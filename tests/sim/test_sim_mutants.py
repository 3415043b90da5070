"""Rules that are broken on purpose: each can still be applied to the source, and the simulator finds a quick one."""

import pytest
from mutant_hunt import hunt
from mutants import MUTANTS, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda one: one.name)
def test_every_broken_rule_fits_the_source(mutant: Mutant) -> None:
    compile(mutant.applied(), mutant.path, "exec")


def test_the_simulator_finds_a_broken_rule() -> None:
    """One of them here; `make sim-mutants` hunts all."""
    budget = next(mutant for mutant in MUTANTS if mutant.name == "budget off by one")
    result = hunt(budget, 20, 12)
    assert result["found"]
    assert "the disruption budget is never exceeded" in str(result["found"])
