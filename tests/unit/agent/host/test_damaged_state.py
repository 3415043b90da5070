"""Every file that the agent keeps of itself, in every kind of damage: named, kept aside, and gone on without."""

import asyncio
import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fake_host import FakeProcess
from fake_kernel import FakeKernel
from project import ROOT

from agent.adapters.host.boots import BootMarkFile
from agent.adapters.host.kmsg import KernelLogPosition
from agent.adapters.network.serial_relay import SerialRelay
from agent.adapters.state.command_journal import CommandJournal
from agent.adapters.state.leftovers import LeftoversFile
from agent.adapters.state.spool import ReportSpool
from agent.adapters.state.state_files import NewerState, kept_aside
from agent.domain.errors import ConfigError, RigError
from agent.domain.orders.orders import SwapMountOrder
from agent.domain.orders.swap_source import SourceKind, SwapSource
from agent.domain.results import CommandOutcome, OutcomeStatus, Report
from agent.domain.session.commands import (
    Accepted,
    Cancel,
    Command,
    CommandBook,
    Conclude,
    EpochSeen,
    Finished,
    RunWorkload,
    decide,
)
from agent.domain.session.losses import Losses
from agent.domain.session.previous_boot import BootMark
from agent.domain.work.leftovers import MadeFile, Noted, SwapOn, Workers
from agent.locks import Lock
from agent.main import main
from agent.workloads.rig.undoing import sweep

BOOT = "boot-1"
MARK = BootMark(boot_id=BOOT, stopped=False, known=("a",), kernel_release="7.1.13")
ACCEPTED = Accepted(command_id="c1", workload="swap_mount", warmups=0, boot_id=BOOT, kernel_release="7.1.13")


def journal(directory: Path) -> CommandBook:
    return CommandJournal(directory / "commands.journal").book


def position(directory: Path) -> int:
    return KernelLogPosition(directory / "kernel-log.json", BOOT).load()


def leftovers(directory: Path) -> tuple[Noted, ...]:
    return LeftoversFile(directory / "leftovers.json", BOOT).noted()


def mark(directory: Path) -> BootMark | None:
    return BootMarkFile(directory / "boot.json").load()


def spool(directory: Path) -> list[str]:
    return [each.report_id for each in ReportSpool(directory / "spool").queue.entries]


def lost(directory: Path) -> Losses:
    return ReportSpool(directory / "spool").lost.losses


def relay(directory: Path) -> bool:
    return SerialRelay(Path("/dev/none"), marker=directory / "org.kernroll.agent.boot", boot_id=BOOT)._used


def filled(directory: Path) -> None:
    """Write every file as the agent does."""
    CommandJournal(directory / "commands.journal").write(EpochSeen(epoch=4), ACCEPTED)
    KernelLogPosition(directory / "kernel-log.json", BOOT).save(7)
    LeftoversFile(directory / "leftovers.json", BOOT).note(SwapOn(device="/dev/a"))
    BootMarkFile(directory / "boot.json").save(MARK)
    body = CommandOutcome(status=OutcomeStatus.COMPLETED)
    ReportSpool(directory / "spool").add(Report(report_id="r1", command_id="c1", boot_id=BOOT, at=1.0, body=body))
    ReportSpool(directory / "spool").lost.count({BOOT: 12})
    (directory / "org.kernroll.agent.boot").write_text(BOOT)


# File -> what reads it, and what is read where nothing is known.
FILES: dict[str, tuple[Callable[[Path], object], object]] = {
    "commands.journal": (journal, CommandBook()),
    "kernel-log.json": (position, -1),
    "leftovers.json": (leftovers, ()),
    "boot.json": (mark, None),
    "spool/000000000001.report": (spool, []),
    # What it said is a hole by itself.
    "spool/lost-records.json": (lost, Losses(unplaced=1)),
    "org.kernroll.agent.boot": (relay, True),
}
CONTENTS: dict[str, bytes] = {
    "zeros": bytes(4096),
    "deep": b'[{"a":' * 100_000 + b"\n",
    "deep list": b"[" * 200_000 + b"\n",
    "number": b"7\n",
    "long number": b'{"kind": "epoch", "epoch": ' + b"9" * 5000 + b"}\n",
    "text": b'"kind"\n',
    "null": b"null\n",
    "not a text": b"\xff\xfe\xfd" * 100 + b"\n",
    "other shape": b'[{"kind": 3}, [], null]\n',
    "object": b'{"hello": "world"}\n',
    "latin": "{'kind': 'epoch'}\n".encode("utf-16"),
    "several": b"{}{}{}\n",
}


