"""What the agent keeps on disk survives crashes, and what it reads from people is checked."""

import base64
import errno
import json
import os
from pathlib import Path

import pytest

from agent.adapters.network.serial_relay import find_port
from agent.adapters.state.command_journal import CommandJournal
from agent.adapters.state.credentials import Credentials, check, load, parse_join_token, store
from agent.adapters.state.durable import Journal
from agent.adapters.state.leftovers import LeftoversFile
from agent.adapters.state.spool import ReportSpool
from agent.domain.errors import ConfigError, EnrollmentError, RigError
from agent.domain.results import CommandOutcome, OutcomeStatus, Report
from agent.domain.session.commands import Accepted, EpochSeen, Finished, RunBegun
from agent.domain.work.leftovers import BrdModule, Noted, SwapHeader, SwapOn
from agent.locks import Lock
from agent.settings import Transport
from agent.settings import load as load_settings

ACCEPTED = Accepted(command_id="c1", workload="swap_mount", warmups=0, boot_id="boot-1", kernel_release="7.1.13")


def test_a_torn_tail_is_ignored_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "commands.journal"
    journal = CommandJournal(path)
    journal.write(EpochSeen(epoch=4), ACCEPTED, RunBegun(index=2))
    book = journal.book
    whole = path.read_bytes()
    with path.open("ab") as file:
        file.write(b'{"kind": "finished", "comm')
    assert CommandJournal(path).book == book
    assert path.read_bytes() == whole


def test_every_prefix_of_the_journal_opens(tmp_path: Path) -> None:
    path = tmp_path / "commands.journal"
    CommandJournal(path).write(EpochSeen(epoch=4), ACCEPTED, RunBegun(index=2), Finished(command_id="c1"))
    whole = path.read_bytes()
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        CommandJournal(path)
    assert CommandJournal(path).book.finished == {"c1": ""}


def outcome(number: int) -> Report:
    body = CommandOutcome(status=OutcomeStatus.COMPLETED, detail="x" * 100)
    return Report(report_id=f"r{number}", command_id=f"c{number}", boot_id="boot-1", at=1000.5, body=body)


def test_the_spool_survives_a_restart_in_order(tmp_path: Path) -> None:
    spool = ReportSpool(tmp_path / "spool")
    for number in (1, 2, 3):
        assert spool.add(outcome(number))
    assert not spool.add(outcome(2)), "the first telling stands"
    spool.acknowledge(frozenset({"r2"}))
    # What a write that was cut short leaves, and what a broken disk makes of a file.
    (tmp_path / "spool/.000000000009.report.new").write_bytes(b"half")
    (tmp_path / "spool/000000000008.report").write_bytes(b"\xff\xff")
    spool = ReportSpool(tmp_path / "spool")
    assert [entry.report_id for entry in spool.queue.entries] == ["r1", "r3"]
    assert spool.add(outcome(4))
    assert [entry.number for entry in spool.queue.entries] == [1, 3, 4]
    assert spool.content(3) is not None
    assert spool.content(2) is None


def test_a_report_that_the_disk_does_not_take_is_still_sent(tmp_path: Path) -> None:
    spool = ReportSpool(tmp_path / "spool")
    (tmp_path / "spool").rmdir()
    assert spool.add(outcome(1))
    assert spool.content(1) is not None


def test_leftovers_know_their_boot(tmp_path: Path) -> None:
    path = tmp_path / "leftovers.json"
    leftovers = LeftoversFile(path, "boot-1")
    for leftover in (BrdModule(size_kib=4), SwapHeader(device="/dev/a"), SwapOn(device="/dev/a")):
        leftovers.note(leftover)
    leftovers.forget(SwapHeader(device="/dev/a"))
    leftovers.forget(SwapHeader(device="/dev/never"))
    assert LeftoversFile(path, "boot-2").noted() == (
        Noted(boot_id="boot-1", leftover=BrdModule(size_kib=4)),
        Noted(boot_id="boot-1", leftover=SwapOn(device="/dev/a")),
    )


