"""What a valkey or redis server and its benchmark print, as numbers."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkResult:
    """One line of the benchmark's --csv output."""

    requests_per_s: float
    p50_ms: float
    p99_ms: float


def parse_benchmark(text: str, test: str) -> BenchmarkResult:
    """Parse the benchmark's --csv output. Raises ValueError when it lacks the test or a latency."""
    rows = list(csv.reader(line for line in text.splitlines() if line.startswith('"')))
    if len(rows) < 2 or rows[0][0] != "test":
        raise ValueError("the benchmark printed no table; it must be of version 6.2 or later, which knows --csv")
    for row in rows[1:]:
        named = dict(zip(rows[0], row, strict=False))
        if named["test"].upper() == test.upper():
            try:
                return BenchmarkResult(
                    requests_per_s=float(named["rps"]),
                    p50_ms=float(named["p50_latency_ms"]),
                    p99_ms=float(named["p99_latency_ms"]),
                )
            except KeyError as error:
                raise ValueError(f"the benchmark's table has no column {error}") from error
    raise ValueError(f"the benchmark did not run {test}")


def parse_info(text: str) -> Mapping[str, str]:
    """Parse what the server's INFO prints."""
    pairs = (line.strip().partition(":") for line in text.splitlines() if not line.startswith("#"))
    return {name: value for name, separator, value in pairs if separator}
