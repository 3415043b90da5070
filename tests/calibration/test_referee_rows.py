"""The referee with few repetitions: the same scenarios and code, bars widened by the Monte-Carlo error only."""

from collections import defaultdict

import pytest
from engine import judged
from scenarios import SCENARIOS, Scenario
from tally import Reach, reached

SEED = 20260218
REPS = 160
# Cells are repetitions too.
REPS_OF_MANY_CELLS = 32
# Two hundred bars are tested at once; one in ten thousand may miss by chance.
CONFIDENCE = 0.9998

GROUPS: dict[str, list[Scenario]] = defaultdict(list)
for _scenario in SCENARIOS:
    GROUPS[f"row {_scenario.row}, {_scenario.design}"].append(_scenario)


@pytest.mark.parametrize("group", GROUPS)
def test_the_gate_meets_its_bars(group: str) -> None:
    missed = []
    for scenario in GROUPS[group]:
        reps = REPS_OF_MANY_CELLS if scenario.cells > 1 else REPS
        tally = judged(scenario, reps=reps, seed=SEED)
        for bar in scenario.bars:
            figure = tally.figure(bar.quantity, confidence=CONFIDENCE)
            if reached(bar, figure) == Reach.MISSED:
                missed.append(f"{scenario.key}: {bar.text}, found {figure[0]:.4f} (seed {SEED}, {reps} repetitions)")
    assert not missed, "\n".join([*missed, "again: make calibration ARGS='--reps 2000 --rows …'"])


def test_the_same_seed_gives_the_same_figures_and_another_seed_others() -> None:
    scenario = SCENARIOS[0]
    first, again, other = (judged(scenario, reps=40, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first.blocks_used != other.blocks_used