def test_on_a_full_disk_what_was_taken_down_is_forgotten_with_the_next_change_that_finds_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "leftovers.json"
    leftovers = LeftoversFile(path, "boot-1")
    device, header = SwapOn(device="/dev/a"), SwapHeader(device="/dev/a")
    leftovers.note(header)
    leftovers.note(device)

    def full(path: Path, content: bytes, *, mode: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr("agent.adapters.state.leftovers.replace_file", full)
        leftovers.forget(device)
        with pytest.raises(OSError, match="No space"):
            leftovers.note(BrdModule(size_kib=4))
        assert [each.leftover for each in leftovers.noted()] == [header]
        # A process that dies now leaves it to the next, which finds nothing to take down.
        assert [each.leftover for each in LeftoversFile(path, "boot-1").noted()] == [header, device]
    leftovers.forget(header)
    assert LeftoversFile(path, "boot-1").noted() == ()
    leftovers.note(device)
    assert [each.leftover for each in leftovers.noted()] == [device]


def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "lock", complaint="taken")
    with lock.held(), pytest.raises(RigError, match="taken"), lock.held():
        pass
    with lock.held():
        pass


def token(**document: str) -> str:
    return "kr1." + base64.urlsafe_b64encode(json.dumps(document).encode()).decode().rstrip("=")


def test_a_join_token_carries_secret_and_authority() -> None:
    parsed = parse_join_token(token(secret="s3cret", ca=base64.b64encode(b"DER" * 40).decode()))
    assert (parsed.secret, parsed.authority_der) == ("s3cret", b"DER" * 40)
    assert parsed.authority_pem.startswith(b"-----BEGIN CERTIFICATE-----\n")
    assert "s3cret" not in repr(parsed)


@pytest.mark.parametrize(
    "text", ["", "kr2.abc", "kr1.", "kr1.%%%", "kr1.e30", token(secret="s"), token(secret="", ca="QQ=="), "kr1.é"]
)
def test_a_damaged_join_token_is_told_without_repeating_it(text: str) -> None:
    with pytest.raises(ConfigError, match="join_token: ") as raised:
        parse_join_token(text)
    assert len(text) < 5 or text not in str(raised.value)


def test_credentials_are_whole_or_absent(tmp_path: Path) -> None:
    held = Credentials(host="host-1", key_pem=b"k", certificate_pem=b"c", authority_pem=b"a", not_after=2000.0)
    assert load(tmp_path) is None
    store(tmp_path, held)
    assert load(tmp_path) == held
    check(held, host="host-1", now=1999.0, state_dir=tmp_path)
    with pytest.raises(EnrollmentError, match=r"expired 0\.0 days ago"):
        check(held, host="host-1", now=2000.0, state_dir=tmp_path)
    with pytest.raises(EnrollmentError, match="is for host 'host-1'"):
        check(held, host="host-2", now=0.0, state_dir=tmp_path)
    (tmp_path / "enrollment.json").write_text("{")
    with pytest.raises(EnrollmentError, match="enroll again"):
        load(tmp_path)


def test_ports_are_found_by_name(tmp_path: Path) -> None:
    for node, name in (("vport0p1", "org.kernroll.agent"), ("vport0p2", "org.kernroll.enroll")):
        (tmp_path / "class/virtio-ports" / node).mkdir(parents=True)
        (tmp_path / "class/virtio-ports" / node / "name").write_text(name + "\n")
    assert find_port("org.kernroll.enroll", sys=tmp_path) == Path("/dev/vport0p2")
    with pytest.raises(RigError, match=r"'other' \(it has org\.kernroll\.agent, org\.kernroll\.enroll\)"):
        find_port("other", sys=tmp_path)


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "agent.toml"
    path.write_text(text)
    return path


