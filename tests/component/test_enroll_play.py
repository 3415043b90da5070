"""kernroll-boot and the agent are put on a machine over ssh; the join token is seen by nobody but the agent."""

import asyncio
import hashlib
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from grub_machine import RUNNING, grub_machine
from ssh_machine import SshMachine, ssh_machine

from controller.adapters.local.cache import Cache, no_progress
from controller.adapters.plays import enrolling
from controller.adapters.plays.bundle import Bundle, write_boot_program
from controller.adapters.plays.enrolling import Enrolling
from controller.adapters.plays.outcomes import HostOutcome, PlayEvent
from controller.adapters.plays.runner import Plays

TOKEN = "kr1.a-secret-of-this-test"
WAIT_S = 120.0


@pytest.fixture(scope="module")
def ssh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshMachine]:
    directory = tmp_path_factory.mktemp("ssh")
    with grub_machine(tmp_path_factory.mktemp("machine")) as machine, ssh_machine(machine, directory) as made:
        # No service manager runs there.
        made.put("/usr/local/bin/systemctl", '#!/bin/sh\necho "$@" >> /var/lib/systemctl\n')
        yield made


def enrolled(ssh: SshMachine, cache: Path, told: list[PlayEvent]) -> tuple[HostOutcome, HostOutcome, list[int]]:
    """Enroll the machine and one that is not there; return what became of both, and for how many a token was made."""
    inventory = cache / "inventory.json"
    hosts = {"a": ssh.variables(), "away": ssh.variables(ansible_port=1)}
    inventory.write_text(json.dumps({"all": {"hosts": hosts}}))
    made: list[int] = []

    def make_token(uses: int) -> str:
        made.append(uses)
        return TOKEN

    both = Enrolling(
        plays=Plays(inventory),
        cache=Cache(root=cache / "cache"),
        addresses=("10.0.0.5:7443", "10.0.0.5:7444"),
        make_token=make_token,
        timeout_s=WAIT_S,
        told=told.append,
        progress=no_progress,
    )
    asyncio.run(both.enroll(["a", "away"]))
    return both.found["a"], both.found["away"], made


def stub_bundle(directory: Path, agent: bytes = b"#!x") -> Any:
    """Return what makes a bundle with the real kernroll-boot and without the package index."""
    tree = directory / agent.hex()
    (tree / "bin").mkdir(parents=True)
    (tree / "bin" / "kernroll-agent").write_bytes(agent)
    write_boot_program(tree / "boot")
    path = directory / f"{agent.hex()}.tar.gz"
    with tarfile.open(path, mode="w:gz") as archive:
        for name in ("bin", "boot"):
            archive.add(tree / name, name)
    return lambda *_: Bundle(path=path, sha256=hashlib.sha256(path.read_bytes()).hexdigest(), compiled=False)


def test_a_host_is_enrolled_once_and_says_what_speaks_against_it(
    ssh: SshMachine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enrolling, "agent_bundle", stub_bundle(tmp_path))
    machine, told = ssh.machine, list[PlayEvent]()
    done, away, tokens = enrolled(ssh, tmp_path, told)
    assert (done.done, done.sentence, done.answer) == (True, "", {"enrolled": False, "refusals": []})
    assert (away.done, away.unreachable, tokens) == (False, True, [1])
    settings = machine.sh("cat /etc/kernroll/agent.toml")
    assert f'host = "a"\ncontroller = "10.0.0.5:7443"\nenroll = "10.0.0.5:7444"\njoin_token = "{TOKEN}"' in settings
    assert machine.sh("stat -c %a /etc/kernroll/agent.toml") == "600\n"
    assert machine.sh("cat /opt/kernroll/bin/kernroll-agent") == "#!x"
    started = machine.sh("cat /var/lib/systemctl").split()
    assert "enable kernroll-boot.socket restart kernroll-boot.socket" in " ".join(started)
    assert " ".join(started).endswith("enable kernroll-agent.service restart kernroll-agent.service")
    # systemd starts it for each request.
    assert "kernroll-boot@.service" not in started
    assert "kernroll-boot answer" in machine.sh("cat /etc/systemd/system/kernroll-boot@.service")
    asked = machine.sh('echo \'{"arguments": ["status"]}\' | /usr/local/sbin/kernroll-boot answer')
    assert json.loads(asked)["default"] == machine.entry_of(RUNNING)
    # kernroll-boot is real there, and the running kernel is pinned.
    state = json.loads(machine.sh("/usr/local/sbin/kernroll-boot status --output json"))
    assert (state["pinned"], state["default"]) == (True, machine.entry_of(RUNNING))
    assert TOKEN not in repr(told)
    found = machine.sh(f"grep -rls {TOKEN} /root /home /tmp /var /etc /opt /run || true")
    assert found == "/etc/kernroll/agent.toml\n"
    # The agent has enrolled meanwhile, and a newer token would make it do so again.
    machine.sh("mkdir -p /var/lib/kernroll; : > /var/lib/kernroll/enrollment.json")
    again, _, tokens = enrolled(ssh, tmp_path, told)
    assert (again.done, again.answer["enrolled"], tokens) == (True, True, [])
    assert machine.sh("cat /etc/kernroll/agent.toml") == settings
    before = machine.sh("readlink /usr/local/sbin/kernroll-boot")
    # Whatever of it is missing, it is whole again after another time.
    machine.sh("rm /usr/local/sbin/kernroll-boot")
    enrolled(ssh, tmp_path, told)
    after = machine.sh("readlink /usr/local/sbin/kernroll-boot")
    assert after != before
    monkeypatch.setattr(enrolling, "agent_bundle", stub_bundle(tmp_path, b"#!y"))
    assert enrolled(ssh, tmp_path, told)[0].done
    assert machine.sh("cat /opt/kernroll/bin/kernroll-agent") == "#!y"
    # A guard may run the version before; what is older is gone.
    kept = machine.sh("ls /usr/local/lib/kernroll-boot").split()
    assert len(kept) == 2
    assert after.split("/")[-3] in kept
    assert machine.sh("find /usr/local/lib/kernroll-boot/*/lib/agent/boot -name 'main.*.pyc'").count("main") == 2
    gone = asyncio.run(Plays(tmp_path / "inventory.json").run("unenroll.yml", ["a"], {}, timeout_s=WAIT_S))["a"]
    assert (gone.done, gone.sentence) == (True, "")
    assert machine.sh("ls /etc/systemd/system").split() == ["sysinit.target.wants"]
    assert machine.sh("ls /usr/local/lib").split().count("kernroll-boot") == 0
    assert machine.sh("ls /opt /etc/kernroll /usr/local/sbin; ls /var/lib/kernroll").split().count("kernroll") == 0
    assert machine.entry_of(RUNNING) == machine.environment()["saved_entry"]
