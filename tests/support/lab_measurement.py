"""Goes through what `make noise` has still to measure in guests, and makes the table of what it has."""

import json
import os
import statistics
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from google.protobuf.json_format import MessageToDict
from lab_cells import (
    ARCHITECTURES,
    BOOTS,
    CELLS,
    COMMAND_TIMEOUT_S,
    MEMORY_MIB,
    PAIR,
    PREPARATION,
    RUNS,
    WARMUPS,
    Piece,
)
from noise_table import HEADINGS, RULES, Row

from protos.kernroll.v1 import agent_pb2, common_pb2

# Configuring a kernel is some hundred short processes.
PREPARE_TIMEOUT_S = 1800.0
_WIDTH = 150


class Failed(Exception):
    """A guest did not boot, or a command ended without a result; says which and why."""


class Orders(Protocol):
    """What a connected guest is told."""

    @property
    def boot_id(self) -> str:
        """Return the boot that the agent said it is in."""

    async def run(
        self, name: str, workload: agent_pb2.RunWorkload, *, timeout_s: float
    ) -> list[common_pb2.WorkloadRun]:
        """Run a workload and return its runs, warm-ups among them. Raises Failed with the agent's reason."""


class Guests(Protocol):
    """Boots guests, one at a time."""

    def booted(self, architecture: str, version: str) -> AbstractAsyncContextManager[Orders]:
        """Boot a guest cold, yield it when its agent has joined, and stop it. Raises Failed."""

    def disk(self, architecture: str) -> Path:
        """Return where the disk that boots start from is kept."""

    def keep_disk(self, architecture: str) -> None:
        """Keep the disk of the guest that was booted last for the boots to come."""


class Measurement:
    """Goes through what is missing, tells how far it is and how long the rest will take."""

    def __init__(self, results: Path, pieces: Sequence[Piece], *, now: Callable[[], float] = time.monotonic) -> None:
        self._results = results
        self._now = now
        self._pieces = pieces
        self._boot_s: list[float] = []

    def missing(self) -> list[Piece]:
        """Return the pieces without a result, in order."""
        return [piece for piece in self._pieces if not piece.file(self._results).exists()]

    async def go_on(self, lab: Guests) -> list[str]:
        """Measure what is missing and return what could not be measured, one sentence each."""
        failures = []
        missing = self.missing()
        for architecture in dict.fromkeys(piece.architecture for piece in missing):
            if any(piece.cell is PREPARATION for piece in missing) and not lab.disk(architecture).exists():
                await self._prepare(lab, architecture)
        for machine in dict.fromkeys(piece.machine for piece in missing):
            group = [piece for piece in missing if piece.machine == machine]
            try:
                failures += await self._boot(lab, group)
            except Failed as error:
                failures.append(f"{_named(group[0])}: {error}")
        return failures

    async def _prepare(self, lab: Guests, architecture: str) -> None:
        """Boot once to prepare on the disk what kernel_build needs; the runs themselves are thrown away."""
        self._say(f"{architecture}: preparing {', '.join(PREPARATION.parameters['objects'])} on a disk for all boots")
        async with lab.booted(architecture, PAIR[0]) as commands:
            await commands.run("prepare", replace(PREPARATION, runs=1, warmups=0).order(), timeout_s=PREPARE_TIMEOUT_S)
        lab.keep_disk(architecture)

    async def _boot(self, lab: Guests, group: Sequence[Piece]) -> list[str]:
        failures = []
        begun = self._now()
        self._say(f"{_named(group[0])}: booting")
        async with lab.booted(group[0].architecture, group[0].version) as commands:
            self._boot_s.append(self._now() - begun)
            for piece in group:
                self._say(f"{_named(piece)}: {piece.cell.name}")
                try:
                    await self._measure(commands, piece)
                except Failed as error:
                    failures.append(f"{_named(piece)}: {error}")
                    self._say(failures[-1])
        return failures

    async def _measure(self, commands: Orders, piece: Piece) -> None:
        begun = self._now()
        order = piece.cell.order()
        runs = await commands.run(piece.cell.name, order, timeout_s=COMMAND_TIMEOUT_S)
        document = {
            "boot_id": commands.boot_id,
            "took_s": self._now() - begun,
            "order": MessageToDict(order, preserving_proto_field_name=True),
            "runs": [MessageToDict(run, preserving_proto_field_name=True) for run in runs],
        }
        path = piece.file(self._results)
        path.with_suffix(".new").write_text(json.dumps(document, indent=1))
        path.with_suffix(".new").rename(path)

    def _say(self, text: str) -> None:
        left = self.missing()
        estimate = self._left_s(left)
        rest = "" if estimate is None else f", about {estimate / 60:.0f} min left"
        done = len(self._pieces) - len(left)
        print(f"[{done}/{len(self._pieces)}{rest}] {text}", flush=True)

    def _left_s(self, left: Sequence[Piece]) -> float | None:
        """Return how long the rest takes if it takes as long as what is done; None when that says nothing yet."""
        took: dict[str, list[float]] = {}
        for piece in self._pieces:
            if piece.file(self._results).exists():
                took.setdefault(piece.cell.name, []).append(
                    json.loads(piece.file(self._results).read_bytes())["took_s"]
                )
        if not took or not self._boot_s:
            return None
        typical = statistics.fmean(seconds for each in took.values() for seconds in each)
        boots = len({piece.machine for piece in left})
        return boots * statistics.fmean(self._boot_s) + sum(
            statistics.fmean(took.get(piece.cell.name, [typical])) for piece in left
        )


