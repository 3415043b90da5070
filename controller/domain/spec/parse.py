"""A checked rollout, and how it is read from a file's text."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from controller.domain.record.checks import Check
from controller.domain.record.windows import Window
from controller.domain.spec.design import Abba, Controls, Design, Pairs
from controller.domain.spec.document import (
    Architecture,
    Claim,
    DebianKernel,
    Drill,
    Expected,
    KernelImage,
    KernelSource,
    Limits,
    RolloutDocument,
    Selector,
    Strata,
    Wave,
    problems_across,
)
from controller.domain.spec.errors import problems_of
from controller.domain.spec.workloads import Device, SwapMount, Workloads
from controller.domain.spec.yaml import Problem, field_name, read_document, refuse
from controller.gate.kernel_log import KnownLine

__all__ = [
    "Abba",
    "Architecture",
    "Claim",
    "Controls",
    "DebianKernel",
    "Design",
    "Device",
    "Drill",
    "Expected",
    "KernelImage",
    "KernelSource",
    "Limits",
    "Pairs",
    "RolloutSpec",
    "Selector",
    "Strata",
    "SwapMount",
    "Wave",
    "Workloads",
    "parse_spec",
    "spec_json_schema",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutSpec:
    """A checked rollout, as the rest of kernroll reads it; document.Body explains the fields."""

    name: str
    kernels: Mapping[Architecture, KernelSource]
    expected: Mapping[Architecture, Expected]
    selector: Selector
    strata: Strata
    waves: tuple[Wave, ...]
    workloads: Workloads
    claims: tuple[Claim, ...]
    # Performance metric -> margin as a share, where it is not the default.
    margins: Mapping[str, float]
    design: Design
    controls: Controls
    pairs: Pairs
    abba: Abba
    # Counted from 1; None: the last wave with hosts that are compared.
    verdict_by_wave: int | None
    drill: Drill | None
    limits: Limits
    on_stratum_failure: Literal["revert", "hold"]
    salt: str | None
    # When hosts may be taken down; empty for any time.
    windows: tuple[Window, ...] = ()
    # Whether hosts may be given an older kernel than they run.
    allow_downgrade: bool = False
    # What must pass at the end of every wave.
    checks: tuple[Check, ...] = ()
    # Whether what a host measured counts although more than its kernel changed.
    confounders: Literal["show", "void"] = "show"
    # Lines of kernel logs that are held against no kernel.
    known_lines: tuple[KnownLine, ...] = ()
    # Why incomplete kernel logs do not hold; empty: they hold.
    accept_missing_logs: str = ""


def parse_spec(text: str, file_name: str) -> RolloutSpec:
    """Return the rollout written in `text`.

    Raises InvalidInput whose text has one line per problem, "rollout.yaml:12: spec.waves[0].per_stratum: must be at
    least 1 (got 0)", in the order of the file.
    """
    document = read_document(text, file_name)
    if not isinstance(document.data, dict):
        raise refuse(file_name, [Problem(line=1, field="", text="is not a rollout: it must start with apiVersion")])
    problems = list(document.problems)
    try:
        parsed = RolloutDocument.model_validate(document.data)
    except ValidationError as error:
        raise refuse(file_name, problems + problems_of(error, document, RolloutDocument)) from error
    for place, sentence in problems_across(parsed.spec):
        path = ("spec", *place)
        problems.append(Problem(line=document.line_of(path), field=field_name(path), text=sentence))
    if problems:
        raise refuse(file_name, problems)
    return _flatten(parsed)


def spec_json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a rollout file, for editors and other tools."""
    schema = RolloutDocument.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "kernroll Rollout"}


def _flatten(document: RolloutDocument) -> RolloutSpec:
    """Return the document without its envelope."""
    body = document.spec
    return RolloutSpec(
        name=document.metadata.name,
        kernels=body.kernels,
        expected=body.from_,
        selector=body.selector,
        strata=body.strata,
        waves=body.waves,
        workloads=body.workloads,
        claims=body.claims,
        margins=body.margins,
        drill=body.drill,
        design=body.design,
        controls=body.controls,
        pairs=body.pairs,
        abba=body.abba,
        verdict_by_wave=body.verdict_by_wave,
        limits=body.limits,
        on_stratum_failure=body.on_stratum_failure,
        salt=body.salt,
        windows=tuple(one.window for one in body.windows),
        allow_downgrade=body.allow_downgrade,
        checks=tuple(one.check for one in body.checks),
        confounders=body.confounders,
        known_lines=tuple(one.known_line for one in body.known_lines),
        accept_missing_logs=body.accept_missing_logs or "",
    )
