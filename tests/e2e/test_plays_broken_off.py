"""Plays that are broken off at any moment: no host is left half done unnoticed, and none has two plays at one time."""

import asyncio
import contextlib
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from crafted_kernels import CraftedKernel, crafted_kernel
from grub_machine import RUNNING
from packaged_machine import KERNEL, packaged_machine, staging
from project import ROOT
from ssh_machine import SshMachine

from controller.adapters.plays.outcomes import HostOutcome
from controller.adapters.plays.runner import Plays

pytestmark = pytest.mark.e2e

SEED = int(os.environ.get("KERNROLL_SEED", "20261130"))
DRAWS = int(os.environ.get("KERNROLL_DRAWS", "30"))
WAIT_S = 300.0
NEW = "99.9.9-test"
# What changes packages or what boots is not done by two at one time. Whoever finds another at work writes that down.
ALONE = """#!/bin/sh
mkdir /run/alone 2>/dev/null || echo "$0 $*" >> /run/overlaps
if [ -e /run/hold ]; then rm /run/hold; echo begun > /run/begun; timeout 60 cat /run/go > /dev/null; fi
REAL "$@"
code=$?
rmdir /run/alone 2>/dev/null
exit $code
"""


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshMachine]:
    with packaged_machine(tmp_path_factory) as made:
        made.machine.sh(
            "mkfifo /run/begun /run/go; rm /usr/local/sbin/kernroll-boot; "
            # Where no enrolment clears away what it did not bring.
            "cp -r /usr/local/lib/kernroll-boot /opt/kernroll-boot; "
            "ln -s /opt/kernroll-boot/bin/kernroll-boot /usr/local/sbin/kernroll-boot.real"
        )
        made.put("/usr/local/sbin/apt-get", ALONE.replace("REAL", "/usr/bin/apt-get"))
        for place in ("/usr/local/bin", "/usr/bin"):
            # Found by the one as PATH says, and by kernroll-boot where a system has it.
            made.put(f"{place}/systemctl", "#!/bin/sh\n")
        inventory = made.directory / "inventory.json"
        inventory.write_text(json.dumps({"all": {"hosts": {"a": made.variables()}}}))
        yield made


@pytest.fixture
def ssh(one: SshMachine) -> SshMachine:
    one.machine.restore()
    one.machine.sh("rm -rf /run/alone /run/overlaps /run/hold; mkdir -p /sys/module")
    one.put("/usr/local/sbin/kernroll-boot", '#!/bin/sh\nexec /usr/local/sbin/kernroll-boot.real "$@"\n')
    return one


@pytest.fixture
def kernel(tmp_path: Path) -> CraftedKernel:
    return slow_kernel(tmp_path)


def slow_kernel(directory: Path) -> CraftedKernel:
    """Make one that takes a while to install, so that many moments fall into it."""
    return crafted_kernel(directory, NEW, postinst="#!/bin/sh\nset -e\nsleep 3\nupdate-grub\n")


def inventory(ssh: SshMachine) -> Path:
    return ssh.directory / "inventory.json"


async def play(ssh: SshMachine, playbook: str, variables: Mapping[str, Any]) -> HostOutcome:
    return (await Plays(inventory(ssh)).run(playbook, ["a"], variables, timeout_s=WAIT_S))["a"]


def players(place: str) -> list[int]:
    """Return the processes of plays whose directories are below `place`."""
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            told = Path(f"/proc/{name}/environ").read_bytes() + Path(f"/proc/{name}/cmdline").read_bytes()
            if f"{place}/kernroll-play-".encode() in told:
                found.append(int(name))
    return found


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    made = Path("/tmp", f"kernroll-{os.getpid()}")
    made.mkdir(exist_ok=True)
    monkeypatch.setattr("tempfile.tempdir", str(made))
    yield str(made)
    assert list(made.iterdir()) == []
    assert players(str(made)) == []
    made.rmdir()


@pytest.fixture(scope="module")
def whole_s(one: SshMachine, tmp_path_factory: pytest.TempPathFactory) -> float:
    """How long an undisturbed staging takes: moments are drawn from it."""
    one.machine.sh("mkdir -p /sys/module")
    one.put("/usr/local/sbin/kernroll-boot", '#!/bin/sh\nexec /usr/local/sbin/kernroll-boot.real "$@"\n')
    staged = staging(slow_kernel(tmp_path_factory.mktemp("kernel")))
    began = time.monotonic()
    assert asyncio.run(play(one, "stage.yml", staged)).done
    return time.monotonic() - began


@pytest.mark.parametrize("draw", range(DRAWS))
async def test_staging_cancelled_at_a_drawn_moment_ends_as_if_it_had_not_been(
    ssh: SshMachine, kernel: CraftedKernel, place: str, whole_s: float, draw: int
) -> None:
    moment_s = random.Random(f"{SEED}/{draw}").uniform(0.0, whole_s)
    told = f"KERNROLL_SEED={SEED}, draw {draw}: cancelled after {moment_s:.2f} of {whole_s:.2f} s"
    staged = asyncio.create_task(play(ssh, "stage.yml", staging(kernel)))
    await asyncio.wait({staged}, timeout=moment_s)
    staged.cancel()
    await asyncio.gather(staged, return_exceptions=True)
    assert players(place) == [], told
    # What is half done there now is told.
    looked = await play(ssh, "preflight.yml", {})
    codes = {str(one["code"]) for one in looked.answer.get("refusals", ())} & {"packages-locked", "packages-unfinished"}
    print(f"{told}; then: {', '.join(sorted(codes)) or 'nothing half done'}")
    again = await play(ssh, "stage.yml", staging(kernel))
    assert (again.done, again.sentence) == (True, ""), told
    state = json.loads(ssh.machine.sh("kernroll-boot.real status --output json"))
    assert (state["kernels"][KERNEL], state["default"]) == (NEW, ssh.machine.entry_of(RUNNING)), told
    assert ssh.machine.sh("dpkg --audit; cat /run/overlaps 2>/dev/null || true") == "", told