def damage(path: Path, kind: str) -> None:
    if path.exists():
        path.unlink()
    match kind:
        case "directory":
            path.mkdir()
            (path / "within").write_text("x")
        case "pipe":
            os.mkfifo(path)
        case "link":
            path.symlink_to("/dev/zero")
        case "loop":
            path.symlink_to(path)
        case "huge":
            with path.open("wb") as file:
                file.truncate(1 << 40)
        case _:
            path.write_bytes(CONTENTS[kind])


@pytest.mark.parametrize("kind", [*CONTENTS, "directory", "pipe", "link", "loop", "huge"])
@pytest.mark.parametrize("name", FILES)
def test_whatever_is_in_a_files_place_is_kept_aside_and_gone_on_without(tmp_path: Path, name: str, kind: str) -> None:
    filled(tmp_path)
    damage(tmp_path / name, kind)
    read, nothing = FILES[name]
    if name == "org.kernroll.agent.boot" and kind in CONTENTS:
        # A mark of another boot, whatever it says.
        assert read(tmp_path) is False
        return
    assert read(tmp_path) == nothing
    (aside,) = kept_aside(tmp_path / name)
    assert aside.endswith(".unreadable-1")
    # The next one, and one that writes, find nothing in their way.
    assert read(tmp_path) == nothing
    filled(tmp_path)
    assert read(tmp_path) != nothing or name == "org.kernroll.agent.boot"
    assert kept_aside(tmp_path / name) == (aside,)


@pytest.mark.parametrize("name", FILES)
def test_every_byte_may_be_another(tmp_path: Path, name: str) -> None:
    filled(tmp_path)
    whole = (tmp_path / name).read_bytes()
    read, _ = FILES[name]
    for place in range(len(whole)):
        for sign in (0x00, 0xFF, whole[place] ^ 0x01):
            (tmp_path / name).write_bytes(whole[:place] + bytes([sign]) + whole[place + 1 :])
            try:
                read(tmp_path)
            except ConfigError as error:
                # A changed name is one that a newer agent may have written.
                assert "a newer agent than this one" in str(error)
    for length in range(len(whole)):
        (tmp_path / name).write_bytes(whole[:length])
        read(tmp_path)


def test_a_second_damage_is_kept_beside_the_first(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / "boot.json").write_text("{")
        assert mark(tmp_path) is None
        assert len(kept_aside(tmp_path / "boot.json")) == number


WORKLOAD = RunWorkload(
    repetitions=1, warmups=0, order=SwapMountOrder(swap=SwapSource(kind=SourceKind.BRD, size_bytes=1 << 30))
)


def tell(journal: CommandJournal, command_id: str, body: RunWorkload | Cancel = WORKLOAD) -> OutcomeStatus | None:
    command = Command(command_id=command_id, epoch=4, timeout_s=1.0, body=body)
    decision = decide(journal.book, command, boot_id=BOOT, kernel_release="7.1.13", unable=journal.doubt)
    return decision.action.status if isinstance(decision.action, Conclude) else None


def test_no_command_is_run_while_it_is_not_known_which_were(tmp_path: Path) -> None:
    path = tmp_path / "commands.journal"
    filled(tmp_path)
    CommandJournal(path).write(Finished(command_id="c1"))
    path.write_bytes(path.read_bytes().replace(b'"finished"', b'"finis\x00ed"'))
    for _restart in range(2):
        damaged = CommandJournal(path)
        # What is readable of it still counts.
        assert damaged.book.highest_epoch == 4
        assert damaged.book.active_ids or "c1" in damaged.book.finished
        assert tell(damaged, "c2", Cancel(command_id="c3")) is OutcomeStatus.CANCELLED
        assert "commands.journal.unreadable-1" in damaged.doubt
        damaged.note(Finished(command_id="c1"))
        assert tell(damaged, "c2") is OutcomeStatus.REFUSED
    Path(kept_aside(path)[0]).unlink()
    assert tell(damaged, "c2") is None, "a person has seen to it"


