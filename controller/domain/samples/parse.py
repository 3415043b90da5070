"""A trial read from its two files: the plan (JSON or YAML) and the samples (one JSON object a line).

Every refusal names file, line and field. The order of the lines changes nothing that follows.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel, TypeAdapter, ValidationError

from controller.domain.samples.checks import Placed, contradictions, measurement_of, merged
from controller.domain.samples.document import LEARN, MetricModel, PlanModel, SampleLine
from controller.domain.spec.errors import problems_of
from controller.domain.spec.yaml import Document, Problem, field_name, read_document, refuse
from controller.gate.statistics.cells import Design
from controller.gate.trial.model import Measurement, TrialClaim, TrialMetric, TrialPlan
from controller.gate.verdict import MetricRole

MAX_LINES: Final = 2_000_000
MAX_LINE_CHARACTERS: Final = 524_288
# So many problems are told; more help nobody.
MAX_PROBLEMS: Final = 50

_DESIGNS: Final[Mapping[str, Design]] = {
    "two_arms": Design.TWO_ARMS,
    "matched_pairs": Design.PAIRS,
    "abba": Design.ABBA,
    "before_after": Design.BEFORE_AFTER,
}
_LINE: Final = TypeAdapter(SampleLine)


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """The measurements of a file, and what was remarkable about it."""

    measurements: tuple[Measurement, ...]
    remarks: tuple[str, ...]


def parse_plan(text: str, file_name: str) -> TrialPlan:
    """Return the plan written in `text`. Raises InvalidInput with one line per problem."""
    # JSON may be indented by tabs, which YAML, that JSON is read as, does not allow.
    document = read_document(text.replace("\t", " ") if text.lstrip().startswith("{") else text, file_name)
    if not isinstance(document.data, dict):
        raise refuse(file_name, [Problem(line=1, field="", text="is not a plan: it must be an object with a design")])
    try:
        model = PlanModel.model_validate(document.data)
    except ValidationError as error:
        raise refuse(file_name, [*document.problems, *problems_of(error, document, PlanModel)]) from error
    if document.problems:
        raise refuse(file_name, list(document.problems))
    planned = bool(model.looks) or any(_sigma(model, metric) is not None for metric in model.metrics.values())
    return TrialPlan(
        design=_DESIGNS[model.design],
        metrics=tuple(_metric(model, name, metric) for name, metric in sorted(model.metrics.items())),
        strata=tuple(sorted(set(model.strata))),
        alpha_revert=model.alpha.revert,
        alpha_promote=model.alpha.promote,
        looks=model.looks,
        budget_blocks=model.budget.blocks if model.budget else None,
        runs=model.runs,
        quarantined=tuple(sorted(set(model.quarantined))),
        final=not planned if model.final is None else model.final,
        known_lines=tuple(one.known_line for one in model.known_lines),
        accept_missing_logs=model.accept_missing_logs or "",
    )


def parse_samples(lines: Iterable[str], file_name: str, plan: TrialPlan) -> Samples:
    """Return the measurements written in `lines`, checked against the plan.

    Raises InvalidInput with one line per problem: what is no JSON object, unknown or missing fields, numbers that are
    not finite or cannot be measurements, other units than the plan's, contradicting duplicates, and hosts whose runs
    do not fit the design.
    """
    placed: list[Placed] = []
    problems: list[Problem] = []
    for number, line in enumerate(lines, start=1):
        if number > MAX_LINES:
            problems.append(Problem(line=number, field="", text=f"too many lines, at most {MAX_LINES} are read"))
            break
        if not line.strip():
            continue
        found, wrong = _read_line(line, number)
        problems += wrong
        if found is not None:
            placed.append(Placed(line=number, sample=found))
        if len(problems) >= MAX_PROBLEMS:
            break
    if not problems:
        problems += contradictions(plan, placed)[:MAX_PROBLEMS]
    if not placed and not problems:
        problems.append(Problem(line=1, field="", text="holds no sample"))
    if problems:
        raise refuse(file_name, problems)
    kept, repeated = merged(placed)
    known = {metric.name for metric in plan.metrics}
    return Samples(
        # What a host or a kernel log shows counts whatever was measured beside it.
        measurements=tuple(
            measurement_of(one) for one in kept if one.metric in known or one.kernel_log or one.status == "lost"
        ),
        remarks=tuple(_remarks(kept, known, repeated)),
    )


def plan_json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a plan file."""
    return _schema(PlanModel, "kernroll gate plan")


def samples_json_schema() -> dict[str, Any]:
    """Return the JSON Schema of one line of a samples file."""
    return _schema(SampleLine, "kernroll gate sample, one object a line")


def sample_line(sample: Mapping[str, Any]) -> str:
    """Return one sample as a line of a samples file, without its newline."""
    return json.dumps(sample, allow_nan=False)


def _schema(model: type[BaseModel], title: str) -> dict[str, Any]:
    schema = model.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": title}


def _metric(plan: PlanModel, name: str, metric: MetricModel) -> TrialMetric:
    claim = metric.claim
    return TrialMetric(
        name=name,
        unit=metric.unit,
        role=MetricRole(metric.role),
        # What has no better direction is told as higher or lower.
        higher_is_better=metric.better == "high" and metric.role in ("critical", "guard"),
        margin=metric.margin,
        sigma=_sigma(plan, metric),
        claim=None
        if claim is None
        else TrialClaim(
            at_least=claim.saves_at_least,
            confidence=claim.confidence,
            sigma_run=claim.sigma_run,
            sigma_host=claim.sigma_host,
        ),
    )


def _sigma(plan: PlanModel, metric: MetricModel) -> float | None:
    sigma = plan.sigma if metric.sigma is None else metric.sigma
    return None if sigma == LEARN or metric.margin is None else sigma


def _read_line(line: str, number: int) -> tuple[SampleLine | None, list[Problem]]:
    if len(line) > MAX_LINE_CHARACTERS:
        text = f"is longer than {MAX_LINE_CHARACTERS} characters; write one object a line"
        return None, [Problem(line=number, field="", text=text)]
    try:
        sample = _LINE.validate_json(line)
    except ValidationError as error:
        if error.errors(include_url=False)[0]["type"] == "json_invalid":
            said = str(error.errors(include_url=False)[0]["ctx"]["error"])
            return None, [Problem(line=number, field="", text=f"is not valid JSON: {said}")]
        document = Document(data=None, lines={(): number}, problems=())
        return None, problems_of(error, document, SampleLine)
    # JSON lets a name stand twice and readers take one of the two; a colon too many makes it worth looking.
    if line.count(":") > len(sample.model_fields_set) and (name := _repeated_name(line)):
        return None, [Problem(line=number, field=name, text="is written twice")]
    return sample, []


def _repeated_name(line: str) -> str:
    """Return the first name that an object has twice; empty when there is none."""
    pairs: list[tuple[str, Any]] = json.loads(line, object_pairs_hook=list)
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            return name
        seen.add(name)
    return ""


def _remarks(samples: Sequence[SampleLine], known: set[str], repeated: int) -> Iterable[str]:
    if repeated:
        yield f"{repeated} repeated lines say what others say and were counted once."
    for name in sorted({one.metric for one in samples} - known):
        yield f"{field_name((name,))} is not in the plan and was left out."