def _named(piece: Piece) -> str:
    return f"{piece.architecture} {piece.version}, boot {piece.boot} of {BOOTS}"


def rows(results: Path, pieces: Sequence[Piece]) -> Iterator[tuple[str, str, Row]]:
    """Yield architecture, version and row for each metric that has two values at least, cell by cell."""
    for cell in CELLS:
        for metric in cell.metrics:
            for architecture in ARCHITECTURES:
                for version in cell.versions:
                    same = [
                        piece
                        for piece in pieces
                        if (piece.architecture, piece.version, piece.cell) == (architecture, version, cell)
                    ]
                    found = [_values(piece.file(results), metric) for piece in same]
                    boots = tuple(values for values, _ in found if values)
                    if sum(map(len, boots)) > 1:
                        unit = next(unit for _, unit in found if unit)
                        yield architecture, version, Row(metric=metric, unit=unit, boots=boots)


def _values(file: Path, metric: str) -> tuple[tuple[float, ...], str]:
    """Return the metric's values of the good runs of one boot, and its unit."""
    if not file.exists():
        return (), ""
    runs = json.loads(file.read_bytes())["runs"]
    good = [run for run in runs if run["status"] == "RUN_STATUS_OK" and not run.get("warmup")]
    samples = [sample for run in good for sample in run["samples"] if sample["metric"] == metric]
    return tuple(sample.get("value", 0.0) for sample in samples), samples[0]["unit"] if samples else ""


def table(results: Path, pieces: Sequence[Piece]) -> str:
    """Return the Markdown table of everything measured, with what was ordered."""
    lines = [f"| Metric | Unit | Guest | Kernel | Boots | {HEADINGS} |", f"|---|---|---|---|--:|{RULES}|"]
    measured = set()
    for architecture, version, row in rows(results, pieces):
        where = f"{architecture} | {version} | {len(row.boots)}"
        lines.append(f"| `{row.metric}` | {row.unit} | {where} | {row.cells()} |")
        measured.add(row.metric)
    rig = (
        f"Guests of one emulated processor and {MEMORY_MIB} MiB, one at a time, on a machine with {os.cpu_count()} "
        f"processors. A boot has {WARMUPS} warm-up and {RUNS} runs, or as said."
    )
    orders = [_folded(f"{cell.workload}: {_flow(cell.said())}") for cell in CELLS if measured & set(cell.metrics)]
    return "\n".join((rig, "", *lines, "", "```", *dict.fromkeys(orders), "```"))


def _folded(text: str) -> str:
    """Return it over several lines where it is long; YAML reads it as one."""
    return textwrap.fill(text, _WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _flow(value: object) -> str:
    """Return a value as a rollout file writes it on one line."""
    match value:
        case dict():
            return "{" + ", ".join(f"{key}: {_flow(each)}" for key, each in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(_flow(each) for each in value) + "]"
        case bool():
            return str(value).lower()
        case _:
            return str(value)
