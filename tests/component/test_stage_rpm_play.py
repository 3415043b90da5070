"""A kernel's rpm packages are installed beside the running one, on a machine as Fedora's; the default stays.

Rpm and dnf are Debian's. Whole plays are few, since each takes seconds; what rpm refuses is asked of the module's part.
"""

import asyncio
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bls_machine import BlsMachine
from boot_machine import RUNNING
from crafted_kernels import crafted_kernel
from crafted_rpms import rpm_kernel
from packaged_machine import KERNEL, staging
from rpm_machine import copied, refusal, rpm_machine
from ssh_machine import SshMachine

from controller.adapters.plays.outcomes import HostOutcome
from controller.adapters.plays.runner import Plays

WAIT_S = 120.0
NEW = "99.9.9-1.fc44.x86_64"
OWN = "kernel-core-" + RUNNING.replace("-", "_") + "-1.x86_64"
NAME = "kernel-core-99.9.9_1.fc44.x86_64-1.x86_64"
UNDER_WAY = "/var/lib/kernroll-stage/.rpm-under-way"
_HOLD = """
import fcntl
file = open("/var/lib/rpm/.rpm.lock", "wb")
fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
input()
"""


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshMachine]:
    with rpm_machine(tmp_path_factory) as made:
        yield made


@pytest.fixture
def ssh(one: SshMachine) -> SshMachine:
    one.machine.restore()
    return one


def machine_of(ssh: SshMachine) -> BlsMachine:
    assert isinstance(ssh.machine, BlsMachine)
    return ssh.machine


def play(ssh: SshMachine, playbook: str, **variables: Any) -> HostOutcome:
    inventory = ssh.directory / "inventory.json"
    inventory.write_text(json.dumps({"all": {"hosts": {"a": ssh.variables()}}}))
    return asyncio.run(Plays(inventory).run(playbook, ["a"], variables, timeout_s=WAIT_S))["a"]


def installed(ssh: SshMachine) -> set[str]:
    return set(ssh.machine.sh("rpm --query --all").split()) - {"system-6.12.0-55.el10.x86_64"}


def put(ssh: SshMachine, tmp_path: Path, release: str = NEW, **changed: str) -> str:
    """Build a kernel's package and return where it lies on the machine."""
    return copied(
        machine_of(ssh), rpm_kernel(tmp_path / f"rpm-{len(list(tmp_path.iterdir()))}", release, **changed).path
    )


def install(ssh: SshMachine, *paths: str, wait_s: int = 60) -> str:
    return refusal(machine_of(ssh), f"install({list(paths)!r}, {wait_s})")


def test_a_staged_kernel_is_there_and_the_running_one_stays_the_default(ssh: SshMachine, tmp_path: Path) -> None:
    kernel, machine = rpm_kernel(tmp_path / "rpms", NEW), ssh.machine
    assert machine.ask("status")["pinned"] is False
    found = play(ssh, "stage.yml", **staging(kernel))
    assert (found.done, found.sentence) == (True, "")
    # Its scripts have added an entry, and left the default alone.
    state = machine.ask("status")
    assert (state["default"], state["pinned"], state["next"]) == (machine.entry_of(RUNNING), True, "")
    assert NEW in {one["release"] for one in found.answer["entries"]}
    assert found.answer["kernels"][KERNEL] == NEW
    assert installed(ssh) == {OWN, NAME}
    assert machine.sh("ls -A /var/lib/kernroll-stage") == f"{NEW}.json\n"
    assert "\ninstallonly_limit=0\n" in machine.sh("cat /etc/dnf/dnf.conf")
    assert state["packages"] == "rpm"
    machine.prove()
    # A dnf that would remove the oldest of three is no place for a trial.
    machine.sh("sed -i s/^installonly_limit=.*/installonly_limit=3/ /etc/dnf/dnf.conf")
    assert "dnf keeps 3 kernels and removes the oldest of more" in machine.boot("arm", NEW).stderr
    machine.sh("sed -i s/^installonly_limit=.*/installonly_limit=0/ /etc/dnf/dnf.conf")
    assert machine.ask("arm", NEW)["next"] == machine.entry_of(NEW)
    machine.ask("disarm")
    # What is booted is not removed, and what nobody boots is.
    assert play(ssh, "purge.yml", kernroll_release=RUNNING).sentence.endswith(
        f"{RUNNING} runs: only a kernel that nobody boots is removed"
    )
    gone = play(ssh, "purge.yml", kernroll_release=NEW)
    assert (gone.done, gone.sentence) == (True, "")
    assert installed(ssh) == {OWN}
    assert NEW not in machine.sh("ls /boot /boot/loader/entries /var/lib/kernroll-stage")
    assert machine.ask("status")["default"] == machine.entry_of(RUNNING)