def test_leftovers_that_cannot_be_read_are_told_until_a_person_has_seen_to_them(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    host = FakeProcess(FakeKernel(tmp_path / "fake"), boot_id=BOOT).host()
    file = LeftoversFile(state / "leftovers.json", BOOT)
    host = replace(host, leftovers=file)
    made = tmp_path / "made"
    made.write_text("x")
    file.note(MadeFile(path=str(made)))
    file.note(Workers(name="kernroll-1"))
    lines = json.loads((state / "leftovers.json").read_text())
    (state / "leftovers.json").write_text(json.dumps([*lines, {"boot_id": 7, "kind": "swap_on"}]))
    for _try in range(2):
        with pytest.raises(RigError, match=r"leftovers\.json\.unreadable-1 cannot be read"):
            asyncio.run(sweep(host))
        # What swap may lie on stays; the rest is taken down.
        assert [each.leftover for each in file.noted()] == [MadeFile(path=str(made))]
        assert made.exists()
    Path(kept_aside(state / "leftovers.json")[0]).unlink()
    asyncio.run(sweep(host))
    assert not made.exists()


def test_a_leftover_that_makes_no_sense_leaves_the_others_to_be_taken_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = FakeProcess(FakeKernel(tmp_path), boot_id=BOOT).host()
    made = tmp_path / "made"
    made.write_text("x")
    host.leftovers.note(MadeFile(path=str(made)))
    host.leftovers.note(Workers(name="kernroll-1"))

    async def broken() -> None:
        raise ValueError("no such name")

    monkeypatch.setattr(host.workers, "end_all", broken)
    with pytest.raises(RigError, match="cannot be taken down: no such name"):
        asyncio.run(sweep(host))
    assert not made.exists()


NEWER: dict[str, list[str]] = {
    "commands.journal": [
        '{"kind": "layout", "version": 2}\n',
        '{"kind": "paused", "command_id": "c1"}\n',
        '{"kind": "epoch", "epoch": 4, "term": 2}\n',
    ],
    "kernel-log.json": ['{"version": 2, "boots": {}}'],
    "leftovers.json": [
        '{"version": 2, "noted": []}',
        '[{"boot_id": "b", "kind": "dm_device", "name": "x"}]',
        '[{"boot_id": "b", "kind": "swap_on", "device": "/dev/a", "priority": 3}]',
    ],
    "boot.json": ['{"version": 3}'],
    "spool/lost-records.json": ['{"version": 2, "boots": []}'],
}


@pytest.mark.parametrize(("name", "content"), [(name, each) for name, all_ in NEWER.items() for each in all_])
def test_what_a_newer_agent_wrote_is_left_as_it_is_and_said_in_one_sentence(
    tmp_path: Path, name: str, content: str
) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(content)
    with pytest.raises(NewerState, match="install that agent again") as raised:
        FILES[name][0](tmp_path)
    assert str(tmp_path / name) in str(raised.value)
    assert str(raised.value).isprintable()
    assert (tmp_path / name).read_text() == content
    assert kept_aside(tmp_path / name) == ()


@pytest.mark.parametrize("name", NEWER)
def test_an_agent_ends_with_the_code_of_configuration_over_a_newer_ones_state(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / name).parent.mkdir(exist_ok=True)
    (state / name).write_text(NEWER[name][0])
    config = tmp_path / "agent.toml"
    config.write_text(f'host = "h"\ncontroller = "127.0.0.1:9"\ninsecure = true\nstate_dir = "{state}"\n')
    for name_of in (
        "agent.resident.serve.protect_process",
        "agent.resident.serve.open_kernel_log",
        "agent.main._log_to_stderr",
    ):
        monkeypatch.setattr(name_of, lambda: None)
    if name == "kernel-log.json":
        monkeypatch.setattr("agent.resident.serve.open_kernel_log", lambda: os.open(os.devnull, os.O_RDONLY))
    with pytest.raises(SystemExit) as ended:
        main(["serve", "--config", str(config)])
    assert ended.value.code == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("kernroll-agent: ")]
    assert len(said) == 1
    assert "Traceback" not in said[0]


def test_systemd_does_not_start_again_what_would_end_the_same_way() -> None:
    unit = ROOT / "deploy/systemd/kernroll-agent.service"
    assert "\nRestartPreventExitStatus=2\n" in unit.read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", ["directory", "loop"])
def test_what_is_in_a_locks_place_is_named(tmp_path: Path, kind: str) -> None:
    damage(tmp_path / "agent.lock", kind)
    with (
        pytest.raises(RigError, match=r"agent\.lock cannot be locked"),
        Lock(tmp_path / "agent.lock", complaint="").held(),
    ):
        pass


@pytest.mark.parametrize("kind", ["zeros", "pipe", "loop"])
def test_what_is_in_the_spools_place_is_kept_aside(tmp_path: Path, kind: str) -> None:
    damage(tmp_path / "spool", kind)
    assert spool(tmp_path) == []
    assert len(kept_aside(tmp_path / "spool")) == 1


def test_a_report_that_changes_under_the_agent_is_no_end(tmp_path: Path) -> None:
    filled(tmp_path)
    queue = ReportSpool(tmp_path / "spool")
    damage(tmp_path / "spool/000000000001.report", "directory")
    assert queue.content(1) is None
    queue.acknowledge(frozenset({"r1"}))
    assert len(queue) == 0


def test_the_limit_of_recursion_is_as_low_as_ever() -> None:
    assert sys.getrecursionlimit() <= 10_000, "deep JSON must be told by its error and not by a crash"
