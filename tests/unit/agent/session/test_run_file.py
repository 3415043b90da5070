"""The runs of a local command are on disk one by one, and the newest commands' are kept."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from fake_host import FakeProcess, ProcessKilled
from fake_kernel import DEVICE, FakeKernel

from agent.adapters.state.durable import Journal
from agent.adapters.state.run_file import RunFile
from agent.cli import local
from agent.domain.orders.orders import SwapMountOrder
from agent.domain.orders.swap_source import SourceKind, SwapSource
from agent.domain.results import RunStatus, Sample, WorkloadRun
from agent.domain.session.commands import RunWorkload
from agent.exits import Exit

BEGUN_AT = 1_795_750_000.25


def run(index: int) -> WorkloadRun:
    sample = Sample(metric="m", value=1.5, unit="s")
    evidence = {"text": "a\nb"}
    return WorkloadRun(
        workload="w", index=index, warmup=False, status=RunStatus.OK, samples=(sample,), evidence=evidence
    )


def kept(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def indices(path: Path) -> list[int]:
    return [each["index"] for each in kept(path)]


def test_a_run_is_there_before_the_next_begins(tmp_path: Path) -> None:
    file = RunFile(tmp_path / "runs", workload="swap_mount", begun_at=BEGUN_AT)
    assert not (tmp_path / "runs").exists(), "a command without runs leaves nothing"
    for index in range(3):
        assert file.add(run(index)) == ""
        assert indices(file.path) == list(range(index + 1))
    assert file.path.name == "20261127T032640.250Z-swap_mount.jsonl"
    assert file.kept_runs == 3
    first = json.loads(file.path.read_text().splitlines()[0])
    assert (first["status"], first["samples"]) == ("ok", [{"metric": "m", "value": 1.5, "unit": "s"}])
    assert first["evidence"] == {"text": "a\nb"}


def test_what_a_full_disk_refused_comes_before_the_next_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = RunFile(tmp_path, workload="w", begun_at=BEGUN_AT)
    file.add(run(0))

    def full(journal: Journal, records: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(Journal, "append", full)
        assert "No space left" in file.add(run(1))
    assert file.kept_runs == 1
    assert file.add(run(2)) == ""
    assert indices(file.path) == [0, 1, 2]


def test_the_newest_commands_are_kept_and_nothing_else_is_touched(tmp_path: Path) -> None:
    (tmp_path / "notes.jsonl").write_text("mine")
    files = [RunFile(tmp_path, workload="w", begun_at=BEGUN_AT + number) for number in range(13)]
    for file in files:
        file.add(run(0))
    assert [file.path.exists() for file in files] == [False] * 3 + [True] * 10
    assert (tmp_path / "notes.jsonl").read_text() == "mine"


def test_a_write_that_a_full_disk_cuts_short_leaves_no_half_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = RunFile(tmp_path, workload="w", begun_at=BEGUN_AT)
    file.add(run(0))
    whole, write = file.path.read_bytes(), os.write
    with monkeypatch.context() as patched:
        patched.setattr("os.write", lambda descriptor, content: write(descriptor, content[:20]))
        assert file.add(run(1))
    assert file.path.read_bytes() == whole
    assert file.add(run(2)) == ""
    assert indices(file.path) == [0, 1, 2]


@pytest.fixture
def process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeProcess:
    (tmp_path / "host").mkdir()
    process = FakeProcess(FakeKernel(tmp_path / "host"))
    monkeypatch.setattr("agent.cli.local.local_host", lambda state_dir: process.host())
    monkeypatch.setattr("agent.cli.local.protect_process", lambda: None)
    return process


WORKLOAD = RunWorkload(
    repetitions=3, warmups=0, order=SwapMountOrder(swap=SwapSource(kind=SourceKind.BLOCK_DEVICE, path=DEVICE))
)


async def test_a_local_command_tells_where_its_runs_are(
    tmp_path: Path, process: FakeProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = await local.run(WORKLOAD, state_dir=tmp_path, timeout_s=60.0, output="json")
    document = json.loads(text)
    path = Path(document["runs_file"])
    assert code is Exit.OK
    assert path.parent == tmp_path / "runs"
    assert kept(path) == document["runs"]
    assert f"3 of 3 runs are kept in {path}" in capsys.readouterr().err


async def test_a_command_that_dies_in_its_last_run_has_kept_the_others(tmp_path: Path, process: FakeProcess) -> None:
    on_disk: list[list[int]] = []

    async def die(at: int) -> None:
        if sum(command[0] == "swapon" for command in process.commands) == 3:
            on_disk.extend(indices(path) for path in (tmp_path / "runs").iterdir())
            process.killed = True

    process.on_checkpoint = die
    with pytest.raises(ProcessKilled):
        await local.run(WORKLOAD, state_dir=tmp_path, timeout_s=60.0, output="text")
    assert on_disk == [[0, 1]]


async def test_a_command_that_is_refused_keeps_no_runs(tmp_path: Path, process: FakeProcess) -> None:
    process.missing.add("swapon")
    code, text = await local.run(WORKLOAD, state_dir=tmp_path, timeout_s=60.0, output="json")
    assert code is Exit.RIG
    assert json.loads(text)["runs_file"] is None
    assert not (tmp_path / "runs").exists()