def test_packages_of_the_other_kind_are_refused_before_anything_is_copied(ssh: SshMachine, tmp_path: Path) -> None:
    kernel = crafted_kernel(tmp_path, "99.9.9-test")
    assert play(ssh, "stage.yml", **staging(kernel)).sentence == (
        f"looking at the host: {kernel.path.name} is of another kind than this host's packages, which are rpm: "
        "give it a rollout of its own with a directory of .rpm packages"
    )
    assert ssh.machine.run("test", "-e", f"{ssh.machine.root}/var/lib/kernroll-stage").returncode == 1


def test_a_lock_that_is_held_for_ever_is_one_error(ssh: SshMachine, tmp_path: Path) -> None:
    machine, path = ssh.machine, put(ssh, tmp_path)
    holding = machine.command("chroot", str(machine.root), "python3", "-c", _HOLD)
    with subprocess.Popen(holding, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        assert install(ssh, path, wait_s=0) == (
            "another package manager held /var/lib/rpm/.rpm.lock for too long: see what holds it with "
            "`fuser -v /var/lib/rpm/.rpm.lock` and try again when that has ended"
        )
        assert "packages-locked" in {one["code"] for one in play(ssh, "preflight.yml").answer["refusals"]}
        other.communicate("\n", timeout=WAIT_S)
    assert installed(ssh) == {OWN}
    assert (refusal(machine_of(ssh), "unfinished()"), install(ssh, path), install(ssh, path)) == ("", "", "")
    assert installed(ssh) == {OWN, NAME}


def test_what_a_package_needs_is_named_with_what_to_do(ssh: SshMachine, tmp_path: Path) -> None:
    path = put(ssh, tmp_path, fields="Requires: kernel-modules-core-uname-r = 99.9.9\n")
    told = install(ssh, path)
    assert told.startswith(f"kernel-modules-core-uname-r = 99.9.9 is needed by {NAME}: install what has it")
    assert (installed(ssh), refusal(machine_of(ssh), "unfinished()")) == ({OWN}, "")


def test_a_package_that_would_take_the_place_of_the_running_kernel_is_not_installed(
    ssh: SshMachine, tmp_path: Path
) -> None:
    for field, sign in (
        (f"Conflicts: kernel-core = {RUNNING.replace('-', '_')}\n", "conflicts with"),
        ("Obsoletes: kernel-core < 99\n", "is obsoleted by"),
    ):
        told = install(ssh, put(ssh, tmp_path, fields=field))
        assert sign in told
        assert told.endswith("take a package that can be installed beside the running kernel")
    assert installed(ssh) == {OWN}


def test_a_script_that_fails_is_told_and_tried_again(ssh: SshMachine, tmp_path: Path) -> None:
    path = put(ssh, tmp_path, post="test -e /opt/mended || exit 3\n")
    told = install(ssh, path)
    assert told.startswith(f"%post({NAME}) scriptlet failed, exit status 3: try again, or remove it with ")
    assert refusal(machine_of(ssh), "unfinished()").startswith(
        f"('rpm did not come to its end when it installed {NAME}'"
    )
    # Nothing else is begun on top of that.
    another = put(ssh, tmp_path, "98.0.0")
    assert f"rpm --erase {NAME}" in install(ssh, another)
    unfinished = play(ssh, "preflight.yml")
    assert "packages-unfinished" in {one["code"] for one in unfinished.answer["refusals"]}
    ssh.machine.sh("touch /opt/mended")
    assert install(ssh, path) == ""
    ssh.machine.sh("rm /opt/mended")
    assert (installed(ssh), refusal(machine_of(ssh), "unfinished()")) == ({OWN, NAME}, "")
    assert NEW in ssh.machine.sh("ls /boot/loader/entries")


def test_an_interrupted_transaction_is_gone_on_with(ssh: SshMachine, tmp_path: Path) -> None:
    """The power failed before rpm had written anything down, and after it had."""
    path, machine = put(ssh, tmp_path), ssh.machine
    machine.sh(f"mkdir -p /var/lib/kernroll-stage; echo '[\"{NAME}\"]' > {UNDER_WAY}")
    assert refusal(machine_of(ssh), "unfinished()") != ""
    assert (install(ssh, path), refusal(machine_of(ssh), "unfinished()")) == ("", "")
    machine.sh(f"echo '[\"{NAME}\"]' > {UNDER_WAY}; rm /boot/vmlinuz-{NEW}")
    assert (install(ssh, path), refusal(machine_of(ssh), "unfinished()")) == ("", "")
    assert NEW in machine.sh("ls /boot")
    machine.sh(f"echo '[\"{NAME}\"]' > {UNDER_WAY}")
    assert refusal(machine_of(ssh), f"remove('{NEW}', ['{NAME}'], 60)") == ""
    assert (installed(ssh), refusal(machine_of(ssh), "unfinished()")) == ({OWN}, "")


def test_another_build_under_the_same_name_is_refused(ssh: SshMachine, tmp_path: Path) -> None:
    assert install(ssh, put(ssh, tmp_path)) == ""
    told = install(ssh, put(ssh, tmp_path, fields="URL: https://another.test/\n"))
    assert told.startswith(f"{NAME} is installed there from another build: ")


def test_what_needs_a_kernel_keeps_it_from_being_removed(ssh: SshMachine, tmp_path: Path) -> None:
    assert install(ssh, put(ssh, tmp_path)) == ""
    needing = put(ssh, tmp_path, "98.0.0", fields="Requires: kernel-core = 99.9.9_1.fc44.x86_64\n")
    assert install(ssh, needing) == ""
    told = refusal(machine_of(ssh), f"remove('{NEW}', ['{NAME}'], 60)")
    assert "is needed by (installed) kernel-core-98.0.0-1.x86_64: remove those first" in told
    assert NAME in installed(ssh)


def test_what_cannot_be_read_there_is_told(ssh: SshMachine) -> None:
    ssh.put("/opt/none.rpm", "nothing")
    assert install(ssh, "/opt/none.rpm") == (
        "none.rpm cannot be read by the rpm there: it may be too old for this package"
    )


def test_dnf_keeps_every_kernel_from_then_on(ssh: SshMachine, tmp_path: Path) -> None:
    """Without that it removes the oldest, however many are running on trial."""
    machine = ssh.machine
    paths = [put(ssh, tmp_path, f"9{number}.0.0") for number in range(3)]
    dnf = "dnf --quiet --assumeyes --disablerepo='*' --nogpgcheck --releasever=1 install"
    machine.sh("sed -i s/^installonly_limit.*/installonly_limit=2/ /etc/dnf/dnf.conf")
    machine.sh("cp -a /var/lib/rpm /opt/rpm.kept; cp -a /boot /opt/boot.kept")
    for path in paths[:2]:
        machine.sh(f"{dnf} {path}")
    assert "kernel-core-91.0.0-1.x86_64" in installed(ssh)
    assert len(installed(ssh)) == 2
    machine.sh("rm -rf /var/lib/rpm /boot/loader; mv /opt/rpm.kept /var/lib/rpm; mv /opt/boot.kept/loader /boot/")
    machine.sh("rm -r /opt/boot.kept")
    assert refusal(machine_of(ssh), f"keep([{RUNNING!r}])") == ""
    assert "installonly_limit was 2\ninstallonly_limit=0\n" in machine.sh("cat /etc/dnf/dnf.conf")
    for path in paths:
        machine.sh(f"{dnf} {path}")
    assert installed(ssh) == {OWN, *(f"kernel-core-9{number}.0.0-1.x86_64" for number in range(3))}
    # Asked again nothing is written.
    before = machine.sh("ls -i /etc/dnf/dnf.conf")
    assert refusal(machine_of(ssh), f"keep([{RUNNING!r}])") == ""
    assert machine.sh("ls -i /etc/dnf/dnf.conf") == before
