"""valkey_get: the cover letter's flags, background saves, and servers that do not hold what they are given."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from fake_workers import FakeProgram
from measuring_host import ZRAM, go, prepared

from agent.domain.errors import RigError
from agent.domain.host.memory import MIB
from agent.domain.results import OutcomeStatus


async def test_the_cover_letters_flags_reach_the_programs(tmp_path: Path) -> None:
    process, _ = prepared(tmp_path)
    letter = {"keys": 3_000_000, "requests": 3_000_000, "value_bytes": 1024, "maxmemory_bytes": 2560 * MIB}
    await go(process, "valkey_get", **letter)
    # The fake machine has 1.5 GB, and such data does not fit into it and 512 MiB of swap.
    assert process.commands == []
    big = replace(ZRAM, size_bytes=4096 * MIB)
    process.kernel.total_bytes = 8192 * MIB
    process.kernel.write_meminfo()
    outcome, _ = await go(process, "valkey_get", swap=big, **letter)
    assert outcome.status is OutcomeStatus.COMPLETED, outcome.detail
    commands = [" ".join(command) for command in process.commands]
    assert any("valkey-server --maxmemory 2684354560" in command for command in commands)
    flags = "-r 3000000 -n 3000000 -d 1024 -c 12 -P 32 -t get"
    assert any(command.startswith("valkey-benchmark") and flags in command for command in commands)
    assert any("-r 3000000 -n 2776944 -d 1024 -c 12 -P 32 -t set" in command for command in commands)


async def test_redis_serves_where_valkey_is_not_complete(tmp_path: Path) -> None:
    process, programs = prepared(tmp_path)
    process.missing.add("valkey-cli")
    for part in ("server", "cli", "benchmark"):
        process.programs[f"redis-{part}"] = process.programs[f"valkey-{part}"]
    outcome, recorder = await go(process, "valkey_get")
    assert outcome.status is OutcomeStatus.COMPLETED
    assert recorder.runs[0].evidence["server"].startswith("redis")
    assert programs.reads == 1


async def test_reads_that_find_nothing_are_no_measurement(tmp_path: Path) -> None:
    process, programs = prepared(tmp_path)
    programs.hits = 2
    outcome, _ = await go(process, "valkey_get")
    assert outcome.status is OutcomeStatus.INFRASTRUCTURE
    assert "8 % of the reads found a value, fewer than 50 %" in outcome.detail


async def test_without_a_background_save_it_is_not_s5(tmp_path: Path) -> None:
    process, programs = prepared(tmp_path)
    process.programs["valkey-cli"] = lambda command: replace(
        programs.cli(command), stdout=programs.cli(command).stdout.replace("total_forks:", "forks_of_others:")
    )
    outcome, _ = await go(process, "valkey_get with BGSAVE")
    assert outcome.status is OutcomeStatus.INFRASTRUCTURE
    assert "counts no background save meanwhile" in outcome.detail


async def test_a_server_that_refuses_more_data_is_the_rig_and_not_a_death(tmp_path: Path) -> None:
    process, programs = prepared(tmp_path)
    process.programs["valkey-benchmark"] = FakeProgram(status=1, stderr="Error from server: OOM command not allowed")
    outcome, _ = await go(process, "valkey_get")
    assert outcome.status is OutcomeStatus.INFRASTRUCTURE
    assert "--maxmemory does not hold the keys" in outcome.detail
    assert programs.reads == 0


async def test_a_server_that_was_killed_between_two_benchmarks_is_told_with_the_reason(tmp_path: Path) -> None:
    process, programs = prepared(tmp_path)

    def cli(command: Sequence[str]) -> FakeProgram:
        if command[-1] == "all":
            return FakeProgram(status=1, stderr="Could not connect: Connection refused", oom_kills=1)
        return programs.cli(command)

    process.programs["valkey-cli"] = cli
    outcome, recorder = await go(process, "valkey_get")
    assert outcome.status is OutcomeStatus.DIED
    assert "does not answer any more: 1 processes of the workload were killed for memory; Could not" in outcome.detail
    assert recorder.runs[0].error == outcome.detail
    assert process.kernel.is_pristine()


async def test_a_save_that_is_still_under_way_is_waited_for(tmp_path: Path) -> None:
    process, programs = prepared(tmp_path)
    asked = 0

    def cli(command: Sequence[str]) -> FakeProgram:
        nonlocal asked
        asked += command[-1] == "all"
        answer = programs.cli(command)
        busy = command[-1] == "all" and asked < 5
        return replace(answer, stdout=answer.stdout + "rdb_bgsave_in_progress:1\r\n") if busy else answer

    process.programs["valkey-cli"] = cli
    outcome, _ = await go(process, "valkey_get with BGSAVE")
    assert outcome.status is OutcomeStatus.COMPLETED, outcome.detail
    assert asked == 6, "once before the run, four times until the save has ended, once after the run"


@pytest.mark.parametrize(
    ("oom_kills", "status", "words"),
    [
        (
            0,
            OutcomeStatus.INFRASTRUCTURE,
            "the run is not valid: the server was not asked to save to its end: valkey-cli",
        ),
        (1, OutcomeStatus.DIED, "1 processes of the workload were killed for memory while it saved: valkey-cli"),
    ],
)
async def test_a_run_in_whose_middle_the_saving_stops_is_none_with_saving(
    tmp_path: Path, oom_kills: int, status: OutcomeStatus, words: str
) -> None:
    process, programs = prepared(tmp_path)
    asked = 0

    def answer(line: str) -> Sequence[str]:
        nonlocal asked
        asked += 1
        if asked == 2:
            process.kernel.oom_kills += oom_kills
            raise RigError("valkey-cli ended too early")
        return ("Background saving started",)

    def cli(command: Sequence[str]) -> FakeProgram:
        if command[-1].isdigit():
            programs.forks += 1
            return FakeProgram(answers=answer, stays=True)
        return programs.cli(command)

    process.programs["valkey-cli"] = cli
    outcome, recorder = await go(process, "valkey_get with BGSAVE")
    assert asked == 2, "one save was asked for"
    assert programs.reads == 1, "and the benchmark came to its end"
    assert outcome.status is status
    assert words in outcome.detail
    assert not any(sample.metric.startswith("valkey.") for sample in recorder.runs[0].samples)
    assert process.kernel.is_pristine()


async def test_a_save_that_does_not_begin_is_the_rig(tmp_path: Path) -> None:
    process, programs = prepared(tmp_path)
    refusal = FakeProgram(lines=("ERR fork: Cannot allocate memory",), stays=True)
    process.programs["valkey-cli"] = lambda command: refusal if command[-1].isdigit() else programs.cli(command)
    outcome, _ = await go(process, "valkey_get with BGSAVE")
    assert outcome.status is OutcomeStatus.INFRASTRUCTURE
    assert "no background save begins: ERR fork: Cannot allocate memory" in outcome.detail
