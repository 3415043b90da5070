"""The referee's rows as a table: what is drawn, what is true, and what the gate must achieve there.

Effects are written in margins. The bars are those of the design and are never loosened; a row that is missed is shown.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from noise import FAMILIES, Design, Family, Noise

# The margin of each design in log units. An ABBA cycle has a quarter of the variance, so it serves a finer margin;
# with 3 % it would plan fewer cycles than a rank test needs to say anything (shown as a scenario of its own).
MARGINS = {Design.TWO_ARMS: 0.03, Design.PAIRS: 0.03, Design.ABBA: 0.02}


class Quantity(StrEnum):
    """What is measured over the repetitions of a scenario."""

    FAIL = "FAIL"  # share of cells
    PASS = "PASS"  # share of cells; MARGINAL promotes too, and is counted here where promoting is the error
    PROMOTE = "PASS or MARGINAL"
    ANY_FAIL = "FAIL in any cell"  # share of repetitions
    NAMED = "sick host named"
    ASN = "n ÷ t-test"  # average number of blocks used, over the smallest fixed t-test with the same errors
    MAX_N = "max n ÷ t-test"


class Looks(StrEnum):
    """When the data are looked at."""

    PLANNED = "planned"
    UNPLANNED = "unplanned"  # at random moments, more of them than planned
    EVERY = "every block"


class Missing(StrEnum):
    """What of the data does not arrive."""

    NOTHING = "nothing"
    BLOCKS = "30 % of blocks at random"
    RUNS = "30 % of runs at random"
    # Of the runs on the new kernel; those that end look like the old kernel's.
    SLOW_TENTH = "the slowest 10 % time out"
    SLOW_QUARTER = "the slowest 25 % time out"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """What a quantity must reach: at most the limit, or at least."""

    quantity: Quantity
    limit: float
    at_least: bool = False

    @property
    def text(self) -> str:
        sign = "≥" if self.at_least else "≤"
        if self.quantity in (Quantity.ASN, Quantity.MAX_N):
            return f"{self.quantity} {sign} {self.limit:g}"
        return f"{self.quantity} {sign} {100 * self.limit:g} %"


PLAIN = FAMILIES[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One line of the table."""

    row: int
    design: Design
    title: str
    noise: Noise = PLAIN
    theta: float = 0.0  # in margins
    drift: float = 0.0  # in log units
    treated_level: float = 0.0
    sick: float = 0.0
    cells: int = 1
    # Control hosts per treated host, for two arms.
    ratio: float = 1.0
    looks: Looks = Looks.PLANNED
    missing: Missing = Missing.NOTHING
    margin: float | None = None  # None takes the design's
    # False where the effect that the runs show is not the whole truth.
    promotable: bool = True
    bars: tuple[Bar, ...] = ()

    @property
    def key(self) -> str:
        """A name that does not change when scenarios are added."""
        return f"{self.row}|{self.design}|{self.noise.name}|{self.title}"

    @property
    def delta(self) -> float:
        return MARGINS[self.design] if self.margin is None else self.margin

    @property
    def compared(self) -> bool:
        """Whether the other judges are run too: where all data arrive and are looked at as planned, once each."""
        plain = self.looks is Looks.PLANNED and self.missing is Missing.NOTHING
        asked = self.theta != 0.25  # a check of our own, not of the list that judges are compared on
        return plain and asked and self.row != 3 and (self.cells == 1 or self.row == 8)

    @property
    def should_promote(self) -> bool | None:
        """Whether promoting is right; None between, where neither is wrong."""
        if self.theta >= 1 or not self.promotable:
            return False
        return True if self.theta <= 0.5 else None


FALSE_FAIL = Bar(quantity=Quantity.FAIL, limit=0.01)
FAMILY_WISE = Bar(quantity=Quantity.ANY_FAIL, limit=0.01)
PASSES = Bar(quantity=Quantity.PASS, limit=0.95, at_least=True)
FALSE_PROMOTE = Bar(quantity=Quantity.PROMOTE, limit=0.05)
CATCHES = Bar(quantity=Quantity.FAIL, limit=0.99, at_least=True)
TOLERATES = Bar(quantity=Quantity.FAIL, limit=0.10)
LOG_SICK = 0.2624  # ln 1.30


