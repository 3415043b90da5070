"""How a rollout compares its kernels: the design, whom it takes, and what it needs of the other fields."""

from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from controller.domain.spec.fields import Model
from controller.domain.spec.margins import workload_metrics
from controller.domain.spec.workloads import Workloads
from controller.gate.trial.model import FEWEST_RUNS

# As many as the margins take, by what is known of the noise when the rollout is planned.
POWER: Final = "power"
_MOST: Final = 100_000

Design = Literal["before_after", "two_arms", "matched_pairs", "abba"]
Place = tuple[str | int, ...]


def _wanted(value: Any) -> Any:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if value != POWER and not (whole and 1 <= value <= _MOST):
        raise ValueError(f"must be a whole number from 1 to {_MOST}, or power: as many as the margins take")
    return value


Wanted = Annotated[
    int | Literal["power"],
    BeforeValidator(_wanted),
    WithJsonSchema({"oneOf": [{"type": "integer", "minimum": 1, "maximum": _MOST}, {"const": POWER}]}),
]


class Controls(Model):
    """Two arms: hosts that reboot beside the ones they are compared with and stay on their kernel."""

    per_stratum: Wanted = POWER


class Pairs(Model):
    """Matched pairs: hosts that are alike, of which one changes kernel and the other reboots beside it."""

    per_stratum: Wanted = POWER


class Abba(Model):
    """Hosts that are compared with themselves: old, new, new, old, and this again every cycle."""

    per_stratum: Wanted = POWER
    cycles: Annotated[int, Field(ge=1, le=20)] = 4


# Design -> the field that says whom it takes.
_FIELD_OF: Final[dict[str, str]] = {"two_arms": "controls", "matched_pairs": "pairs", "abba": "abba"}


class Designed(Model):
    """The fields of `spec` that say how performance metrics are decided."""

    # before_after decides nothing about performance: the kernel is confounded with time.
    design: Design = "before_after"
    controls: Controls = Controls()
    pairs: Pairs = Pairs()
    abba: Abba = Abba()
    # The wave, from 1, after which performance must have passed; earlier ones may end undecided and let the next one
    # collect more. None: the last wave with hosts that are compared.
    verdict_by_wave: Annotated[int, Field(ge=1, le=100)] | None = None


def design_problems(
    chosen: Designed, *, waves: int, workloads: Workloads, max_in_flight: int | None
) -> Iterator[tuple[Place, str]]:
    """Yield what a design lacks, or what is there without its design: where, below `spec`, and a sentence."""
    for design, field in _FIELD_OF.items():
        if field in chosen.model_fields_set and chosen.design != design:
            yield (field,), f"goes with design: {design} (the design is {chosen.design})"
    if chosen.verdict_by_wave is not None and chosen.verdict_by_wave > waves:
        yield ("verdict_by_wave",), f"must be one of the {waves} waves (got {chosen.verdict_by_wave})"
    if chosen.design == "before_after":
        if chosen.verdict_by_wave is not None:
            yield ("verdict_by_wave",), "needs a design that decides: two_arms, matched_pairs or abba"
        return
    metrics = workload_metrics(workloads)
    if not metrics:
        yield (
            ("design",),
            "compares performance, and no workload here has a metric for it; add one, for example kernel_build",
        )
    # Two boots of one kernel share the runs.
    each = FEWEST_RUNS // 2 if chosen.design == "abba" else FEWEST_RUNS
    for name in sorted({metric.workload for metric in metrics}):
        repetitions = workloads.given[name].repetitions
        if repetitions < each:
            yield (
                ("workloads", name, "repetitions"),
                f"must be at least {each} with design: {chosen.design}, which needs {FEWEST_RUNS} runs a kernel "
                f"(got {repetitions})",
            )
    if chosen.design != "abba" and max_in_flight is not None and max_in_flight < 2:
        yield (
            ("limits", "max_in_flight"),
            f"must be at least 2 with design: {chosen.design}: a control host reboots beside the host it is compared "
            f"with (got {max_in_flight})",
        )
