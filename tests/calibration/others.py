"""The other judges on the gate's own draws, fed in the two ways in which they are used."""

import numpy as np
from baselines import JUDGES, PROMOTE, REVERT, UNDECIDED, Floats
from noise import NEW_BOOTS, Design, Draws
from tally import Calls, Others

BEFORE_AFTER = "before/after"
SIDE_BY_SIDE = "side by side"


def feedings(design: Design, draws: Draws) -> dict[str, tuple[Floats, Floats]]:
    """Return old and new samples [reps, n] on the metric's own scale, all runs pooled, as these judges take them."""
    new = np.array(NEW_BOOTS[design], bool)
    fed = {BEFORE_AFTER: (_pooled(draws.treated[:, :, ~new]), _pooled(draws.treated[:, :, new]))}
    if draws.control is not None:
        fed[SIDE_BY_SIDE] = (_pooled(draws.control[:, :, new]), fed[BEFORE_AFTER][1])
    return fed


def judged_by_others(design: Design, draws: Draws) -> Others:
    """Let every judge call every repetition once, with everything that was planned: none has planned looks."""
    calls = {}
    for feeding, (old, new) in feedings(design, draws).items():
        for name, judge in JUDGES.items():
            answers = judge(old, new)
            calls[name, feeding] = Calls(
                promote=int((answers == PROMOTE).sum()),
                revert=int((answers == REVERT).sum()),
                undecided=int((answers == UNDECIDED).sum()),
            )
    return Others(calls=calls)


def merged(parts: list[Others]) -> Others:
    """Add up the calls of several batches."""
    keys = parts[0].calls.keys()
    return Others(
        calls={
            key: Calls(
                promote=sum(part.calls[key].promote for part in parts),
                revert=sum(part.calls[key].revert for part in parts),
                undecided=sum(part.calls[key].undecided for part in parts),
            )
            for key in keys
        }
    )


def _pooled(runs: Floats) -> Floats:
    return np.exp(runs.reshape(len(runs), -1))