def _errors(base: Scenario, looks: str = "") -> Iterator[Scenario]:
    """Yield old against old, the margin itself, twice and half of it."""
    yield replace(base, title=f"θ = 0{looks}", bars=(FALSE_FAIL, PASSES))
    yield replace(base, row=base.row if looks else 2, title=f"θ = Δ{looks}", theta=1.0, bars=(FALSE_PROMOTE,))
    yield replace(base, row=base.row if looks else 2, title=f"θ = 2Δ{looks}", theta=2.0, bars=(CATCHES,))
    yield replace(base, row=base.row if looks else 2, title=f"θ = Δ/2{looks}", theta=0.5, bars=(TOLERATES,))


def _of_design(design: Design) -> Iterator[Scenario]:
    base = Scenario(row=1, design=design, title="")
    for noise in FAMILIES:
        yield from _errors(replace(base, noise=noise))
        # The revert test's own error: reverting is false up to κΔ, and κ is a quarter.
        yield replace(base, row=2, noise=noise, title="θ = κΔ", theta=0.25, bars=(FALSE_FAIL,))
        yield replace(base, noise=noise, title="20 cells, θ = 0", cells=20, bars=(FAMILY_WISE, PASSES))
    for theta, limit in ((0.0, 0.65), (1.0, 0.95), (2.0, 0.60)):
        bars = (Bar(quantity=Quantity.ASN, limit=limit), Bar(quantity=Quantity.MAX_N, limit=1.25))
        yield replace(base, row=3, title=f"sample number, θ = {theta:g}Δ", theta=theta, bars=bars)
    for noise in (PLAIN, Noise(family=Family.T3), Noise(boot_sd=0.03)):
        yield replace(base, row=4, noise=noise, title="drift 3 %, θ = 0", drift=0.03, bars=(FALSE_FAIL, PASSES))
    # Fast hosts hide a regression, slow ones feign one; twice as many treated hosts as controls where arms differ.
    simpson = replace(base, row=5, ratio=0.5)
    hidden = Bar(quantity=Quantity.FAIL, limit=0.85, at_least=True)
    yield replace(simpson, title="new on fast hosts, θ = 5Δ/3", treated_level=-0.1, theta=5 / 3, bars=(hidden,))
    yield replace(simpson, title="new on slow hosts, θ = 0", treated_level=0.1, bars=(FALSE_FAIL, PASSES))
    named = Bar(quantity=Quantity.NAMED, limit=0.95, at_least=True)
    yield replace(base, row=6, title="one host +30 %, θ = 0", sick=LOG_SICK, bars=(FALSE_FAIL, named))
    for missing in (Missing.BLOCKS, Missing.RUNS):
        lost = replace(base, row=7, missing=missing)
        yield replace(lost, title=f"{missing} missing, θ = 0", bars=(FALSE_FAIL,))
        yield replace(lost, title=f"{missing} missing, θ = Δ", theta=1.0, bars=(FALSE_PROMOTE,))
    never = Bar(quantity=Quantity.PROMOTE, limit=0.0)
    for missing in (Missing.SLOW_TENTH, Missing.SLOW_QUARTER):
        yield replace(base, row=7, missing=missing, title=f"{missing}", promotable=False, bars=(never,))
    strata = replace(base, row=8, cells=4)
    caught = Bar(quantity=Quantity.FAIL, limit=0.95, at_least=True)
    yield replace(strata, title="the stratum with 2Δ, of 4", theta=2.0, bars=(caught,))
    yield replace(strata, title="a stratum with 0, of 4", bars=(PASSES,))
    for looks in (Looks.UNPLANNED, Looks.EVERY):
        yield from _errors(replace(base, row=9, looks=looks), f", looks {looks}")
    if design is Design.ABBA:
        small = replace(base, row=1, margin=0.03)
        yield from (replace(s, title=f"{s.title}, Δ = 3 %") for s in _errors(small))


SCENARIOS: tuple[Scenario, ...] = tuple(scenario for design in Design for scenario in _of_design(design))
