"""Drawn runs as a trial of single measurements, and all the ways in which such data can be bad."""

import json
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from noise import Design, Draws
from numpy.random import Generator

from controller.gate.evidence.seen import Outcome
from controller.gate.statistics.cells import Design as GateDesign
from controller.gate.trial.model import Arm, Measurement, TrialMetric, TrialPlan
from controller.gate.verdict import MetricRole

METRIC = "system time"
STRATUM = "x86_64/vm"
Trial = list[Measurement]


def trial_plan(design: GateDesign, *, sigma: float | None = 0.04, strata: tuple[str, ...] = ()) -> TrialPlan:
    """Return a plan with one critical metric and a margin of 3 %."""
    metric = TrialMetric(name=METRIC, unit="s", role=MetricRole.CRITICAL, margin=0.03, sigma=sigma)
    return TrialPlan(design=design, metrics=(metric,), strata=strata)


def measurements(design: Design, draws: Draws, *, stratum: str = STRATUM) -> Trial:
    """Return the first repetition of the draws, run by run."""
    runs = _arm(draws.treated[0], Arm.TREATED, "pair" if design is Design.PAIRS else "", stratum)
    if draws.control is not None:
        runs += _arm(draws.control[0], Arm.CONTROL, "pair" if design is Design.PAIRS else "", stratum)
    return runs


def _arm(values: np.ndarray, arm: Arm, pair: str, stratum: str) -> Trial:
    return [
        Measurement(
            host=f"{arm}-{block:03d}",
            stratum=stratum,
            arm=arm,
            position=position + 1,
            cycle=1,
            pair=f"{pair}{block}" if pair else "",
            boot=f"boot{position}",
            run=f"run{run}",
            metric=METRIC,
            value=100 * math.exp(float(values[block, position, run])),
            outcome=Outcome.OK,
            warmup=False,
            time=float(1000 * block + 10 * position + run),
        )
        for block, position, run in np.ndindex(values.shape)
    ]


def _valued(change: Callable[[float], float]) -> Callable[[Trial, Generator], Trial]:
    return lambda runs, _: [replace(one, value=change(one.value or 0.0)) for one in runs]


def _few(runs: Trial, _: Generator) -> Trial:
    return [one for one in runs if one.host.endswith(("000", "001", "002"))]


def _sprinkled(value: float) -> Callable[[Trial, Generator], Trial]:
    def spoil(runs: Trial, rng: Generator) -> Trial:
        hit = rng.random(len(runs)) < 0.75
        return [replace(one, value=value) if bad else one for one, bad in zip(runs, hit, strict=True)]

    return spoil


def _without(outcome: Outcome) -> Callable[[Trial, Generator], Trial]:
    return lambda runs, _: [replace(one, value=None, outcome=outcome) for one in runs]


# Values that are no measurements: the reader of a trial refuses them by line, and nothing may pass on them either.
NO_MEASUREMENTS: dict[str, Callable[[Trial, Generator], Trial]] = {
    "most of them NaN": _sprinkled(math.nan),
    "most of them negative": _sprinkled(-5.0),
    "most of them zero": _sprinkled(0.0),
    "most of them infinite": _sprinkled(math.inf),
}
# What no performance cell may pass on; each takes good data of an unchanged kernel and spoils them.
SPOILED: dict[str, Callable[[Trial, Generator], Trial]] = {
    "three hosts": _few,
    "nothing": lambda runs, _: [],
    "zero variance": _valued(lambda _: 100.0),
    "zero": _valued(lambda _: 0.0),
    "negative": _valued(lambda value: -value),
    "NaN": _valued(lambda _: math.nan),
    "infinite": _valued(lambda _: math.inf),
    "only treated hosts' first boots": lambda runs, _: [one for one in runs if one.position == 1],
    "one run a boot": lambda runs, _: [one for one in runs if one.run == "run0"],
    "all runs timed out": _without(Outcome.TIMED_OUT),
    "all runs broken by the rig": _without(Outcome.INFRASTRUCTURE),
    "all runs warm-ups": lambda runs, _: [replace(one, warmup=True) for one in runs],
    "another metric": lambda runs, _: [replace(one, metric="elapsed") for one in runs],
    **NO_MEASUREMENTS,
    "another stratum": lambda runs, _: [replace(one, stratum="arm64/vm") for one in runs],
}


def lines(runs: Trial) -> list[str]:
    """Return the trial as lines of a samples file; NaN and infinities as JSON readers commonly write them."""
    told = ("host", "stratum", "arm", "position", "pair", "boot", "run", "metric", "value", "time")
    return [json.dumps({**{name: getattr(one, name) for name in told}, "unit": "s"}) for one in runs]


# What is absurd but measured: any verdict, but one verdict.
ABSURD: dict[str, Callable[[Trial, Generator], Trial]] = {
    "most of them 1e300": _sprinkled(1e300),
    "most of them 1e-300": _sprinkled(1e-300),
    "all of them 1e300 times as large": _valued(lambda value: value * 1e300),
    "seconds on the old kernel, milliseconds on the new": lambda runs, _: [
        replace(one, value=1000 * (one.value or 0.0)) if one.position == 2 else one for one in runs
    ],
}
