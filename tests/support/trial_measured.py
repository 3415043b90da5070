"""Simulated measurements of a trial, and shorthands for asking what was decided on them."""

import dataclasses
import math
import random

from controller.gate.evidence.seen import Outcome
from controller.gate.statistics.cells import Design
from controller.gate.trial.model import Arm, Measurement, TrialDecision, TrialMetric, TrialPlan
from controller.gate.verdict import Cell, MetricRole

BUILD = TrialMetric(name="build", unit="s", role=MetricRole.CRITICAL, margin=0.03)
POSITIONS = {Design.ABBA: (1, 2, 3, 4)}
NEW = {Design.ABBA: (2, 3)}
HOSTS = 14


def plan(design: Design = Design.TWO_ARMS, *metrics: TrialMetric, **changes: object) -> TrialPlan:
    """Return a plan with one critical metric, unless told otherwise."""
    made = TrialPlan(design=design, metrics=metrics or (BUILD,))
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]  # any field


def measured(
    design: Design,
    effect: float,
    *,
    hosts: int = HOSTS,
    drift: float = 0.02,
    noise: float = 0.01,
    stratum: str = "x86_64/vm",
    metric: str = "build",
    seed: int = 1,
) -> list[Measurement]:
    """Simulate hosts whose second half of the walk drifts, and whose new kernel changes the metric by `effect`."""
    rng = random.Random(f"{seed} {metric} {stratum}")
    arms = (Arm.TREATED, Arm.CONTROL) if design in (Design.TWO_ARMS, Design.PAIRS) else (Arm.TREATED,)
    made = []
    for index in range(hosts):
        for arm in arms:
            speed = rng.gauss(4, 0.1)
            for position in POSITIONS.get(design, (1, 2)):
                new = arm is Arm.TREATED and position in NEW.get(design, (2,))
                # Linear in time, so that old–new–new–old cancels it.
                shift = drift * (position - 1) + (math.log1p(effect) if new else 0.0)
                for run in range(4):
                    made.append(
                        Measurement(
                            host=f"{arm.value}-{index:02}",
                            stratum=stratum,
                            arm=arm,
                            position=position,
                            cycle=1,
                            pair=f"{index:02}" if design is Design.PAIRS else "",
                            boot=str(position),
                            run=str(run),
                            metric=metric,
                            value=math.exp(speed + shift + rng.gauss(0, noise)),
                            outcome=Outcome.OK,
                            warmup=False,
                            time=None,
                        )
                    )
    return made


def cell(decision: TrialDecision, metric: str = "build") -> Cell:
    """Return the first cell of a metric."""
    return next(one for one in decision.cells if one.metric == metric)


def with_outcome(one: Measurement, outcome: Outcome) -> Measurement:
    """Return the run with another end, and so without a value."""
    return dataclasses.replace(one, outcome=outcome, value=None)


def shuffled(runs: list[Measurement], seed: int) -> list[Measurement]:
    """Return the runs in another order."""
    return random.Random(seed).sample(runs, len(runs))
