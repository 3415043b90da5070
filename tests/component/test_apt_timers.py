"""Apt's timers pause while a kernel's packages are installed, and come back whoever dies meanwhile.

No service manager runs on the machine: what stands in for systemctl and systemd-run keeps timers and leases as files.
"""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from crafted_kernels import crafted_kernel
from packaged_machine import packaged_machine, staging
from ssh_machine import SshMachine

from controller.adapters.plays.outcomes import HostOutcome
from controller.adapters.plays.runner import Plays

WAIT_S = 120.0
NEW = "99.9.9-test"
# A timer is active while its file is there. A lease is the command that systemd would run at its end.
SYSTEMCTL = r"""#!/bin/sh
echo "systemctl $*" >> /run/calls
verb=$1; shift
[ "$1" != --quiet ] || shift
case "$verb" in
is-active) test -e "/run/timers/$1" ;;
start) mkdir -p /run/timers; for one; do touch "/run/timers/$one"; done ;;
stop) for one; do rm -f /run/timers/$one /run/leases/$one; done ;;
esac
"""
SYSTEMD_RUN = r"""#!/bin/sh
echo "systemd-run $*" >> /run/calls
[ ! -e /run/no-leases ] || exit 1
for one; do case "$one" in --unit=*) unit=${one#--unit=} ;; --on-active=*) after=${one#--on-active=} ;; esac; done
while [ "${1#--}" != "$1" ]; do shift; done
mkdir -p /run/leases
echo "$@" > "/run/leases/$unit.timer"
echo "$after" > /run/after
"""
LOOK = "ls /run/timers > /run/seen"


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshMachine]:
    with packaged_machine(tmp_path_factory) as made:
        made.put("/usr/local/bin/systemctl", SYSTEMCTL)
        made.put("/usr/local/bin/systemd-run", SYSTEMD_RUN)
        made.machine.sh("mkdir -p /run/systemd/system")
        yield made


@pytest.fixture
def ssh(one: SshMachine) -> SshMachine:
    one.machine.restore()
    one.machine.sh(
        "mkdir -p /sys/module; rm -rf /run/timers /run/leases /run/calls /run/seen /run/no-leases /run/*.json; "
        "systemctl start apt-daily.timer apt-daily-upgrade.timer other.timer; rm /run/calls"
    )
    return one


def stage(ssh: SshMachine, directory: Path, postinst: str) -> HostOutcome:
    kernel = crafted_kernel(directory, NEW, postinst=f"#!/bin/sh\n{postinst}\nset -e\nupdate-grub\n")
    inventory = ssh.directory / "inventory.json"
    inventory.write_text(json.dumps({"all": {"hosts": {"a": ssh.variables()}}}))
    return asyncio.run(Plays(inventory).run("stage.yml", ["a"], staging(kernel), timeout_s=WAIT_S))["a"]


def timers(ssh: SshMachine) -> list[str]:
    return ssh.machine.sh("ls /run/timers").split()


def settle(ssh: SshMachine) -> None:
    """Wait until the package manager is done whose parent was killed, and finish what it left."""
    ssh.machine.sh("tries=0; until dpkg --configure -a; do tries=$((tries + 1)); [ $tries -lt 600 ]; sleep 0.1; done")


ALL = ["apt-daily-upgrade.timer", "apt-daily.timer", "other.timer"]


def test_they_pause_while_packages_are_installed_and_run_afterwards(ssh: SshMachine, tmp_path: Path) -> None:
    assert stage(ssh, tmp_path, LOOK).done
    assert ssh.machine.sh("cat /run/seen").split() == ["other.timer"]
    assert timers(ssh) == ALL
    assert ssh.machine.sh("ls /run/leases; ls /run/*.json 2>/dev/null || true") == ""
    calls = ssh.machine.sh("cat /run/calls").splitlines()
    leased = next(number for number, call in enumerate(calls) if call.startswith("systemd-run"))
    stopped = next(number for number, call in enumerate(calls) if call.startswith("systemctl stop"))
    # Whoever dies in between has stopped nothing.
    assert leased < stopped
    # Longer than the installing may take and may wait.
    assert ssh.machine.sh("cat /run/after") == "2100s\n"


def test_one_that_was_stopped_by_hand_is_not_started(ssh: SshMachine, tmp_path: Path) -> None:
    ssh.machine.sh("systemctl stop apt-daily.timer")
    assert stage(ssh, tmp_path, LOOK).done
    assert timers(ssh) == ["apt-daily-upgrade.timer", "other.timer"]


def test_a_failure_starts_them_again(ssh: SshMachine, tmp_path: Path) -> None:
    assert not stage(ssh, tmp_path, "exit 3").done
    assert timers(ssh) == ALL


def test_whoever_is_killed_leaves_a_lease_that_starts_them(ssh: SshMachine, tmp_path: Path) -> None:
    found = stage(ssh, tmp_path, f"{LOOK}; kill -9 $(cat /run/kernroll-play.lock)")
    assert not found.done
    assert timers(ssh) == ["other.timer"]
    (lease,) = ssh.machine.sh("ls /run/leases").split()
    # The next play takes a lease of its own and ends both.
    settle(ssh)
    (tmp_path / "again").mkdir()
    again = stage(ssh, tmp_path / "again", LOOK)
    assert (again.done, again.sentence) == (True, "")
    assert timers(ssh) == ALL
    assert ssh.machine.sh("ls /run/leases") == ""
    assert lease.startswith("kernroll-apt-lease-")


def test_what_the_lease_does_at_its_end_starts_them(ssh: SshMachine, tmp_path: Path) -> None:
    stage(ssh, tmp_path, "kill -9 $(cat /run/kernroll-play.lock)")
    assert timers(ssh) == ["other.timer"]
    ssh.machine.sh('sh -c "$(cat /run/leases/*.timer)"')
    assert timers(ssh) == ALL
    settle(ssh)


def test_without_a_lease_nothing_is_stopped(ssh: SshMachine, tmp_path: Path) -> None:
    ssh.machine.sh("touch /run/no-leases")
    assert stage(ssh, tmp_path, LOOK).done
    assert ssh.machine.sh("cat /run/seen").split() == ALL
