"""The two files of `kernroll gate judge` as models: the plan, and one line of samples.

The descriptions go to the JSON Schemas.
"""

import math
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from controller.domain.printable import is_plain
from controller.domain.spec.fields import MAX_KNOWN_LINES, KnownLineEntry, Text
from controller.domain.spec.units import Percent, percent_share
from controller.gate.kernel_log import journal_line

MAX_METRICS: Final = 500
MAX_NAME: Final = 253
# The sigma of a metric whose spread nobody knows beforehand.
LEARN: Final = 0.0


def _printable(value: str) -> str:
    if not is_plain(value):
        raise ValueError("must hold printable characters only")
    return value


def _sigma(value: Any) -> float:
    return LEARN if value == "learn" else percent_share(value)


def _position(value: Any) -> Any:
    number = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 4
    if number or value in ("first", "second", "old", "new"):
        return value
    raise ValueError("must be first or second, old or new, or for abba 1 to 4")


def _identity(value: Any) -> Any:
    """Accept whole numbers as names of boots and runs."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _moment(value: Any) -> float | None:
    """Return RFC 3339 text or seconds since the Unix epoch as seconds."""
    if value is None:
        return None
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            moment = None
        if moment is not None and moment.tzinfo is not None:
            return moment.timestamp()
    elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    raise ValueError('must be a time such as "2026-03-01T12:00:00Z", or seconds since 1970')


def _log_line(value: Any) -> Any:
    """Accept entries of a journal and their messages, which are null or a list of bytes where they are no text."""
    return journal_line(value) if value is None or isinstance(value, dict | list) else value


LogLine = Annotated[
    str,
    Field(max_length=4096),
    BeforeValidator(_log_line, json_schema_input_type=str | dict[str, Any] | list[int] | None),
]
Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME), AfterValidator(_printable)]
Label = Annotated[str, Field(max_length=MAX_NAME), AfterValidator(_printable), BeforeValidator(_identity)]
Sigma = Annotated[float, BeforeValidator(_sigma, json_schema_input_type=str | float)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ClaimModel(_Model):
    """A saving that the metric must show, in its unit."""

    saves_at_least: Annotated[float, Field(allow_inf_nan=False, description="The claimed saving, in the unit.")]
    confidence: Annotated[float, Field(ge=0.5, lt=1, description="Two-sided confidence of the interval.")] = 0.99
    sigma_run: Annotated[
        Positive, Field(description="Standard deviation of one run, declared beforehand, in the unit.")
    ]
    sigma_host: Annotated[
        float, Field(ge=0, allow_inf_nan=False, description="Standard deviation of one host's own saving, in the unit.")
    ] = 0.0


class MetricModel(_Model):
    """One metric of the plan: a margin or a claim, and what it may do to the decision."""

    unit: Annotated[Name, Field(description="Every sample must carry this unit.")]
    better: Annotated[
        Literal["low", "high"] | None,
        Field(description="Which direction is better; only negative controls and explaining metrics may leave it out."),
    ] = None
    role: Annotated[
        Literal["critical", "guard", "negative_control", "explain"],
        Field(
            description="critical must pass; a failing guard holds; a negative control must not move; explain tells."
        ),
    ] = "critical"
    margin: Annotated[
        Percent | None, Field(description='Tolerable change for the worse: "3 %", or the ratio 1.03.')
    ] = None
    sigma: Annotated[
        Sigma | None,
        Field(description='Standard deviation of one contrast: "2 %", or "learn" for one look on the ranks alone.'),
    ] = None
    claim: Annotated[ClaimModel | None, Field(description="Instead of a margin: a saving to confirm or refute.")] = None

    @model_validator(mode="after")
    def _complete(self) -> "MetricModel":
        if self.claim is not None and self.margin is not None:
            raise ValueError("has a margin and a claim; write one of them, and a second metric for the other")
        if self.claim is not None and self.role not in ("critical", "guard"):
            raise ValueError(f"has a claim, so its role must be critical or guard, not {self.role}")
        if self.claim is None and self.margin is None and self.role != "explain":
            raise ValueError('needs a margin such as "3 %" or a claim')
        if self.better is None and self.role in ("critical", "guard"):
            raise ValueError("needs better: low or high")
        return self


class AlphaModel(_Model):
    """How often the gate may err, over the whole plan and all looks."""

    revert: Annotated[
        float, Field(gt=0, le=0.1, description="Chance of a false FAIL, all critical cells together.")
    ] = 0.01
    promote: Annotated[float, Field(gt=0, le=0.2, description="Chance of a false PASS, per cell.")] = 0.05


class BudgetModel(_Model):
    """What the measurement may cost."""

    blocks: Annotated[int, Field(ge=1, le=100_000, description="Most blocks (hosts, pairs, cycles) per stratum.")]


class PlanModel(_Model):
    """What is fixed before the first look."""

    design: Annotated[
        Literal["two_arms", "matched_pairs", "abba", "before_after"],
        Field(
            description="How the runs were made; before_after is never decided, for time is confounded with the kernel."
        ),
    ]
    metrics: Annotated[dict[Name, MetricModel], Field(min_length=1, max_length=MAX_METRICS)]
    strata: Annotated[
        tuple[Name, ...],
        Field(description="Strata that must have runs; empty takes those of the samples."),
    ] = ()
    alpha: AlphaModel = AlphaModel()
    sigma: Annotated[Sigma, Field(description="For metrics that do not say their own.")] = LEARN
    looks: Annotated[
        tuple[Annotated[int, Field(ge=1, le=100_000)], ...],
        Field(max_length=20, description="Blocks per stratum at each look; empty plans them from sigma, or one look."),
    ] = ()
    budget: BudgetModel | None = None
    runs: Annotated[int, Field(ge=1, le=10_000, description="Measured runs a host needs on each kernel.")] = 4
    quarantined: Annotated[tuple[Name, ...], Field(description="Hosts that are left out, and told.")] = ()
    final: Annotated[
        bool | None,
        Field(description="Whether no more data will come; by default only when no looks are planned."),
    ] = None
    known_lines: Annotated[
        tuple[KnownLineEntry, ...],
        Field(max_length=MAX_KNOWN_LINES, description="Lines of kernel logs that count nowhere, each with its reason."),
    ] = ()
    accept_missing_logs: Annotated[
        Text | None,
        Field(description="Why kernel logs that cannot be read do not stand in the way of a PASS; without it they do."),
    ] = None

    @model_validator(mode="after")
    def _sensible(self) -> "PlanModel":
        if list(self.looks) != sorted(set(self.looks)):
            raise ValueError("looks must ascend, for example [8, 12, 16]")
        if self.looks and self.budget is not None and self.looks[-1] > self.budget.blocks:
            raise ValueError(f"looks end at {self.looks[-1]} blocks, more than the budget of {self.budget.blocks}")
        if all(metric.role != "critical" for metric in self.metrics.values()):
            raise ValueError("needs at least one metric whose role is critical")
        return self


Position = Annotated[
    Literal["first", "second", "old", "new", 1, 2, 3, 4],
    BeforeValidator(_position),
]
Status = Literal["ok", "failed", "died", "timed_out", "lost", "cancelled", "infrastructure"]
# Lines of one kernel log: the ring buffer of a busy boot.
MAX_LOG_LINES: Final = 20_000


class SampleLine(_Model):
    """One metric of one run: one JSON object on one line."""

    host: Annotated[Name, Field(description="The unit of evidence.")]
    stratum: Annotated[Name, Field(description="Hosts that may be compared, for example arm64/vm; never pooled.")]
    arm: Annotated[
        Literal["treated", "control"], Field(description="A treated host changes kernel, a control host only reboots.")
    ] = "treated"
    position: Annotated[
        Position,
        Field(description="first or second, old or new; for abba 1 to 4, that is old, new, new, old."),
    ]
    cycle: Annotated[int, Field(ge=1, le=10_000, description="Which repetition of the walk on this host.")] = 1
    pair: Annotated[Label, Field(description="For matched pairs: joins one treated and one control host.")] = ""
    boot: Annotated[Label, Field(description="The boot of the run; runs of one boot count as one observation.")] = ""
    run: Annotated[Label, Field(min_length=1, description="Unique within the boot.")]
    metric: Name
    value: Annotated[float | None, Field(allow_inf_nan=False, description="Only runs that ended well have one.")] = None
    unit: Name
    status: Annotated[Status, Field(description="How the run ended.")] = "ok"
    warmup: Annotated[bool, Field(description="Discarded.")] = False
    time: Annotated[
        float | None,
        BeforeValidator(_moment, json_schema_input_type=str | float | None),
        Field(description="RFC 3339, or seconds since 1970; orders the hosts' enrolment."),
    ] = None

    kernel_log: Annotated[
        tuple[LogLine, ...],
        Field(
            max_length=MAX_LOG_LINES,
            description=(
                "Lines of the boot's kernel log, or entries of its journal; a fatal one on the new kernel is FATAL."
            ),
        ),
    ] = ()

    @model_validator(mode="after")
    def _valued(self) -> "SampleLine":
        if self.status == "ok" and self.value is None:
            raise ValueError("ended ok and needs a value")
        return self
