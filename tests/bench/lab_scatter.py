"""How much the workloads' figures scatter in guests of the lab: old and new kernel, both architectures, several boots.

One guest is up at a time, so that none is measured beside another. Every cell of every boot is a file that is kept: an
interrupted measurement goes on with what is missing, in a boot of its own.
"""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from lab_cells import plan
from lab_guest import Lab, parts
from lab_measurement import Measurement

BEGIN, END = "<!-- make noise, lab: begin -->", "<!-- make noise, lab: end -->"


def measure(results: Path, *, architectures: Sequence[str], only: Sequence[str]) -> None:
    """Measure what is missing. Nothing runs afterwards, also after Ctrl-C."""
    results.mkdir(parents=True, exist_ok=True)
    pieces = plan(architectures, only)
    measurement = Measurement(results, pieces)
    if not measurement.missing():
        return
    lab = Lab(results, parts(tuple(architectures), tuple(dict.fromkeys(piece.version for piece in pieces))))
    try:
        failures = asyncio.run(measurement.go_on(lab))
    finally:
        lab.stop_leftovers()
    for each in failures:
        print(f"not measured: {each}", file=sys.stderr)
    if failures:
        print("the same command tries these again", file=sys.stderr)
