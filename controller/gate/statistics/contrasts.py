"""From runs to block contrasts: run → boot → host → one number per block, oriented so that + is worse.

y = ±log(value); a boot is the median of its runs, a side the median of its boots: runs within a boot are
pseudo-replicates and must not count as evidence of their own. A host's change is y(second) − y(first). Treated hosts
change kernel in between, control hosts only reboot. No control is ever shared: subtracting one control median from
every treated host would give all differences the same error.
"""

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def log_margin(share: float) -> float:
    """Return a margin given as a share (0.03 for 3 %) in log units: being slower by 3 % is a ratio of 1.03."""
    return math.log1p(share)


def side(values: Floats, *, higher_is_better: bool = False, timed_out: Bools | None = None) -> Floats:
    """Return one side's y, [..., hosts], from values [..., hosts, boots, runs]; NaN where there is no run.

    A value that is not finite and positive is missing. A run that timed out is no missing run: it counts as infinitely
    bad (worst rank), whatever was written down for it.
    """
    usable = np.isfinite(values) & (values > 0)
    logs = np.log(np.where(usable, values, np.nan))
    oriented = -logs if higher_is_better else logs
    if timed_out is not None:
        oriented = np.where(timed_out, np.inf, oriented)
    return median(median(oriented))


def host_change(
    first: Floats,
    second: Floats,
    *,
    higher_is_better: bool = False,
    first_timed_out: Bools | None = None,
    second_timed_out: Bools | None = None,
) -> Floats:
    """Return every host's own y(second) − y(first): [..., hosts] from [..., hosts, boots, runs].

    +inf: only the second side timed out; −inf: only the first; NaN: a side has no run, or both timed out.
    """
    before = side(first, higher_is_better=higher_is_better, timed_out=first_timed_out)
    after = side(second, higher_is_better=higher_is_better, timed_out=second_timed_out)
    return _difference(after, before)


def paired_contrasts(treated: Floats, control: Floats) -> Floats:
    """Return each treated host's change less that of its own partner, [..., pairs]."""
    return _difference(treated, control)


def abba_contrasts(
    a1: Floats,
    b1: Floats,
    b2: Floats,
    a2: Floats,
    *,
    higher_is_better: bool = False,
    timed_out: tuple[Bools, Bools, Bools, Bools] | None = None,
) -> Floats:
    """Return (b1 + b2)/2 − (a1 + a2)/2 of each old–new–new–old cycle: [..., cycles] from four [..., cycles, runs].

    A drift that is linear in time adds the same to both halves and cancels. `timed_out` in the same order.
    """
    masks = timed_out or (None, None, None, None)
    one, two, three, four = (
        side(
            values[..., None, :],
            higher_is_better=higher_is_better,
            timed_out=None if mask is None else mask[..., None, :],
        )
        for values, mask in zip((a1, b1, b2, a2), masks, strict=True)
    )
    return _difference(two + three, one + four) / 2


def median(values: Floats) -> Floats:
    """Return the median over the last axis without its NaNs; NaN for none. Infinities of one sign are values."""
    if values.shape[-1] == 0:
        return np.full(values.shape[:-1], np.nan)
    ordered = np.sort(values, axis=-1)
    count = np.count_nonzero(~np.isnan(ordered), axis=-1)
    last = np.maximum(count - 1, 0)
    low = np.take_along_axis(ordered, (last // 2)[..., None], axis=-1)[..., 0]
    high = np.take_along_axis(ordered, np.minimum(count // 2, last)[..., None], axis=-1)[..., 0]
    middle = np.where(low == high, low, low / 2 + high / 2)
    return np.asarray(np.where(count > 0, middle, np.nan))


def _difference(minuend: Floats, subtrahend: Floats) -> Floats:
    """Return the difference, NaN where both are the same infinity."""
    both = np.isinf(minuend) & np.isinf(subtrahend)
    return np.asarray(np.where(both, np.nan, minuend - np.where(both, 0.0, subtrahend)))
