"""`kernroll hosts rehearse` against an operator service, with plays in Ansible's place."""

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from engine_parts import host
from operator_server import OperatorServer, operator_server
from own_boot import own_boot

from controller.adapters.local.clock import SystemClock
from controller.adapters.plays import rehearsing
from controller.adapters.plays.outcomes import HostOutcome
from controller.adapters.plays.rehearsing import Rehearsals
from controller.adapters.plays.runner import Plays
from controller.adapters.plays.sharding import Together
from controller.adapters.rpc.messages import to_message
from controller.cli.app import run
from controller.cli.exit_codes import ExitCode
from controller.domain.errors import NotFound, Temporary
from controller.views.hosts.listing import host_view
from controller.views.hosts.rehearsing import RehearsalView
from controller.views.models import HostView
from protos.kernroll.v1 import operator_pb2 as pb

NAMES = ("b-1", "b-2", "p-1")
INVENTORY = {
    "all": {"children": ["berlin", "paris"]},
    "berlin": {"hosts": ["b-1", "b-2"]},
    "paris": {"hosts": ["p-1"]},
    "_meta": {"hostvars": {name: {} for name in NAMES}},
}
CUT = "cannot be reached: Connection to b-1 closed by remote host."


@dataclass
class Fleet:
    """Hosts as the controller knows them, which come back or not as a test says."""

    known: dict[str, HostView] = field(default_factory=dict)
    # Host -> what is heard of it after its reboot, one a look; the last stays.
    after: dict[str, list[HostView]] = field(default_factory=dict)
    # Host and verb -> what its play says instead of being done.
    plays: dict[tuple[str, str], list[HostOutcome | Exception]] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    down: set[str] = field(default_factory=set)
    most_down: int = 0

    def get(self, request: Any) -> pb.Host:
        """Answer GetHost."""
        coming = self.after.get(request.name, [])
        if request.name in self.down and coming:
            self.known[request.name] = coming.pop(0)
            if not coming:
                self.down.discard(request.name)
        return to_message(self.known[request.name], pb.Host)

    def list(self, _request: Any) -> pb.ListHostsResponse:
        """Answer ListHosts."""
        return pb.ListHostsResponse(hosts=[to_message(one, pb.Host) for one in self.known.values()])

    async def play(self, name: str, verb: str) -> HostOutcome:
        """Stand for a play of boot.yml."""
        self.asked.append((name, verb))
        one: HostOutcome | Exception
        if said := self.plays.get((name, verb)):
            one = said.pop(0)
            if isinstance(one, HostOutcome) and not one.unreachable:
                return one
        else:
            one = HostOutcome(host=name, done=True, unreachable=False, task="kernroll-boot", sentence="")
        if verb == "reboot":
            self.down.add(name)
            self.most_down = max(self.most_down, len(self.down))
        if isinstance(one, Exception):
            raise one
        return one


def seen(name: str, boot_id: str = "one", **boot: Any) -> HostView:
    told = own_boot(name, **{"proven_at": None, "boots_by": "", "refusals": (), **boot})
    return host_view(replace(host(name), boot_id=boot_id, connected=True, boot=told))


def back(name: str) -> HostView:
    return seen(name, "two", proven_at=1_772_366_405.0, boots_by="loader 5370, firmware SeaBIOS 1.16")


def refused(name: str, sentence: str, code: str = "refused") -> HostOutcome:
    answer = {"error": sentence, "code": code}
    return HostOutcome(host=name, done=False, unreachable=False, task="kernroll-boot", sentence=sentence, answer=answer)


def cut(name: str) -> HostOutcome:
    return HostOutcome(host=name, done=False, unreachable=True, task="kernroll-boot", sentence=CUT)


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Fleet:
    made = Fleet(known={name: seen(name) for name in NAMES}, after={name: [back(name)] for name in NAMES})

    async def play(
        _: Plays, playbook: str, hosts: Sequence[str], variables: Mapping[str, Any], **_options: Any
    ) -> Mapping[str, HostOutcome]:
        assert playbook == "boot.yml"
        (verb,) = variables["kernroll_arguments"]
        return {name: await made.play(name, verb) for name in hosts}

    monkeypatch.setattr(Plays, "run", play)
    monkeypatch.setattr(rehearsing, "_LOOK_S", 0.0)
    monkeypatch.setattr(rehearsing, "_BUSY_PAUSE_S", 0.0)
    return made


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorServer]:
    with operator_server(tmp_path_factory.mktemp("controller"), SystemClock().now()) as made:
        yield made


