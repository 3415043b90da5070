"""Plays over a real ssh: what became of each host is told, nothing is left, and no secret is seen."""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from engine_parts import reached, walked
from grub_machine import bare_machine
from ssh_machine import OPERATOR, PASSWORD, SshMachine, ssh_machine

from controller.adapters.delivery.ansible.program import PlayedProgram
from controller.adapters.plays.leftovers import MARK
from controller.adapters.plays.outcomes import PlayEvent
from controller.adapters.plays.runner import Plays
from controller.domain.errors import InvalidInput, Permanent, Temporary
from controller.domain.record.journey import Step
from controller.services.engine.working import WorkJournal

KERNEL = "ab" * 32
SECRET = "kr1.a-secret-of-this-test"
# The stand-in says what it was asked, refuses, waits until it is let go, or fails when it does not run alone.
CANARY = "kr1.canary-of-this-test"
BOOT = (
    f"#!/bin/sh\nCANARY={CANARY}\n"
    + """
case "$1" in
status) echo "{\\"asked\\": \\"$*\\", \\"by\\": \\"$(id -un)\\"}" ;;
arm) echo "kernroll-boot: it is not proven that this host comes back, asked: $*" >&2; exit 1 ;;
revert) echo "{\\"asked\\": \\"$*\\"}" ;;
pin) timeout 20 sh -c 'echo begun > /run/begun; cat /run/go' ;;
reboot) echo "kernroll-boot: join_token=$CANARY, password: $CANARY, -----BEGIN OPENSSH PRIVATE KEY----- $CANARY" >&2
    exit 1 ;;
bless) mkdir /run/alone || exit 7; sleep 0.5; rmdir /run/alone; echo '{}' ;;
esac
"""
)
WAIT_S = 60.0
ROLLOUT = "trial"


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshMachine]:
    directory = tmp_path_factory.mktemp("ssh")
    with bare_machine(tmp_path_factory.mktemp("machine")) as machine, ssh_machine(machine, directory) as made:
        made.put("/usr/local/sbin/kernroll-boot", BOOT)
        machine.sh("mkfifo /run/begun /run/go")
        yield made


@pytest.fixture
def plays(one: SshMachine, tmp_path: Path) -> Plays:
    (tmp_path / "nobody_known").write_text("")
    unknown = f"-F none -o UserKnownHostsFile={tmp_path / 'nobody_known'}"
    hosts = {
        "a": one.variables(),
        "as-operator": one.variables(ansible_user=OPERATOR, ansible_become_password=PASSWORD),
        "wrong-password": one.variables(ansible_user=OPERATOR, ansible_become_password="wrong"),
        "closed": one.variables(ansible_port=1),
        "unknown-key": one.variables(ansible_ssh_common_args=unknown),
    }
    inventory = tmp_path / "inventory.json"
    inventory.write_text(json.dumps({"all": {"hosts": hosts}}))
    return Plays(inventory)


@contextlib.asynccontextmanager
async def waiting_play(one: SshMachine, plays: Plays) -> AsyncIterator[asyncio.Task[object]]:
    """Yield a play that waits on its host with a secret among its variables; let what waits go at the end."""
    told: list[PlayEvent] = []
    variables = {"kernroll_arguments": ["pin"], "kernroll_join_token": SECRET}
    play = asyncio.create_task(plays.run("boot.yml", ["a"], variables, timeout_s=WAIT_S, told=told.append))
    began = await asyncio.to_thread(one.machine.tool, "timeout", f"{WAIT_S:.0f}", "cat", "/run/begun")
    assert began == "begun\n"
    try:
        yield play
    finally:
        # Whoever waits to read it reads its end.
        one.machine.sh("exec 3<>/run/go")
    assert SECRET not in repr(told)


def environment(pid: int) -> bytes:
    """Return a process's environment; one that has ended has none."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/environ").read_bytes()
    return b""


def processes() -> dict[int, bytes]:
    """Return the processes that belong to a play of this test's, with their command lines; others may run elsewhere."""
    found = {}
    own = f"{_place()}/kernroll-play-".encode()
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            line = Path(f"/proc/{name}/cmdline").read_bytes()
            if f"{MARK}=".encode() + own in environment(int(name)) or own in line:
                found[int(name)] = line
    return found


def _place() -> Path:
    return Path("/tmp", f"kernroll-{os.getpid()}")


@pytest.fixture(autouse=True)
def nothing_is_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    place = _place()
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    yield
    assert list(place.iterdir()) == []
    place.rmdir()
    assert processes() == {}


async def test_each_host_gets_its_own_outcome(plays: Plays) -> None:
    told: list[PlayEvent] = []
    hosts = ["a", "as-operator", "closed", "unknown-key", "wrong-password", "nowhere"]
    found = await plays.run("boot.yml", hosts, {"kernroll_arguments": ["status"]}, timeout_s=WAIT_S, told=told.append)
    assert list(found) == hosts
    for host in ("a", "as-operator"):
        assert (found[host].done, found[host].sentence) == (True, "")
        assert found[host].answer == {"asked": "status --output json", "by": "root"}
    for host, sentence in (
        ("closed", "Connection refused"),
        ("unknown-key", "host key is not known here"),
        ("wrong-password", "password for sudo is wrong"),
        ("nowhere", "nowhere is not in the inventory"),
    ):
        assert not found[host].done
        assert sentence in found[host].sentence
    assert [host for host in hosts if found[host].unreachable] == ["closed", "unknown-key"]
    assert {(one.host, one.status) for one in told if one.task == "kernroll-boot"} == {
        ("a", "ok"),
        ("as-operator", "ok"),
        ("closed", "unreachable"),
        ("unknown-key", "unreachable"),
        ("wrong-password", "failed"),
    }


