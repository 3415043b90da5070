"""`make noise` in guests: it goes on where it stopped, tries again what failed, and tells how long the rest takes."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from lab_cells import BOOTS, PAIR, PREPARATION, RUNS, WARMUPS, plan
from lab_measurement import Failed, Measurement, Orders, table

from protos.kernroll.v1 import agent_pb2, common_pb2

METRICS = {"anon_sweep": "anonymous_sweep.throughput", "stress_ng": "stress.bogo_rate"}
CELL_S, BOOT_S = 30.0, 20.0


class FakeGuests:
    """Guests whose every boot and workload takes a fixed time; some do not come to an end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = 0.0
        self.booted_as: list[tuple[str, str]] = []
        self.ran: list[tuple[str, str]] = []
        # What fails, by version and command.
        self.failing: set[tuple[str, str]] = set()
        # The number of the command in which somebody presses Ctrl-C.
        self.interrupted_at: int | None = None

    @asynccontextmanager
    async def booted(self, architecture: str, version: str) -> AsyncIterator[Orders]:
        self.booted_as.append((architecture, version))
        self.now += BOOT_S
        yield FakeOrders(self, version)

    def disk(self, architecture: str) -> Path:
        return self.folder / f"disk-{architecture}"

    def keep_disk(self, architecture: str) -> None:
        self.disk(architecture).touch()


class FakeOrders:
    def __init__(self, guests: FakeGuests, version: str) -> None:
        self.guests, self.version = guests, version
        self.boot_id = f"boot {len(guests.booted_as)}"

    async def run(
        self, name: str, workload: agent_pb2.RunWorkload, *, timeout_s: float
    ) -> list[common_pb2.WorkloadRun]:
        guests = self.guests
        if len(guests.ran) == guests.interrupted_at:
            raise KeyboardInterrupt
        guests.ran.append((self.version, name))
        guests.now += CELL_S
        if (self.version, name) in guests.failing:
            raise Failed(f"{name}: no swap")
        runs = []
        for index in range(workload.warmups + workload.repetitions):
            # A warm-up is far off, so that a table that counts it is seen at once.
            value = 1e6 if index < workload.warmups else 100.0 + len(guests.ran) + index
            sample = common_pb2.Sample(metric=METRICS.get(name, "other"), value=value, unit="MB/s")
            run = common_pb2.WorkloadRun(status=common_pb2.RUN_STATUS_OK, samples=[sample], index=index)
            run.warmup = index < workload.warmups
            runs.append(run)
        return runs


@pytest.fixture
def guests(tmp_path: Path) -> FakeGuests:
    return FakeGuests(tmp_path)


def measurement(guests: FakeGuests, *cells: str) -> Measurement:
    return Measurement(guests.folder, plan(("x86_64",), cells), now=lambda: guests.now)


async def test_every_boot_is_one_boot_and_its_runs_are_kept(guests: FakeGuests) -> None:
    assert await measurement(guests, "anon_sweep", "stress_ng").go_on(guests) == []
    assert len(guests.booted_as) == BOOTS * len(PAIR)
    (file,) = guests.folder.glob(f"x86_64-{PAIR[0]}-boot1-anon_sweep.json")
    document = json.loads(file.read_bytes())
    assert document["boot_id"] == "boot 1"
    assert document["took_s"] == CELL_S
    assert len(document["runs"]) == WARMUPS + RUNS
    assert document["order"]["anon_sweep"]["memory_bytes"] == str(48 << 20)


async def test_an_interrupted_measurement_goes_on_with_what_is_missing(guests: FakeGuests) -> None:
    guests.interrupted_at = 3
    with pytest.raises(KeyboardInterrupt):
        await measurement(guests, "anon_sweep", "stress_ng").go_on(guests)
    done = list(guests.ran)
    guests.interrupted_at = None
    assert await measurement(guests, "anon_sweep", "stress_ng").go_on(guests) == []
    assert len(done) == 3
    assert len(guests.ran) == BOOTS * len(PAIR) * 2, "nothing is measured twice"
    assert measurement(guests, "anon_sweep", "stress_ng").missing() == []


async def test_what_fails_is_named_holds_nothing_up_and_is_tried_again(guests: FakeGuests) -> None:
    guests.failing = {(PAIR[1], "anon_sweep")}
    failures = await measurement(guests, "anon_sweep", "stress_ng").go_on(guests)
    assert failures == [f"x86_64 {PAIR[1]}, boot {n} of {BOOTS}: anon_sweep: no swap" for n in range(1, BOOTS + 1)]
    assert len(guests.ran) == BOOTS * len(PAIR) * 2
    guests.failing = set()
    guests.ran.clear()
    assert await measurement(guests, "anon_sweep", "stress_ng").go_on(guests) == []
    assert guests.ran == [(PAIR[1], "anon_sweep")] * BOOTS


async def test_what_the_build_needs_is_prepared_once_for_all_boots(guests: FakeGuests) -> None:
    await measurement(guests, PREPARATION.name).go_on(guests)
    assert [name for _, name in guests.ran].count("prepare") == 1
    await measurement(guests, "anon_sweep").go_on(guests)
    assert [name for _, name in guests.ran].count("prepare") == 1


async def test_the_time_that_is_left_is_told(guests: FakeGuests, capsys: pytest.CaptureFixture[str]) -> None:
    await measurement(guests, "anon_sweep").go_on(guests)
    lines = capsys.readouterr().out.splitlines()
    assert "left" not in lines[0], "nothing is known yet"
    boots = BOOTS * len(PAIR)
    # After the second boot has come up: it has its workload to do, and the others their boots too.
    left_s = (boots - 1) * CELL_S + (boots - 1) * BOOT_S
    assert lines[3].startswith(f"[1/{boots}, about {left_s / 60:.0f} min left] x86_64 {PAIR[1]}, boot 1 of {BOOTS}")


async def test_the_table_has_a_line_for_each_kernel_and_no_warm_up(guests: FakeGuests) -> None:
    assert table(guests.folder, plan(("x86_64",), ())).count("\n|") == 2, "only its head"
    await measurement(guests, "anon_sweep").go_on(guests)
    text = table(guests.folder, plan(("x86_64",), ()))
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    assert [line.split("|")[4].strip() for line in lines] == list(PAIR)
    assert all(line.startswith("| `anonymous_sweep.throughput` | MB/s | x86_64 |") for line in lines)
    assert [line.split("|")[5].strip() for line in lines] == [str(BOOTS)] * 2
    assert [line.split("|")[10].strip() for line in lines] == [str(BOOTS * RUNS)] * 2
    assert "1000000" not in text
    assert "anon_sweep: {preset: small, memory: 48MiB, pressure: {memory_limit: 24MiB}}" in text
