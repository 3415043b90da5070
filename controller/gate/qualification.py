"""Is a host fit to be measured on? A rig whose runs scatter far beyond what is known tells nothing about kernels.

Asked of the baseline alone, before anything is changed, so that it cannot choose hosts by what the new kernel does.
"""

import math
from collections.abc import Sequence
from typing import Final

from scipy.special import chdtrc

# A host may scatter this many times as much as the metric's prior says.
ALLOWED_TIMES: Final = 2.0
# How improbable the scatter must be on a host that scatters just as much as it may.
SIGNIFICANCE: Final = 0.001


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
