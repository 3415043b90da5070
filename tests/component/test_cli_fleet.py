"""`kernroll fleet` and the changing verbs of `kernroll hosts` against a real controller on the loopback interface."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from engine_parts import Parts
from structlog.testing import capture_logs

from controller.adapters.local.clock import SystemClock
from controller.adapters.pki.certificates import open_authority
from controller.cli import output
from controller.cli.app import run
from controller.main import listen
from controller.services.agents.enrollment import Enrollment
from controller.services.agents.identity import Epochs
from controller.settings import Settings

Captured = pytest.CaptureFixture[str]


@dataclass(slots=True)
class Cli:
    """The command line as an operator uses it."""

    address: str
    capsys: Captured
    parts: Parts

    async def __call__(self, *arguments: str, code: int = 0) -> str:
        """Run a command; return what it printed, on standard error when it failed."""
        whole = ["--insecure", "--controller", self.address, *arguments]
        assert await asyncio.to_thread(run, whole) == code, self.capsys.readouterr()
        printed = self.capsys.readouterr()
        return printed.err if code else printed.out


@pytest.fixture
async def cli(tmp_path: Path, capsys: Captured) -> AsyncIterator[Cli]:
    # The controller's log would be printed among the commands' output.
    with capture_logs():
        async for one in serving(tmp_path, capsys):
            yield one


async def serving(tmp_path: Path, capsys: Captured) -> AsyncIterator[Cli]:
    parts = await Parts().start()
    authority = open_authority(tmp_path / "authority", SystemClock().now())
    address = f"127.0.0.1:{_free_port()}"
    settings = Settings(
        state_dir=tmp_path, listen=address, enroll_listen=f"127.0.0.1:{_free_port()}", insecure_plaintext=True
    )
    enrollment = Enrollment(parts.store, authority, parts.clock)
    servers = await listen(
        settings, authority, parts.clock, Epochs(parts.store, 1), (parts.sessions, parts.operations, enrollment)
    )
    for name in ("a", "b"):
        await parts.connect(name)
    yield Cli(address, capsys, parts)
    for server in servers:
        await server.stop(None)
    await parts.engine.close()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


async def test_freeze_status_thaw(cli: Cli) -> None:
    assert (await cli("fleet", "status")).splitlines() == [
        "2 hosts enrolled, 2 connected.",
        "Not frozen: rollouts admit hosts.",
    ]
    shown = await cli("fleet", "freeze", "--remark", "incident 4711")
    assert (
        shown.splitlines()[1] == "FROZEN until it is thawed, by operator since 1970-01-01 00:16:40 UTC: incident 4711"
    )
    assert json.loads(await cli("fleet", "status", "-o", "json"))["freeze"]["remark"] == "incident 4711"
    await cli("fleet", "thaw", "--remark", "over")
    assert "the fleet is not frozen" in await cli("fleet", "thaw", code=6)


async def test_a_freeze_ends_at_its_time(cli: Cli) -> None:
    shown = await cli("fleet", "freeze", "--remark", "close", "--until", "2027-01-04T08:00+01:00")
    assert "FROZEN until 2027-01-04 07:00:00 UTC, by operator" in shown
    cli.parts.clock.at = 1_799_046_000.0
    assert "Not frozen" in await cli("fleet", "status")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--until", "2027-01-04T08:00"), "does not say in which offset from UTC; write 2027-01-04T08:00+01:00"),
        (("--until", "tomorrow"), "'tomorrow' is not a time such as 2027-01-04T08:00+01:00"),
        (("--until", "2027-01-04T08:00Z", "--for", "3h"), "give one of them"),
        (("--until", "1970-01-01T00:00Z"), "its end must be ahead"),
    ],
)
async def test_a_senseless_end_is_refused(cli: Cli, options: tuple[str, ...], said: str) -> None:
    assert said in await cli("fleet", "freeze", "--remark", "x", *options, code=3)


async def test_labels_are_set_and_taken_back(cli: Cli) -> None:
    assert await cli("hosts", "label", "a", "zone=b", "rack=r12") == "a: rack=r12, zone=b\n"
    assert await cli("hosts", "label", "a", "rack-") == "a: zone=b\n"
    assert "Labels" in (shown := await cli("hosts", "show", "a"))
    assert "zone=b" in shown
    assert "'rack' is neither KEY=VALUE nor KEY-" in await cli("hosts", "label", "a", "rack", code=3)
    assert "set and taken back at the same time" in await cli("hosts", "label", "a", "zone=c", "zone-", code=3)
    assert "no host z has enrolled" in await cli("hosts", "label", "z", "zone=c", code=5)


async def test_quarantine_and_release(cli: Cli) -> None:
    shown = await cli("hosts", "quarantine", "a", "--remark", "memory errors")
    assert "memory errors" in shown
    assert "by operator: memory errors" in await cli("hosts", "show", "a")
    assert "in quarantine" in (await cli("hosts", "list")).splitlines()[1]
    assert "quarantined already" in await cli("hosts", "quarantine", "a", "--remark", "again", code=6)
    assert "QUARANTINED" not in await cli("hosts", "release", "a")


async def test_kernels_are_denied_and_allowed(cli: Cli) -> None:
    digest = "3f9a0c6d21be" + "0" * 52
    await cli("hosts", "deny", digest, "--remark", "built without the fix")
    await cli("hosts", "deny", "7.1.*", "--where", 'arch == "arm64"', "--remark", "hangs")
    lines = (await cli("hosts", "denied")).splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["3f9a0c6d21be", "all"], ["7.1.*", "arch"]]
    assert json.loads(await cli("hosts", "denied", "-o", "json"))["denials"][0]["kernel"] == digest
    # As the table shows it.
    await cli("hosts", "allow", "3f9a0c6d21be", "--remark", "rebuilt")
    await cli("hosts", "allow", "7.1.*", "--remark", "fixed")
    assert await cli("hosts", "denied") == "No kernel is denied.\n"
    assert "no rule denies 7.1.*" in await cli("hosts", "allow", "7.1.*", "--remark", "x", code=5)
    wrong = await cli("hosts", "deny", "7.1.*", "--where", 'arch = "arm64"', "--remark", "hangs", code=3)
    assert wrong.splitlines()[0].startswith("kernroll: where: column 6: a comparison is written with two signs")


async def test_hosts_are_listed_by_expression(cli: Cli) -> None:
    await cli("hosts", "label", "a", "tier=db")
    found = json.loads(await cli("hosts", "list", "--where", 'arch == "x86_64"', "-o", "json"))
    assert [one["name"] for one in found["hosts"]] == ["a", "b"]
    found = json.loads(await cli("hosts", "list", "--where", 'labels.tier == "db"', "-o", "json"))
    assert [one["name"] for one in found["hosts"]] == ["a"]
    assert found["notes"] == ["b has no label tier: left out."]
    assert (await cli("hosts", "list", "--where", "memory < MiB(1)")) == "No enrolled host matches.\n"
    listed = await cli("hosts", "list", "--where", "memory == GiB(2)", "-l", "tier=db")
    assert [line.split()[0] for line in listed.splitlines()] == ["HOST", "a"]


async def test_a_wrong_expression_is_shown_with_its_place(cli: Cli) -> None:
    assert (await cli("hosts", "list", "--where", 'archx == "arm64"', code=3)).splitlines() == [
        "kernroll: where: column 1: archx is no fact of a host; did you mean arch?",
        '  archx == "arm64"',
        "  ^",
    ]


def test_the_facts_are_listed_without_a_controller(capsys: Captured) -> None:
    assert run(["hosts", "facts"]) == 0
    assert "swap_backends list of texts" in " ".join(capsys.readouterr().out.split())
    assert run(["hosts", "facts", "-o", "json"]) == 0
    facts = json.loads(capsys.readouterr().out)["facts"]
    assert {"name": "memory", "type": "number", "meaning": "bytes"} in facts


def test_a_table_of_very_many_hosts_is_aligned(capsys: Captured) -> None:
    output.show_rows(("NAME", "SIZE"), [(f"host-{number}", str(number)) for number in range(1000)], frozenset({"SIZE"}))
    lines = capsys.readouterr().out.splitlines()
    assert (lines[0], lines[1], lines[1000]) == ("NAME      SIZE", "host-0       0", "host-999   999")


INVENTORY = {
    "_meta": {"hostvars": {"a": {"zone": "z1"}, "b": {"hypervisor": "a"}, "later": {"rack": "r9"}}},
    "all": {"children": ["ungrouped"]},
}


async def test_an_inventory_is_imported_and_shows_what_it_changes(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "site.json"
    file.write_text(json.dumps(INVENTORY))
    diff = ["+ a: zone=z1", "+ b: hypervisor=a", "+ later (not enrolled): rack=r9"]
    told = ["site.json: 3 added, 0 changed, 0 removed, 0 unchanged.", "later is expected and has not enrolled."]
    dry = await cli("hosts", "import", str(file), "--dry-run")
    assert dry.splitlines() == [*diff, *told, "Nothing was changed: this was a dry run."]
    assert cli.parts.disk.log == []
    assert (await cli("hosts", "import", str(file))).splitlines() == [*diff, *told]
    found = json.loads(await cli("hosts", "list", "--where", 'zone == "z1" || hypervisor == "a"', "-o", "json"))
    assert [one["name"] for one in found["hosts"]] == ["a", "b"]
    assert "Expected by an inventory and not enrolled: later." in await cli("fleet", "status")
    # The same again changes nothing and leaves no record.
    again = await cli("hosts", "import", str(file))
    assert again.splitlines()[0] == "site.json: 0 added, 0 changed, 0 removed, 3 unchanged."
    assert len(cli.parts.disk.log) == 1
    refused = await cli("hosts", "import", str(file), "--name", "other", code=3)
    assert "other: a is in the inventory site.json already" in refused
    # A host that has not enrolled may be labelled and quarantined beforehand.
    assert await cli("hosts", "label", "later", "tier=db") == "later: rack=r9, tier=db\n"
    await cli("hosts", "quarantine", "later", "--remark", "not yet burnt in")


async def test_hosts_that_cannot_be_read_are_told_and_the_others_are_imported(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "site.json"
    file.write_text(json.dumps(INVENTORY))
    await cli("hosts", "import", str(file))
    changed = {"a": {"zone": "{{ row }}"}, "b": {"hypervisor": "later"}, "later": None}
    file.write_text(json.dumps({"_meta": {"hostvars": changed}, "münchen": {"hosts": ["b"]}}))
    told = await cli("hosts", "import", str(file), code=3)
    assert "host a: zone: must be one value, not a template" in told
    assert "group münchen: b is taken without a label" in told
    assert "a could not be read, as told above: what is known of them stays, the other hosts are taken" in told
    found = json.loads(await cli("hosts", "list", "--where", 'zone == "z1" || hypervisor == "later"', "-o", "json"))
    assert [one["name"] for one in found["hosts"]] == ["a", "b"]


async def test_an_inventory_without_hosts_is_refused(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "empty.json"
    file.write_text('{"_meta": {"hostvars": {}}}')
    assert "names no host" in await cli("hosts", "import", str(file), code=3)


async def test_the_record_tells_who_decided_what_and_why(cli: Cli) -> None:
    assert await cli("fleet", "log") == "Nobody has decided anything yet.\n"
    await cli("hosts", "label", "a", "tier=db", "zone=x")
    await cli("hosts", "label", "a", "zone-")
    await cli("hosts", "quarantine", "a", "--remark", "memory errors")
    await cli("hosts", "release", "a")
    await cli("hosts", "deny", "7.1.*", "--where", 'arch == "arm64"', "--remark", "hangs")
    await cli("hosts", "allow", "7.1.*", "--remark", "fixed")
    await cli("fleet", "freeze", "--remark", "close", "--until", "2027-01-04T08:00+01:00")
    await cli("fleet", "thaw")
    told = [one["sentence"] for one in json.loads(await cli("fleet", "log", "-o", "json"))["decisions"]]
    assert told == [
        "labelled a: tier=db, zone=x",
        "labelled a: zone taken back",
        "quarantined a: memory errors",
        "released a",
        'denied 7.1.* where arch == "arm64": hangs',
        "allowed 7.1.*: fixed",
        "froze the fleet until 2027-01-04 07:00:00 UTC: close",
        "thawed the fleet",
    ]
    assert (await cli("fleet", "log", "--last", "1")).splitlines()[1].split()[-3:] == ["thawed", "the", "fleet"]
