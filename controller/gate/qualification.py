"""Is a host fit to be measured on? A rig whose runs scatter far beyond what is known tells nothing about kernels.

Asked of the baseline alone, before anything is changed, so that it cannot choose hosts by what the new kernel does.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Final

from scipy.special import chdtrc

# A host may scatter this many times as much as the metric's prior says.
ALLOWED_TIMES: Final = 2.0
# How improbable the scatter must be on a host that scatters just as much as it may.
SIGNIFICANCE: Final = 0.001


# What of a processor's time another machine may take before that is worth naming, in percent.
_STOLEN_PERCENT: Final = 1.0


def causes(runs: Sequence[Mapping[str, float]]) -> str:
    """Return what the runs recorded that makes any host scatter, as the end of a sentence; empty when nothing did.

    `runs` are the values by metric. Each cause is told with its worst run.
    """

    def worst(metric: str) -> float:
        return max((values.get(metric, 0.0) for values in runs), default=0.0)

    found = []
    if (stolen := worst("cpu.stolen")) >= _STOLEN_PERCENT:
        found.append(f"neighbours on the same machine took up to {stolen:.0f} % of its processors' time")
    if times := worst("cpu.throttled"):
        found.append(f"heat slowed its processors down up to {times:.0f} times a run")
    if (used_mib := worst("swap.foreign_used")) >= 1:
        found.append(f"other swap than the workload's held up to {used_mib:.0f} MiB")
    return "; ".join(found)


def unqualified(values: Sequence[float], prior_cv: float) -> str:
    """Return why repeated runs of one boot make the host unfit, without its name; empty when they do not.

    `prior_cv` is the metric's coefficient of variation as a share. In logarithms, by a chi-square test; fewer than two
    positive values tell nothing.
    """
    assert prior_cv > 0, "a prior is positive"
    logs = [math.log(value) for value in values if value > 0 and math.isfinite(value)]
    if len(logs) < 2:
        return ""
    mean = math.fsum(logs) / len(logs)
    squares = math.fsum((one - mean) ** 2 for one in logs)
    allowed = ALLOWED_TIMES * prior_cv
    if float(chdtrc(len(logs) - 1, squares / allowed**2)) >= SIGNIFICANCE:
        return ""
    spread = math.sqrt(squares / (len(logs) - 1))
    return f"its {len(logs)} runs on the old kernel vary by {spread:.0%}, and {allowed:.0%} are allowed"
