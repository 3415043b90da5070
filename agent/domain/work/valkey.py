"""What a valkey or redis server and its benchmark print, as numbers."""

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass

from agent.domain.numbers import measured


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkResult:
    """One line of the benchmark's --csv output."""

    requests_per_s: float
    p50_ms: float
    p99_ms: float


# The largest share of keys that is filled; more writes of random keys find ever fewer new ones.
_MOST_FILLED = 0.78
# What may be used of --maxmemory: the server refuses to write beyond it.
_USABLE = 0.95


def key_bytes(value_bytes: int) -> int:
    """Return what a key and its value cost the server: the allocator rounds up by a quarter, tables come on top."""
    return value_bytes + value_bytes // 4 + 128


def fill_writes(keys: int, value_bytes: int, maxmemory_bytes: int) -> int:
    """Return how many writes of random keys set as many as make reads hit and as the server's memory holds."""
    share = min(_MOST_FILLED, _USABLE * maxmemory_bytes / key_bytes(value_bytes) / keys)
    return max(1, int(-math.log1p(-share) * keys))


def parse_benchmark(text: str, test: str) -> BenchmarkResult:
    """Parse the benchmark's --csv output. Raises ValueError when it lacks the test or a latency."""
    rows = list(csv.reader(line for line in text.splitlines() if line.startswith('"')))
    if len(rows) < 2 or rows[0][0] != "test":
        raise ValueError("the benchmark printed no table; it must be of version 6.2 or later, which knows --csv")
    for row in rows[1:]:
        named = dict(zip(rows[0], row, strict=False))
        if named["test"].upper() == test.upper():
            try:
                found = BenchmarkResult(
                    requests_per_s=measured(named["rps"], "requests per second"),
                    p50_ms=measured(named["p50_latency_ms"], "median latency"),
                    p99_ms=measured(named["p99_latency_ms"], "99th percentile"),
                )
            except KeyError as error:
                raise ValueError(f"the benchmark's table has no column {error}") from error
            if found.requests_per_s <= 0 or min(found.p50_ms, found.p99_ms) < 0:
                raise ValueError("the run is not valid: the benchmark counted no request, or a time below zero")
            return found
    raise ValueError(f"the benchmark did not run {test}")


def parse_info(text: str) -> Mapping[str, str]:
    """Parse what the server's INFO prints."""
    pairs = (line.strip().partition(":") for line in text.splitlines() if not line.startswith("#"))
    return {name: value for name, separator, value in pairs if separator}
