"""What valkey's benchmark and stress-ng print, as numbers; and how much a server is filled with."""

import math

import pytest

from agent.domain.host.memory import MIB
from agent.domain.work.stress_ng import parse_metrics
from agent.domain.work.valkey import BenchmarkResult, fill_writes, parse_benchmark, parse_info

CSV = '"test","rps","avg_latency_ms","p50_latency_ms","p99_latency_ms"\n"{test}","472705.71","0.8","0.655","4.823"\n'


def test_the_benchmarks_table_is_read_by_its_columns() -> None:
    expected = BenchmarkResult(requests_per_s=472705.71, p50_ms=0.655, p99_ms=4.823)
    assert parse_benchmark("WARNING: something\n" + CSV.format(test="GET"), "get") == expected


def test_the_servers_accounts_are_read_without_their_headings() -> None:
    assert parse_info("# Stats\r\nkeyspace_hits:5\r\nexecutable:/usr/bin/x:y\r\n") == {
        "keyspace_hits": "5",
        "executable": "/usr/bin/x:y",
    }


def test_tables_that_lack_something_are_named() -> None:
    with pytest.raises(ValueError, match="no table"):
        parse_benchmark("Could not connect", "GET")
    with pytest.raises(ValueError, match="no column 'p50_latency_ms'"):
        parse_benchmark('"test","rps"\n"GET","5"\n', "GET")
    with pytest.raises(ValueError, match="did not run GET"):
        parse_benchmark(CSV.format(test="SET"), "GET")
    with pytest.raises(ValueError, match="wrote no metrics"):
        parse_metrics("---\nsystem-info:\n      a: 1\n")


@pytest.mark.parametrize(
    "value", ["nan", "-nan", "inf", "-inf", "NaN", "Infinity", "1e999", "", "-", "1,5", "٣", "0x10"]
)
@pytest.mark.parametrize("column", ["472705.71", "0.655", "4.823"])
def test_what_a_benchmark_prints_when_it_counted_nothing_is_no_measurement(column: str, value: str) -> None:
    with pytest.raises(ValueError, match=r"the run is not valid: its .* is .*, which is no number"):
        parse_benchmark(CSV.format(test="GET").replace(column, value), "GET")


@pytest.mark.parametrize(("column", "value"), [("472705.71", "0.00"), ("472705.71", "-3"), ("0.655", "-0.1")])
def test_no_request_at_all_is_no_measurement(column: str, value: str) -> None:
    with pytest.raises(ValueError, match="counted no request"):
        parse_benchmark(CSV.format(test="GET").replace(column, value), "GET")


@pytest.mark.parametrize("value", ["1", "1.", ".5", "4.7e+05", " 12.5 "])
def test_numbers_are_read_as_c_prints_them(value: str) -> None:
    assert parse_benchmark(CSV.format(test="GET").replace("472705.71", value), "GET").requests_per_s == float(value)


def test_the_server_is_filled_with_what_it_holds_and_no_more() -> None:
    # The cover letter's: 2560 MiB hold 60 % of three million keys of 1 KiB.
    writes = fill_writes(3_000_000, 1024, 2560 * MIB)
    assert 0.59 < 1 - math.exp(-writes / 3_000_000) < 0.61
    # Where all fits, 78 % are enough to read from.
    assert 1 - math.exp(-fill_writes(1000, 64, 160 * MIB) / 1000) == pytest.approx(0.78, abs=0.001)
