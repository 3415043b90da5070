"""The files of `kernroll gate`: read, judged, written."""

import dataclasses
import json
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, Final

import click

from controller.adapters.imports.benchstat import plan_of, read_benchmarks
from controller.adapters.local.named_files import open_file, shown, write_file
from controller.cli.session import read_spec
from controller.domain.errors import InvalidInput
from controller.domain.printable import printable
from controller.domain.samples.parse import parse_plan, parse_samples, sample_line
from controller.domain.spec.units import percent_share
from controller.gate.trial.judge import judge_trial
from controller.gate.trial.model import TrialPlan
from controller.views.gate.forest import ForestView, forest_of_trial

# Longer lines are refused; reading stops there instead of filling the memory.
_LINE_BYTES: Final = 1 << 20


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WhatIf:
    """What the command line puts in place of the plan."""

    # METRIC=PERCENT and METRIC=SAVING, as written.
    margins: Sequence[str] = ()
    claims: Sequence[str] = ()
    # None leaves it to the plan.
    final: bool | None = None


def judge_files(plan_file: str, samples_file: str, what_if: WhatIf) -> ForestView:
    """Judge the samples of a file by the plan of another. Raises InvalidInput naming file, line and field."""
    if plan_file == samples_file == "-":
        raise InvalidInput("--plan and --samples: only one of them can be standard input")
    text, name = read_spec(plan_file)
    plan = parse_plan(text, name)
    plan, changes = _changed(plan, what_if)
    with _lines(samples_file) as (lines, samples_name):
        samples = parse_samples(lines, samples_name, plan)
    decision = judge_trial(plan, samples.measurements)
    return forest_of_trial(decision, samples_name, (*changes, *samples.remarks))


def claims_of(written: Sequence[str]) -> dict[str, float]:
    """Return METRIC=SAVING options as numbers. Raises InvalidInput."""
    found: dict[str, float] = {}
    for metric, value in _assignments("--claim", written):
        try:
            found[metric] = float(value)
        except ValueError as error:
            raise InvalidInput(f"--claim: {metric}: must be a number (got {value!r})") from error
        if not math.isfinite(found[metric]):
            raise InvalidInput(f"--claim: {metric}: must be a finite number (got {value!r})")
    return found


def margins_of(written: Sequence[str]) -> dict[str, float]:
    """Return METRIC=PERCENT options as shares. Raises InvalidInput."""
    found = {}
    for metric, value in _assignments("--margin", written):
        try:
            found[metric] = percent_share(value)
        except ValueError as error:
            raise InvalidInput(f"--margin: {metric}: {error} (got {value!r})") from error
    return found


def _assignments(option: str, written: Sequence[str]) -> Iterator[tuple[str, str]]:
    for one in written:
        metric, equals, value = one.rpartition("=")
        if not equals or not metric or not value:
            raise InvalidInput(f"{option}: must be METRIC=VALUE (got {one!r})")
        yield printable(metric), value.strip()


def _changed(plan: TrialPlan, what_if: WhatIf) -> tuple[TrialPlan, list[str]]:
    """Return the plan with what the command line says instead, and what to tell of it."""
    metrics = {metric.name: metric for metric in plan.metrics}
    told = []
    for name, margin in margins_of(what_if.margins).items():
        metric = metrics.get(name)
        if metric is None or metric.margin is None:
            with_margin = ", ".join(one.name for one in plan.metrics if one.margin is not None)
            raise InvalidInput(
                f"--margin: the plan has no margin of {name}; it has those of {with_margin or 'nothing'}"
            )
        told.append(f"What if: {name} has a margin of {margin * 100:g} % instead of {metric.margin * 100:g} %.")
        metrics[name] = dataclasses.replace(metric, margin=margin)
    for name, at_least in claims_of(what_if.claims).items():
        metric = metrics.get(name)
        if metric is None or metric.claim is None:
            raise InvalidInput(f"--claim: the plan claims nothing of {name}")
        told.append(f"What if: {name} claims ≥ {at_least:g} {metric.unit} instead of ≥ {metric.claim.at_least:g}.")
        metrics[name] = dataclasses.replace(metric, claim=dataclasses.replace(metric.claim, at_least=at_least))
    changed = dataclasses.replace(plan, metrics=tuple(metrics[name] for name in sorted(metrics)))
    return (changed if what_if.final is None else dataclasses.replace(changed, final=what_if.final)), told


def import_benchmarks(old: str, new: str, *, samples: Path | None, plan: Path | None, margin: str) -> Sequence[str]:
    """Write the samples of two benchmark outputs, and a plan when asked; return what to tell about them."""
    with _lines(old) as (old_lines, old_name), _lines(new) as (new_lines, new_name):
        imported = read_benchmarks(old_lines, new_lines, (old_name, new_name))
    if not imported.metrics:
        raise InvalidInput(
            f"{old} and {new}: every metric is zero or negative somewhere, so there is no ratio to judge"
        )
    made = plan_of(imported, margin)
    # What is written must be readable again, and a wrong --margin be told now.
    parse_plan(json.dumps(made), "--margin")
    content = "".join(f"{sample_line(sample)}\n" for sample in imported.samples)
    told = [f"{len(imported.samples)} samples of {len(imported.metrics)} metrics, design before_after."]
    if imported.left_out:
        told.append(f"Left out, because they are zero somewhere: {', '.join(imported.left_out)}.")
    if imported.negative:
        told.append(f"Left out, because they are negative somewhere: {', '.join(imported.negative)}.")
    told += imported.remarks
    for word, more in (("low", "less"), ("high", "more")):
        if units := [unit for unit in imported.guessed if imported.better[unit] == word]:
            told.append(
                f"Guessed: {more} is better of {', '.join(units)}. A line `Unit {units[0]} better=higher` (or lower) "
                "in the files says it, or `better` in the plan."
            )
    if samples is None:
        click.echo(content, nl=False)
    else:
        write_file(samples, content)
    if plan is not None:
        write_file(plan, json.dumps(made, indent=2, ensure_ascii=False) + "\n")
    told.append(
        "The verdict on them will be INCONCLUSIVE (confounded with time). For a design that can be decided, measure "
        "old, new, new, old on the same machine (abba: position 1 to 4), or machines that change beside machines that "
        "do not (two_arms, matched_pairs), and give every sample its host, arm, position and boot."
    )
    return told


@contextmanager
def _lines(path: str) -> Iterator[tuple[Iterator[str], str]]:
    """Open a file for reading line by line; "-" is standard input."""
    name = "stdin" if path == "-" else shown(path)
    try:
        with nullcontext(sys.stdin.buffer) if path == "-" else open_file(path, pipes=True) as file:
            yield _decoded(file, name), name
    except OSError as error:
        raise InvalidInput(f"{name}: {(error.strerror or str(error)).lower()}") from error


def _decoded(file: IO[bytes], name: str) -> Iterator[str]:
    number = 0
    while data := file.readline(_LINE_BYTES):
        number += 1
        try:
            yield data.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise InvalidInput(f"{name}:{number}: is not UTF-8 text (byte {error.start} of the line)") from error
