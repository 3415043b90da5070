"""What old-vs-old rollouts teach: the noise of a host's change, and whether the gate keeps its promise on a cell.

Pure arithmetic on the ledger's rows; where they are kept is somebody else's business.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from scipy.stats import binom, chi2

# With fewer changes than this the prior stands.
FEWEST_CHANGES: Final = 8
# A plan takes the upper end of what σ can be, at this confidence: half of all plans on the plain estimate would be too
# small.
UPPER_CONFIDENCE: Final = 0.80
# A cell is suspended when its count of false reverts would be this improbable at the promised rate.
SUSPENSION: Final = 0.001
# Makes the median absolute deviation a standard deviation under normal errors: 1/Φ⁻¹(3/4).
MAD_SCALE: Final = 1.4826


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """The standard deviation of one host's old-vs-old change, in log units."""

    sigma: float
    # Hosts it was learned from; 0 for a prior.
    hosts: int


def learn(changes: Sequence[float], prior: float) -> Noise:
    """Return the noise to plan with: from finite old-vs-old changes if there are enough, else the prior.

    The larger of the ordinary and the robust deviation, at the upper end of its chi-square interval. Each host must be
    given once. Reboots of one host that are given separately would pass for independent hosts.
    """
    usable = sorted(change for change in changes if math.isfinite(change))
    count = len(usable)
    if count < FEWEST_CHANGES:
        return Noise(sigma=prior, hosts=0)
    mean = math.fsum(usable) / count
    deviation = math.sqrt(math.fsum((one - mean) ** 2 for one in usable) / (count - 1))
    middle = _median(usable)
    robust = MAD_SCALE * _median(sorted(abs(one - middle) for one in usable))
    wide = math.sqrt((count - 1) / float(chi2.ppf(1 - UPPER_CONFIDENCE, count - 1)))
    sigma = max(deviation, robust) * wide
    # A meter that never moves is no meter; the prior stands.
    return Noise(sigma=sigma, hosts=count) if sigma > 0 else Noise(sigma=prior, hosts=0)


def combined(change: Noise, host_kernel_sd: float) -> float:
    """Return σ for a plan: the old-vs-old noise and the part by which a new kernel moves single hosts."""
    return math.hypot(change.sigma, host_kernel_sd)


def suspended(false_reverts: int, judgements: int, alpha: float) -> str:
    """Return why a cell must not decide any more; empty while its old-vs-old false reverts are as promised."""
    assert 0 <= false_reverts <= judgements, "false reverts are judgements"
    if not false_reverts or float(binom.sf(false_reverts - 1, judgements, alpha)) >= SUSPENSION:
        return ""
    return (
        f"{false_reverts} of {judgements} old-vs-old judgements failed, {false_reverts / judgements:.1%} where "
        f"{alpha:.2%} was promised"
    )


def _median(ordered: Sequence[float]) -> float:
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
