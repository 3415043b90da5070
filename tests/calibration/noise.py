"""The world that the referee draws from: hosts, boots and runs with every kind of noise, on arrays.

All values are logarithms of a metric for which higher is worse. Shapes are [reps, hosts, boots, runs]. A run's value is
host level + the kernel's effect + the host's own effect of that kernel + drift + boot + run; each part has its own
spread, so that the truth is known exactly.
"""

import enum
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RUNS = 4  # measured runs per boot, the fewest that make a block


class Family(enum.StrEnum):
    """How runs scatter within a boot; every family has a standard deviation of `run_sd` but for the contaminated."""

    NORMAL = "normal"
    T3 = "t3"  # heavy tails: Student's t with three degrees of freedom
    CONTAMINATED = "5 % of runs +50 %"
    SKEWED = "skewed"  # exponential
    AR1 = "AR(1) φ=.7"  # runs of one boot follow each other


class Design(enum.StrEnum):
    """The three admissible designs."""

    TWO_ARMS = "two arms"
    PAIRS = "matched pairs"
    ABBA = "ABBA"


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """The spreads of one world, as standard deviations of the logarithm."""

    family: Family = Family.NORMAL
    run_sd: float = 0.03
    boot_sd: float = 0.01
    # A host's own reaction to the new kernel, around the fleet's.
    host_kernel_sd: float = 0.0
    # Between hosts; any honest design removes it.
    host_sd: float = 0.05

    @property
    def name(self) -> str:
        """What tells this noise from the others in a table."""
        parts = [str(self.family)]
        if self.boot_sd > 0.01:
            parts.append(f"boot sd {100 * self.boot_sd:.0f} %")
        if self.host_kernel_sd:
            parts.append(f"host×kernel {100 * self.host_kernel_sd:.0f} %")
        return ", ".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What is true beside the noise."""

    theta: float = 0.0  # the kernel's effect
    drift: float = 0.0  # added between first and second; in an ABBA cycle it grows evenly over the four boots
    # Added to the level of treated and of control hosts: Simpson's trap for whoever compares arms.
    treated_level: float = 0.0
    control_level: float = 0.0
    # Added to one treated host's runs on the new kernel.
    sick: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Draws:
    """Runs of one stratum: treated [reps, blocks, boots, runs], and controls of the same rank (None in ABBA).

    Boots are first, second for two arms and pairs, and old, new, new, old for ABBA. NaN is a run that is missing.
    """

    treated: Floats
    control: Floats | None
    # Which treated block is sick, by repetition; None when none is.
    sick: NDArray[np.int64] | None = None
    # Which runs of treated blocks had to be ended; None when none had.
    timed_out: NDArray[np.bool_] | None = None


# What the new kernel of a treated block runs on, by boot.
NEW_BOOTS = {Design.TWO_ARMS: (0, 1), Design.PAIRS: (0, 1), Design.ABBA: (0, 1, 1, 0)}


def draw(rng: Generator, design: Design, noise: Noise, world: World, *, size: tuple[int, int, int]) -> Draws:
    """Draw one stratum; `size` is repetitions, treated blocks, control hosts (ignored by pairs and ABBA)."""
    reps, blocks, controls = size
    new = np.array(NEW_BOOTS[design], float)
    treated = _hosts(rng, noise, (reps, blocks, len(new)), world.treated_level)
    kernel = world.theta + noise.host_kernel_sd * rng.standard_normal((reps, blocks))
    treated += (kernel[:, :, None] * new)[..., None]
    treated += (world.drift * np.linspace(0, 1, len(new)))[:, None]
    sick = None
    if world.sick:
        # Early in the rollout, but not always the first.
        sick = rng.integers(0, max(1, blocks // 4), reps)
        treated[np.arange(reps), sick] += world.sick * new[:, None]
    if design is Design.ABBA:
        return Draws(treated=treated, control=None, sick=sick)
    hosts = blocks if design is Design.PAIRS else controls
    control = _hosts(rng, noise, (reps, hosts, len(new)), world.control_level)
    control += (world.drift * np.linspace(0, 1, len(new)))[:, None]
    return Draws(treated=treated, control=control, sick=sick)


def _hosts(rng: Generator, noise: Noise, shape: tuple[int, int, int], level: float) -> Floats:
    """Draw host levels, boots and runs, on the old kernel."""
    values = _runs(rng, noise, (*shape, RUNS))
    values += noise.boot_sd * rng.standard_normal(shape)[..., None]
    values += level + noise.host_sd * rng.standard_normal(shape[:2])[..., None, None]
    return values


def _runs(rng: Generator, noise: Noise, shape: tuple[int, ...]) -> Floats:
    match noise.family:
        case Family.NORMAL:
            return noise.run_sd * rng.standard_normal(shape)
        case Family.T3:
            return noise.run_sd / np.sqrt(3) * rng.standard_t(3, shape)
        case Family.CONTAMINATED:
            outliers = np.where(rng.random(shape) < 0.05, np.log(1.5), 0.0)
            return noise.run_sd * rng.standard_normal(shape) + outliers
        case Family.SKEWED:
            return noise.run_sd * (rng.standard_exponential(shape) - 1)
        case Family.AR1:
            phi = 0.7
            values = rng.standard_normal(shape)
            for run in range(1, shape[-1]):
                values[..., run] = phi * values[..., run - 1] + np.sqrt(1 - phi * phi) * values[..., run]
            return noise.run_sd * values


FAMILIES: tuple[Noise, ...] = (
    Noise(),
    Noise(family=Family.T3),
    Noise(family=Family.CONTAMINATED),
    Noise(family=Family.SKEWED),
    Noise(family=Family.AR1),
    Noise(boot_sd=0.03),
    Noise(host_kernel_sd=0.02),
)
