"""The fleet line: one effect over strata, shown only when the strata agree.

An inverse-variance mean with Cochran's Q (Cochran 1954; DerSimonian and Laird 1986, by statsmodels). It explains and
never decides: when a patch helps one architecture and hurts another, the mean of both describes neither.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.special import ndtri
from statsmodels.stats.meta_analysis import combine_effects  # type: ignore[import-untyped]  # it ships no types

# Q has little power over few strata, so a mean is withheld early.
DISAGREEMENT: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetLine:
    """A mean effect over strata, in the unit of the effects."""

    mean: float
    low: float
    high: float
    # Cochran's Q and its p; 0 and 1 with a single stratum.
    q: float
    p: float
    strata: int
    # False when the strata differ significantly: then the mean is nobody's effect.
    shown: bool


def fleet_line(estimates: Sequence[float], errors: Sequence[float], confidence: float = 0.95) -> FleetLine | None:
    """Return the fixed-effect mean of the strata that have an estimate and a positive, finite standard error.

    None when there is none. The order of the strata changes no bit.
    """
    usable = sorted(
        (estimate, error)
        for estimate, error in zip(estimates, errors, strict=True)
        if math.isfinite(estimate) and math.isfinite(error) and error > 0
    )
    if not usable:
        return None
    effects, deviations = np.array(usable).T
    if len(usable) == 1:
        # One stratum agrees with itself; the method-of-moments part of the combination needs two.
        half = float(ndtri(0.5 + confidence / 2)) * usable[0][1]
        mean, low, high, q, p = usable[0][0], usable[0][0] - half, usable[0][0] + half, 0.0, 1.0
    else:
        # Strata that agree better than chance have no random-effects part; it is not used, and may be no number.
        with np.errstate(invalid="ignore", divide="ignore"):
            combined = combine_effects(effects, deviations**2, method_re="chi2", alpha=1 - confidence)
            (low, high), mean = combined.conf_int(alpha=1 - confidence)[0], combined.mean_effect_fe
        test = combined.test_homogeneity()
        q, p = test.statistic, test.pvalue
    return FleetLine(
        mean=float(mean),
        low=float(low),
        high=float(high),
        q=float(q),
        p=float(p),
        strata=len(usable),
        shown=bool(p >= DISAGREEMENT),
    )
