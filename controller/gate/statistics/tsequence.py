"""The Gaussian t confidence sequence: valid at every look, for low-noise metrics on very few blocks.

    θ̂ ± (s/√n) · √( ν(c − 1) / (1 − c/(1 + n·g)) ),   ν = n − 1,   c = (√(1 + n·g) / (2α))^(2/(ν+1))

with g = (Δ/σ)² fixed beforehand and α one-sided; infinite when c ≥ 1 + n·g. Sources: Lai (1976); Wang and Ramdas,
Anytime-valid t-tests and confidence sequences for Gaussian means with unknown variance (2023), the Gaussian mixture
over θ/σ under the right Haar prior on σ. Exact for normal errors and not robust to a sick host, so the rank form rules
where both apply.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def half_width(count: Floats, deviation: Floats, g: float, alpha: float) -> Floats:
    """Return the half width for samples of `count` with standard deviation `deviation`; inf where it has none."""
    count = np.asarray(count, dtype=np.float64)
    enough = count >= 2
    n = np.where(enough, count, 2.0)
    spread = 1 + n * g
    c = (np.sqrt(spread) / (2 * alpha)) ** (2 / n)
    finite = enough & (c < spread)
    room = np.where(finite, 1 - c / spread, 1.0)
    factor = np.sqrt((n - 1) * np.maximum(c - 1, 0.0) / room)
    return np.where(finite, deviation / np.sqrt(n) * factor, np.inf)


def moments(values: Floats) -> tuple[Floats, Floats, Floats]:
    """Return count, mean and standard deviation of each row without its NaNs; the order of a row changes no bit."""
    ordered = np.sort(values, axis=1)
    present = ~np.isnan(ordered)
    count = np.count_nonzero(present, axis=1).astype(np.float64)
    filled = np.where(present, ordered, 0.0)
    mean = filled.sum(axis=1) / np.maximum(count, 1)
    squares = np.where(present, (ordered - mean[:, None]) ** 2, 0.0).sum(axis=1)
    deviation = np.sqrt(squares / np.maximum(count - 1, 1))
    return count, np.where(count > 0, mean, np.nan), deviation


def smallest_count(g: float, alpha: float, limit: int) -> int | None:
    """Return the smallest n at which the sequence is finite, None up to `limit`."""
    counts = np.arange(2, limit + 1, dtype=np.float64)
    finite = np.isfinite(half_width(counts, np.ones_like(counts), g, alpha))
    return int(counts[np.argmax(finite)]) if finite.any() else None
