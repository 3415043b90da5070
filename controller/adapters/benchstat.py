"""Go benchmark output, as `go test -bench` writes it and benchstat reads it, as lines of a samples file.

Source: the Go benchmark data format, golang.org/design/14313-benchmark-format: lines `BenchmarkName-8 1000 123 ns/op …`
with any number of value–unit pairs, and configuration lines `key: value`.
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from controller.domain.errors import InvalidInput

# What a reader of the samples calls the one machine that a benchmark's output is from.
HOST: Final = "benchmark"
_RESULT: Final = re.compile(r"(Benchmark\S*)[ \t]+([1-9]\d*)[ \t]+(\S.*)")
_CONFIGURATION: Final = re.compile(r"([a-z][^\s:A-Z]*):[ \t]*(.*)")
_NUMBER: Final = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?")
# Configuration that names what may be compared.
_STRATUM_KEYS: Final = ("goos", "goarch", "cpu")
# Units in which more is better; of all others less is.
_RATES: Final = ("/s", "/sec", "op/s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """Samples, and the plan that fits them."""

    samples: tuple[Mapping[str, Any], ...]
    # metric -> unit.
    metrics: Mapping[str, str]
    # Metrics with a value of zero, which have no ratio.
    left_out: tuple[str, ...]


def read_benchmarks(old: Iterable[str], new: Iterable[str], names: tuple[str, str]) -> Imported:
    """Return the samples of two files: `old` becomes position first, `new` second.

    Metrics that are zero somewhere are left out by name: they have no ratio. Raises InvalidInput with file and line for
    a result that cannot be read, and for a file without results.
    """
    samples: list[Mapping[str, Any]] = []
    metrics: dict[str, str] = {}
    for lines, name, position in ((old, names[0], "first"), (new, names[1], "second")):
        found = list(_results(lines, name, position))
        if not found:
            raise InvalidInput(f"{name}:1: holds no benchmark result (BenchmarkName iterations value unit)")
        samples += found
        metrics.update({sample["metric"]: sample["unit"] for sample in found})
    zero = {sample["metric"] for sample in samples if sample["value"] <= 0}
    return Imported(
        samples=tuple(sample for sample in samples if sample["metric"] not in zero),
        metrics={name: unit for name, unit in sorted(metrics.items()) if name not in zero},
        left_out=tuple(sorted(zero)),
    )


def plan_of(imported: Imported, margin: str) -> Mapping[str, Any]:
    """Return a plan for the samples as they are: plain before and after, which is never decided."""
    return {
        "design": "before_after",
        "metrics": {
            name: {"unit": unit, "better": "high" if unit.endswith(_RATES) else "low", "margin": margin}
            for name, unit in imported.metrics.items()
        },
    }


def _results(lines: Iterable[str], name: str, position: str) -> Iterator[Mapping[str, Any]]:
    configuration: dict[str, str] = {}
    count: dict[str, int] = defaultdict(int)
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if match := _CONFIGURATION.fullmatch(text):
            configuration[match[1]] = match[2]
            continue
        result = _RESULT.fullmatch(text)
        if result is None:
            continue
        benchmark = result[1].removeprefix("Benchmark") or "Benchmark"
        count[benchmark] += 1
        stratum = "/".join(configuration[key] for key in _STRATUM_KEYS if configuration.get(key)) or "all"
        for value, unit in _pairs(result[3], f"{name}:{number}"):
            yield {
                "host": HOST if stratum == "all" else f"{HOST} {stratum}"[:253],
                "stratum": stratum,
                "position": position,
                "run": count[benchmark],
                "metric": f"{benchmark} {unit}",
                "value": value,
                "unit": unit,
            }


def _pairs(text: str, place: str) -> Iterator[tuple[float, str]]:
    words = text.split()
    if len(words) % 2:
        raise InvalidInput(f"{place}: a value without a unit, or a unit without a value: {words[-1]!r}")
    for value, unit in zip(words[::2], words[1::2], strict=True):
        if not _NUMBER.fullmatch(value):
            raise InvalidInput(f"{place}: {value!r} is not a number")
        number = float(value)
        if not math.isfinite(number):
            raise InvalidInput(f"{place}: {value!r} is too big")
        yield number, unit
