"""The files of `kernroll gate`: read, judged, written."""

import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, Final

import click

from controller.adapters.benchstat import plan_of, read_benchmarks
from controller.cli.session import read_spec
from controller.domain.errors import InvalidInput, Permanent
from controller.domain.samples import parse_plan, parse_samples, sample_line
from controller.gate.trial_judge import judge_trial
from controller.views.forest import ForestView, forest_of_trial

# Longer lines are refused; reading stops there instead of filling the memory.
_LINE_BYTES: Final = 1 << 20


def judge_files(plan_file: str, samples_file: str, *, final: bool | None) -> ForestView:
    """Judge the samples of a file by the plan of another. Raises InvalidInput naming file, line and field."""
    if plan_file == samples_file == "-":
        raise InvalidInput("--plan and --samples: only one of them can be standard input")
    text, name = read_spec(plan_file)
    plan = parse_plan(text, name)
    if final is not None:
        plan = dataclasses.replace(plan, final=final)
    with _lines(samples_file) as (lines, samples_name):
        samples = parse_samples(lines, samples_name, plan)
    decision = judge_trial(plan, samples.measurements)
    return forest_of_trial(decision, samples_name, samples.remarks)


def import_benchmarks(old: str, new: str, *, samples: Path | None, plan: Path | None, margin: str) -> Sequence[str]:
    """Write the samples of two benchmark outputs, and a plan when asked; return what to tell about them."""
    with _lines(old) as (old_lines, old_name), _lines(new) as (new_lines, new_name):
        imported = read_benchmarks(old_lines, new_lines, (old_name, new_name))
    if not imported.metrics:
        raise InvalidInput(f"{old} and {new}: every metric is zero somewhere, so there is no ratio to judge")
    made = plan_of(imported, margin)
    # What is written must be readable again, and a wrong --margin be told now.
    parse_plan(json.dumps(made), "--margin")
    content = "".join(f"{sample_line(sample)}\n" for sample in imported.samples)
    told = [f"{len(imported.samples)} samples of {len(imported.metrics)} metrics, design before_after."]
    if imported.left_out:
        told.append(f"Left out, because they are zero somewhere: {', '.join(imported.left_out)}.")
    if samples is None:
        click.echo(content, nl=False)
    else:
        write_text(samples, content)
    if plan is not None:
        write_text(plan, json.dumps(made, indent=2, ensure_ascii=False) + "\n")
    told.append(
        "The verdict on them will be INCONCLUSIVE (confounded with time). For a design that can be decided, measure "
        "old, new, new, old on the same machine (abba: position 1 to 4), or machines that change beside machines that "
        "do not (two_arms, matched_pairs), and give every sample its host, arm, position and boot."
    )
    return told


def write_text(path: Path, content: str) -> None:
    """Write the whole file or nothing. Raises Permanent."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.write_text(content, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise Permanent(f"{path}: cannot be written: {error.strerror or error}") from error


@contextmanager
def _lines(path: str) -> Iterator[tuple[Iterator[str], str]]:
    """Open a file for reading line by line; "-" is standard input."""
    name = "stdin" if path == "-" else path
    try:
        with nullcontext(sys.stdin.buffer) if path == "-" else open(path, "rb") as file:
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