async def test_a_refusal_is_told_in_kernroll_boots_own_words(plays: Plays) -> None:
    asked = {
        "kernroll_command_id": "u/a/1.arm.0",
        "kernroll_kernel": KERNEL,
        "kernroll_boot_timeout_s": 600,
        "kernroll_probation_timeout_s": 900.0,
    }
    found = await plays.run("arm.yml", ["a"], asked, timeout_s=WAIT_S)
    assert found["a"].sentence == (
        f"it is not proven that this host comes back, asked: arm {KERNEL} --boot-timeout 600 --probation-timeout 900.0 "
        "--command-id u/a/1.arm.0 --output json"
    )
    assert not found["a"].unreachable
    found = await plays.run("revert.yml", ["a"], asked, timeout_s=WAIT_S)
    assert found["a"].answer["asked"] == f"revert {KERNEL} --reboot --command-id u/a/1.arm.0 --output json"


async def test_a_rollouts_log_tells_a_play_while_it_runs_and_no_secret(one: SshMachine, tmp_path: Path) -> None:
    parts = await walked(Step.STAGE)
    journal = WorkJournal(parts.engine, parts.clock, gather_s=0.0, look_s=0.05)
    inventory = tmp_path / "inventory.json"
    reached_as = one.variables(ansible_user=OPERATOR, ansible_become_password=PASSWORD)
    inventory.write_text(json.dumps({"all": {"hosts": {"a": reached_as}}}))
    program = PlayedProgram(Plays(inventory), journal)
    command = parts.attempt().command_id
    asking = asyncio.create_task(program.ask("a", "pin", f"--command-id={command}"))
    assert await asyncio.to_thread(one.machine.tool, "timeout", f"{WAIT_S:.0f}", "cat", "/run/begun") == "begun\n"
    await reached(lambda: journal.live["a"].step.startswith("by ssh: kernroll-boot"))
    began = await parts.operations.log(ROLLOUT, host="a")
    assert began.lines[-1].text == "by ssh, pin begins"
    parts.operations.working = journal.live
    under_way = (await parts.operations.log(ROLLOUT)).under_way
    assert [line.text for line in under_way] == ["by ssh: kernroll-boot"]
    one.machine.sh("exec 3<>/run/go; echo '{}' >&3")
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    with pytest.raises(Permanent, match="join_token=«hidden», password: «hidden», «hidden»"):
        await program.ask("a", "reboot", f"--command-id={command}")
    await journal.close()
    told = [line.text for line in (await parts.operations.log(ROLLOUT, host="a")).lines]
    assert told.index("by ssh, reboot begins") < len(told) - 2
    assert told[-2].startswith("  kernroll-boot: failed")
    assert told[-1].startswith("by ssh, reboot ends")
    everything = repr(parts.disk)
    assert not any(secret in everything for secret in (CANARY, PASSWORD, "canary"))
    assert (one.directory / "key").read_text().split()[5] not in everything
    await parts.engine.close()


async def test_what_cannot_be_run_is_told_before_a_host_is_touched(plays: Plays, tmp_path: Path) -> None:
    with pytest.raises(Permanent, match="nowhere is not in the inventory"):
        await plays.run("boot.yml", ["nowhere"], {"kernroll_arguments": ["status"]}, timeout_s=WAIT_S)
    (tmp_path / "broken.yml").write_text("- hosts: all\n  gather_facts: false\n  tasks:\n    - nosuchmodule: {}\n")
    with pytest.raises(Permanent, match=r"broken.yml: Ansible cannot run it: .*nosuchmodule"):
        await Plays(tmp_path / "inventory.json", playbooks=tmp_path).run("broken.yml", ["a"], {}, timeout_s=WAIT_S)
    with pytest.raises(InvalidInput, match="is no host name"):
        await plays.run("boot.yml", ["a:!b"], {}, timeout_s=WAIT_S)
    with pytest.raises(InvalidInput, match=r"nosuch\.yml: no such file"):
        await plays.run("nosuch.yml", ["a"], {}, timeout_s=WAIT_S)
    assert await plays.run("boot.yml", [], {}, timeout_s=WAIT_S) == {}


async def test_a_cancelled_play_leaves_nothing_and_showed_no_secret(one: SshMachine, plays: Plays) -> None:
    async with waiting_play(one, plays) as play:
        running = processes()
        assert len(running) > 2
        assert not any(SECRET.encode() in line for line in running.values())
        assert not any(SECRET.encode() in environment(pid) for pid in running)
        play.cancel()
        with pytest.raises(asyncio.CancelledError):
            await play
        assert processes() == {}


async def test_a_play_that_is_killed_leaves_hosts_unknown(one: SshMachine, plays: Plays) -> None:
    async with waiting_play(one, plays) as play:
        (program,) = [pid for pid, line in processes().items() if b"controller.adapters.plays.play" in line]
        os.kill(program, signal.SIGKILL)
        with pytest.raises(Temporary, match=r"signal 9 ended it.*a is not known"):
            await play
        assert processes() == {}


async def test_a_play_that_takes_too_long_is_ended(plays: Plays) -> None:
    with pytest.raises(Temporary, match="not done after 3 s and ended; what the play has done"):
        await plays.run("boot.yml", ["a"], {"kernroll_arguments": ["pin"]}, timeout_s=3)
    assert processes() == {}


async def test_a_host_has_one_play_at_a_time(plays: Plays) -> None:
    both = [plays.run("boot.yml", ["a"], {"kernroll_arguments": ["bless"]}, timeout_s=WAIT_S) for _ in range(2)]
    assert [found["a"].done for found in await asyncio.gather(*both)] == [True, True]