def test_a_full_configuration(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("kr1.abc\n")
    settings = load_settings(
        write(
            tmp_path,
            'host = "h"\ncontroller = ["10.0.0.5:7443", "[::1]:7443"]\nenroll = "10.0.0.5:7444"\n'
            'join_token_file = "token"\nplatform = "emulated"\n[labels]\nzone = "a"\n',
        )
    )
    assert settings.controllers == ("10.0.0.5:7443", "[::1]:7443")
    assert settings.join_token == "kr1.abc"
    assert settings.platform == "emulated"
    assert settings.transport is Transport.TCP
    assert settings.server_name == "kernroll-controller"
    assert settings.labels == {"zone": "a"}
    assert "kr1.abc" not in repr(settings)


def test_serial_needs_no_address(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, 'host = "h"\ntransport = "serial"\n'))
    assert (settings.agent_port, settings.enroll_port) == ("org.kernroll.agent", "org.kernroll.enroll")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("host = \nx", "not valid TOML.*line 1"),
        ('host = "h"', "controller: give the controller's address"),
        ('controller = "a:1"', "host: give the name"),
        ('host = "h"\ncontroller = "a"', "controller: 'a' is not HOST:PORT"),
        ('host = "h"\ncontroller = [1]', "controller: must be one address or a list"),
        ('host = "h"\ncontroller = "a:1"\nhots = 1', "unknown key 'hots'"),
        ("host = 3", "host: must be a text in quotes"),
        ('host = "h"\ncontroller = "a:1"\ninsecure = true', "insecure: plain text is allowed to loopback"),
        ('host = "h"\ntransport = "serial"\ninsecure = true', "insecure: plain text is allowed to loopback"),
        ('host = "h"\ncontroller = "a:1"\ninsecure = 1', "insecure: must be true or false"),
        ('host = "h"\ntransport = "pigeon"', "transport: 'pigeon' is none of tcp, serial"),
        ('host = "h"\ntransport = "serial"\nplatform = "abacus"', "platform: 'abacus' is none of"),
        ('host = "h"\ntransport = "serial"\njoin_token = "a"\njoin_token_file = "b"', "join_token: give either"),
        ('host = "h"\ntransport = "serial"\njoin_token_file = "b"', "join_token_file: cannot read b"),
        ('host = "h"\ntransport = "serial"\n[labels]\na = 1', "labels: must be a table of texts"),
    ],
)
def test_a_wrong_configuration_names_file_and_key(tmp_path: Path, text: str, words: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError, match=words) as raised:
        load_settings(path)
    assert str(raised.value).startswith(f"{path}: ")


def test_a_missing_configuration_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the configuration: No such file"):
        load_settings(tmp_path / "none.toml")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "127.9.9.9"])
def test_plain_text_to_loopback(tmp_path: Path, host: str) -> None:
    text = f'host = "h"\ncontroller = "{host}:1"\ninsecure = true\n'
    assert load_settings(write(tmp_path, text)).insecure


def test_a_journal_that_cannot_be_written_changes_nothing_or_says_so(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    journal = CommandJournal(tmp_path / "state/commands.journal")
    (tmp_path / "state/commands.journal").unlink()
    (tmp_path / "state").rmdir()
    with pytest.raises(FileNotFoundError):
        journal.write(ACCEPTED)
    assert journal.book.active is None
    # What has happened already has happened.
    journal.note(Finished(command_id="c1"))
    assert journal.book.finished == {"c1": ""}


def test_a_record_after_a_torn_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = Journal(path)
    journal.append([{"a": 1}])
    with path.open("ab") as file:
        file.write(b'{"b": ')
    journal.append([{"c": 3}])
    assert Journal.parse(path.read_bytes()) == ([{"a": 1}, {"c": 3}], "")


def test_settings_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    text = f'host = "a"\ncontroller = "127.0.0.1:1"\ninsecure = true\nstate_dir = "{tmp_path}"\n'
    path.write_text(text)
    plain = load_settings(path)
    path.write_text(f"\ufeff{text}")
    assert load_settings(path) == plain