class Player:
    """A program that plays, as a controller's, and is killed in the middle."""

    def __init__(self, ssh: SshMachine, place: str, playbook: str, variables: Mapping[str, Any]) -> None:
        asked = {"inventory": str(inventory(ssh)), "playbook": playbook, "host": "a", "variables": dict(variables)}
        self._process = subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "support" / "playing.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": place},
        )
        assert self._process.stdin is not None
        json.dump({**asked, "timeout_s": WAIT_S}, self._process.stdin)
        self._process.stdin.close()
        # communicate() must not flush what is closed.
        self._process.stdin = None

    def kill(self) -> None:
        """End it as the machine's own killer would."""
        self._process.send_signal(signal.SIGKILL)
        self._process.communicate()

    def end(self) -> dict[str, Any]:
        """Return what became of the host."""
        told, _ = self._process.communicate(timeout=WAIT_S)
        found: dict[str, Any] = json.loads(told)
        return found


def variables_of(verb: str, kernel: CraftedKernel) -> Mapping[str, Any]:
    command = {"kernroll_command_id": f"u/a/1.{verb}.0"}
    match verb:
        case "stage":
            return staging(kernel)
        case "arm":
            limits = {"kernroll_boot_timeout_s": 600, "kernroll_probation_timeout_s": 900}
            return {**command, "kernroll_kernel": KERNEL, **limits}
        case "bless" | "revert":
            # What runs is the default already: done at once, and without a reboot.
            return {**command, "kernroll_kernel": "cd" * 32}
        case _:
            return {
                "kernroll_controller": "c:1",
                "kernroll_enroll": "c:2",
                "kernroll_join_token": "kr1.a-token-of-this-test",
                "kernroll_bundles": {f"x86_64-{python()}": stub_bundle(kernel.path.parent)},
                "kernroll_units": {"kernroll-agent.service": "[Unit]\n"},
            }


def python() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def stub_bundle(directory: Path) -> dict[str, Any]:
    (directory / "x").write_text("#!x")
    program = directory / "boot-program"
    program.write_text(ALONE.replace("REAL", "/usr/local/sbin/kernroll-boot.real"))
    program.chmod(0o755)
    with tarfile.open(directory / "agent.tar.gz", "w:gz") as archive:
        archive.add(directory / "x", "bin/kernroll-agent")
        archive.add(program, "boot/bin/kernroll-boot")
    digest = hashlib.sha256((directory / "agent.tar.gz").read_bytes()).hexdigest()
    return {"path": str(directory / "agent.tar.gz"), "sha256": digest, "compiled": True}


@pytest.mark.parametrize("verb", ["stage", "arm", "bless", "revert", "enroll"])
async def test_a_controller_that_is_killed_in_the_middle_leaves_no_second_play(
    ssh: SshMachine, kernel: CraftedKernel, place: str, verb: str
) -> None:
    machine = ssh.machine
    machine.sh("kernroll-boot pin; kernroll-boot rehearse")
    machine.reboot()
    machine.sh(f"kernroll-boot rehearse; kernroll-boot staged {'cd' * 32} {RUNNING}")
    if verb == "arm":
        assert (await play(ssh, "stage.yml", staging(kernel))).done
    if verb != "stage":
        ssh.put("/usr/local/sbin/kernroll-boot", ALONE.replace("REAL", "/usr/local/sbin/kernroll-boot.real"))
    machine.sh("rm -rf /run/alone; touch /run/hold")
    first = Player(ssh, place, f"{verb}.yml", variables_of(verb, kernel))
    begun = await asyncio.to_thread(machine.tool, "timeout", f"{WAIT_S:.0f}", "cat", "/run/begun")
    assert begun == "begun\n"
    before = players(place)
    first.kill()
    # Another controller starts at once: what is left of the play here is ended before it plays itself.
    second = Player(ssh, place, f"{verb}.yml", variables_of(verb, kernel))
    if verb in ("stage", "enroll"):
        # The module that is at work on the host still keeps the next one waiting.
        machine.sh("sleep 3; exec 3<>/run/go; echo >&3")
    else:
        # kernroll-boot itself is not begun yet; another asks it meanwhile.
        machine.sh("rmdir /run/alone; exec 3<>/run/go; echo >&3")
    found = await asyncio.to_thread(second.end)
    while found["answer"].get("code") == "busy":
        # As a controller does, a little later.
        found = await asyncio.to_thread(Player(ssh, place, f"{verb}.yml", variables_of(verb, kernel)).end)
    assert not set(before) & set(players(place))
    assert (found["done"], found["sentence"]) == (True, "")
    assert machine.sh("cat /run/overlaps 2>/dev/null || true") == ""
    state = json.loads(machine.sh("kernroll-boot.real status --output json"))
    assert state["default"] == machine.entry_of(RUNNING)
    assert (state["next"] != "") == (verb == "arm")
    assert machine.sh("dpkg --audit") == ""