class Cli:
    """The command line as an operator uses it."""

    def __init__(self, server: OperatorServer, inventory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.server = server
        self._inventory = inventory
        self._capsys = capsys

    def rehearse(self, *words: str) -> tuple[int, str, str]:
        """Return the exit code and what was printed, on standard output and standard error."""
        shared = ["--controller", self.server.address, "--client-dir", str(self.server.client_dir)]
        code = run(["hosts", "rehearse", "-i", str(self._inventory), *shared, "--wait", "30s", *words])
        printed = self._capsys.readouterr()
        return code, printed.out, printed.err


@pytest.fixture
def cli(shared: OperatorServer, fleet: Fleet, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    shared.answers.clear()
    shared.answers.update({"ListHosts": fleet.list, "GetHost": fleet.get})
    inventory = tmp_path / "inventory.json"
    inventory.write_text(json.dumps(INVENTORY))
    return Cli(shared, inventory, capsys)


def rows(out: str) -> dict[str, str]:
    return {line.split()[0]: " ".join(line.split()[1:]) for line in out.splitlines()[1:]}


def outcomes(out: str) -> dict[str, str]:
    return {one["name"]: one["outcome"] for one in json.loads(out)["hosts"]}


def test_hosts_come_back_one_after_the_other(cli: Cli, fleet: Fleet) -> None:
    code, out, err = cli.rehearse()
    assert code == 0
    assert all(
        row.startswith("proven ") and row.endswith("by loader 5370, firmware SeaBIOS 1.16")
        for row in rows(out).values()
    )
    assert fleet.asked == [(name, verb) for name in NAMES for verb in ("pin", "rehearse", "reboot")]
    assert fleet.most_down == 1
    told = [line for line in err.splitlines() if line.startswith("b-1: ")]
    assert told == [
        "b-1: pin: done",
        "b-1: rehearse: done",
        "b-1: reboots, and is waited for 30 s",
        "b-1: proven, by loader 5370, firmware SeaBIOS 1.16",
    ]


def test_an_ssh_that_is_cut_by_the_reboot_is_no_failure(cli: Cli, fleet: Fleet) -> None:
    fleet.plays["b-1", "reboot"] = [cut("b-1")]
    fleet.after["b-1"] = [seen("b-1"), seen("b-1", "two"), back("b-1")]
    code, out, err = cli.rehearse("b-1", "--output", "json")
    assert (code, outcomes(out)) == (0, {"b-1": "proven"})
    assert json.loads(out)["hosts"][0]["proven_at"] == "2026-03-01T12:00:05.000Z"
    assert f"b-1: reboots, and is waited for 30 s ({CUT})" in err
    assert "b-1: is back; its proof is awaited" in err


def test_a_play_that_hangs_on_the_reboot_is_no_failure_either(cli: Cli, fleet: Fleet) -> None:
    fleet.plays["b-1", "reboot"] = [Temporary("boot.yml: not done after 180 s and ended")]
    code, out, _ = cli.rehearse("b-1")
    assert (code, rows(out)["b-1"].split()[0]) == (0, "proven")


def test_a_host_that_never_comes_back_stops_the_others(cli: Cli, fleet: Fleet) -> None:
    fleet.after["b-1"] = [seen("b-1")]
    fleet.plays["b-1", "reboot"] = [cut("b-1")]
    code, out, err = cli.rehearse("--wait", "0s", "--output", "json")
    assert code == ExitCode.FAILURE
    assert outcomes(out) == {"b-1": "not back", "b-2": "not begun", "p-1": "not begun"}
    first, second, _ = json.loads(out)["hosts"]
    assert "look at its console" in first["sentence"] and f"(its reboot said: {CUT})" in first["sentence"]
    assert second["sentence"] == "not before b-1 is understood; --keep-going goes on all the same"
    assert "b-1: not back: not heard of" in err
    assert not any(name == "b-2" for name, _ in fleet.asked)


def test_keep_going_goes_on_after_one_that_does_not_come_back(cli: Cli, fleet: Fleet) -> None:
    fleet.after["b-1"] = [seen("b-1", "two", rehearsal_failed="the loader did not clear what was armed")]
    code, out, _ = cli.rehearse("--keep-going", "--output", "json")
    assert code == ExitCode.FAILURE
    assert outcomes(out) == {"b-1": "not proven", "b-2": "proven", "p-1": "proven"}
    assert json.loads(out)["hosts"][0]["sentence"] == "it came back, and the loader did not clear what was armed"


def test_as_many_as_asked_for_are_down_at_a_time(cli: Cli, fleet: Fleet) -> None:
    # None comes back before all are down.
    cli.server.answers["GetHost"] = lambda request: to_message(
        back(request.name) if fleet.most_down == len(NAMES) else fleet.known[request.name], pb.Host
    )
    code, out, _ = cli.rehearse("--at-a-time", "3", "--output", "json")
    assert (code, set(outcomes(out).values())) == (0, {"proven"})


def test_a_host_that_a_rollout_holds_is_left_alone_and_the_others_are_not(cli: Cli, fleet: Fleet) -> None:
    fleet.known["b-1"] = replace(seen("b-1"), rollout="trial", step="bake")
    code, out, err = cli.rehearse("--output", "json")
    assert code == ExitCode.FAILURE
    assert outcomes(out) == {"b-1": "not rebooted", "b-2": "proven", "p-1": "proven"}
    assert err.startswith("b-1: not rebooted: trial holds it, at bake: wait until that has ended")
    assert not any(name == "b-1" for name, _ in fleet.asked)


def test_a_rollout_that_takes_the_host_meanwhile_keeps_it(cli: Cli, fleet: Fleet) -> None:
    held = replace(seen("b-2"), rollout="trial", step="baseline")
    cli.server.answers["GetHost"] = lambda request: (
        to_message(held, pb.Host) if request.name == "b-2" else fleet.get(request)
    )
    code, out, _ = cli.rehearse("--limit", "berlin", "--output", "json")
    assert (code, outcomes(out)) == (ExitCode.FAILURE, {"b-1": "proven", "b-2": "not rebooted"})
    assert not any(name == "b-2" for name, _ in fleet.asked)


@pytest.mark.parametrize("verb", ["pin", "rehearse", "reboot"])
def test_a_refusal_is_told_in_the_hosts_own_words(cli: Cli, fleet: Fleet, verb: str) -> None:
    why = "the menu waits (set GRUB_TIMEOUT)"
    fleet.plays["b-1", verb] = [refused("b-1", why)]
    code, out, _ = cli.rehearse("--limit", "berlin")
    assert code == ExitCode.FAILURE
    assert rows(out)["b-1"].startswith("not rebooted ") and rows(out)["b-1"].endswith(f"{verb}: {why}")
    assert rows(out)["b-2"].startswith("proven")


def test_a_host_that_is_busy_is_asked_again(cli: Cli, fleet: Fleet) -> None:
    fleet.plays["b-1", "pin"] = [refused("b-1", "another one is at work", "busy")]
    code, _, _ = cli.rehearse("b-1")
    assert code == 0
    assert [verb for _, verb in fleet.asked] == ["pin", "pin", "rehearse", "reboot"]


def test_a_controller_that_is_away_meanwhile_is_waited_for(fleet: Fleet) -> None:
    looks: list[str] = []

    def look(name: str) -> HostView:
        looks.append(name)
        if len(looks) == 2:
            raise Temporary("no controller answers")
        return fleet.known[name] if len(looks) == 1 else back(name)

    found = rehearsed(look)
    assert (found.outcome, len(looks)) == ("proven", 3)


def test_a_controller_that_stays_away_or_forgets_the_host_is_told(fleet: Fleet) -> None:
    for error, words in (
        (Temporary("no controller answers"), "; no controller answers"),
        (NotFound("no host b-1 has enrolled"), "it was rebooted, and no host b-1 has enrolled"),
    ):
        first = [fleet.known["b-1"]]

        def look(_: str, first: list[HostView] = first, error: Exception = error) -> HostView:
            if first:
                return first.pop()
            raise error

        found = rehearsed(look, wait_s=0.0)
        assert found.outcome == "not back"
        assert found.sentence.endswith(words)


def rehearsed(look: Callable[[str], HostView], wait_s: float = 60.0) -> RehearsalView:
    plays = Together(plays=Plays(Path("hosts")), timeout_s=1.0, forks=1, gather_s=0.0)
    rehearsals = Rehearsals(plays=plays, look=look, told=lambda *_: None, wait_s=wait_s)
    found: dict[str, RehearsalView] = {}
    asyncio.run(rehearsals.all_of(["b-1"], at_a_time=1, keep_going=False, found=found))
    return found["b-1"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("rome-1",), "rome-1 is not in it"),
        (("--limit", "paris", "b-1"), "b-1 is not among the hosts of --limit"),
        (("--limit", "rome"), "--limit rome names no host of it"),
    ],
)
def test_what_is_wrong_is_told_before_a_host_is_touched(
    cli: Cli, fleet: Fleet, words: tuple[str, ...], sentence: str
) -> None:
    code, _, err = cli.rehearse(*words)
    assert code == ExitCode.INPUT
    assert sentence in err
    assert fleet.asked == []
