"""A kernel's packages are installed on a machine that boots by GRUB, with Debian's own apt, and the default stays."""

import asyncio
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from crafted_kernels import CraftedKernel, crafted_kernel
from grub_machine import RUNNING
from packaged_machine import KERNEL, packaged_machine, staging
from ssh_machine import SshMachine

from controller.adapters.plays.outcomes import HostOutcome
from controller.adapters.plays.runner import Plays

WAIT_S = 120.0
NEW = "99.9.9-test"
_HOLD = """
import fcntl
file = open("/var/lib/dpkg/lock-frontend", "wb")
fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
input()
"""


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshMachine]:
    with packaged_machine(tmp_path_factory) as made:
        yield made


@pytest.fixture
def ssh(one: SshMachine) -> SshMachine:
    one.machine.restore()
    return one


def play(ssh: SshMachine, playbook: str, **variables: Any) -> HostOutcome:
    inventory = ssh.directory / "inventory.json"
    inventory.write_text(json.dumps({"all": {"hosts": {"a": ssh.variables()}}}))
    return asyncio.run(Plays(inventory).run(playbook, ["a"], variables, timeout_s=WAIT_S))["a"]


def test_a_staged_kernel_is_there_and_the_running_one_stays_the_default(ssh: SshMachine, tmp_path: Path) -> None:
    kernel, machine = crafted_kernel(tmp_path, NEW), ssh.machine
    assert machine.ask("status")["pinned"] is False
    found = play(ssh, "stage.yml", **staging(kernel))
    assert (found.done, found.sentence) == (True, "")
    state = machine.ask("status")
    assert (state["default"], state["pinned"], state["next"]) == (machine.entry_of(RUNNING), True, "")
    assert NEW in {one["release"] for one in found.answer["entries"]}
    assert found.answer["kernels"][KERNEL] == NEW
    manual = machine.sh("apt-mark showmanual").split()
    assert {f"linux-image-{RUNNING}", f"linux-image-{NEW}"} <= set(manual)
    never = machine.sh("apt-config dump APT::NeverAutoRemove")
    assert NEW.replace(".", r"\.").replace("-", r"\-") in never
    assert machine.sh("ls /var/lib/kernroll-stage") == f"{NEW}.json\n"
    # Asked again nothing is installed.
    before = machine.sh("cat /var/log/apt/history.log")
    again = play(ssh, "stage.yml", **staging(kernel))
    assert (again.done, again.answer["default"]) == (True, state["default"])
    assert machine.sh("cat /var/log/apt/history.log") == before
    # What nobody boots can be removed again, and what is booted cannot.
    assert play(ssh, "purge.yml", kernroll_release=RUNNING).sentence.endswith(
        f"{RUNNING} runs: only a kernel that nobody boots is removed"
    )
    gone = play(ssh, "purge.yml", kernroll_release=NEW)
    assert (gone.done, gone.sentence) == (True, "")
    assert NEW not in machine.sh("ls /boot; ls /var/lib/kernroll-stage; cat /etc/apt/apt.conf.d/zz-kernroll")
    assert machine.ask("status")["default"] == machine.entry_of(RUNNING)


def refused(ssh: SshMachine, kernel: CraftedKernel, **changed: Any) -> str:
    """Stage, which must fail; return the sentence. The default must be what it was."""
    found = play(ssh, "stage.yml", **staging(kernel, **changed))
    assert not found.done
    state = ssh.machine.ask("status")
    assert (state["default"], state["next"]) == (ssh.machine.entry_of(RUNNING), "")
    return found.sentence


def test_another_package_than_was_meant_is_not_installed(ssh: SshMachine, tmp_path: Path) -> None:
    kernel = crafted_kernel(tmp_path, NEW)
    wrong = {**kernel.package, "sha256": "0" * 64}
    assert refused(ssh, kernel, kernroll_packages=[wrong]) == (
        f"comparing the packages: {kernel.path.name} is not the package that was meant: its sha256 is another one"
    )
    assert "vmlinuz-" + NEW not in ssh.machine.sh("ls /boot /var/lib/kernroll-stage")


def test_a_package_that_fails_leaves_the_default_and_says_which_step(ssh: SshMachine, tmp_path: Path) -> None:
    kernel = crafted_kernel(tmp_path, NEW, postinst="#!/bin/sh\nupdate-grub\necho broken >&2\nexit 3\n")
    assert refused(ssh, kernel).startswith("installing the packages: ")
    unfinished = play(ssh, "preflight.yml")
    assert "packages-unfinished" in {one["code"] for one in unfinished.answer["refusals"]}


def test_what_would_remove_others_is_not_installed(ssh: SshMachine, tmp_path: Path) -> None:
    kernel = crafted_kernel(tmp_path, NEW, control=f"Conflicts: linux-image-{RUNNING}\n")
    assert "remove is disabled" in refused(ssh, kernel)


def test_a_lock_that_is_held_too_long_is_told(ssh: SshMachine, tmp_path: Path) -> None:
    machine = ssh.machine
    holding = machine.command("chroot", str(machine.root), "python3", "-c", _HOLD)
    with subprocess.Popen(holding, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        told = refused(ssh, crafted_kernel(tmp_path, NEW), kernroll_lock_timeout_s=1)
        assert told.startswith(
            "installing the packages: another package manager held /var/lib/dpkg/lock-frontend for too long"
        )
        assert "packages-locked" in {one["code"] for one in play(ssh, "preflight.yml").answer["refusals"]}
        other.communicate("\n", timeout=WAIT_S)


def test_a_host_that_would_not_come_back_is_refused_before_a_package_is_touched(
    ssh: SshMachine, tmp_path: Path
) -> None:
    ssh.machine.sh("sed -i 's/panic=10//' /etc/default/grub; update-grub")
    found = play(ssh, "stage.yml", **staging(crafted_kernel(tmp_path, NEW)))
    assert found.sentence.startswith("checking that it comes back: ")
    assert "would stop at a panic" in found.sentence
    assert found.task == "Pin the running kernel"
    assert ssh.machine.run("test", "-e", f"{ssh.machine.root}/var/lib/kernroll-stage").returncode == 1


def test_what_was_installed_is_compared_before_it_is_named(ssh: SshMachine, tmp_path: Path) -> None:
    kernel = crafted_kernel(tmp_path, NEW)
    assert refused(ssh, kernel, kernroll_image_sha256="0" * 64).startswith(
        f"comparing the kernel: /boot/vmlinuz-{NEW} is not the kernel that was meant"
    )
    ssh.machine.sh("mkdir -p /sys/module/elsewhere; echo OE > /sys/module/elsewhere/taint")
    assert refused(ssh, kernel).startswith(
        f"looking for modules: the module elsewhere is not part of the kernel, runs now, and does not exist for {NEW}"
    )
    assert KERNEL not in ssh.machine.ask("status")["kernels"]


_SECURE_BOOT = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"


def test_a_kernel_that_would_not_start_or_lacks_a_module_of_dkms_is_not_named(ssh: SshMachine, tmp_path: Path) -> None:
    kernel, machine = crafted_kernel(tmp_path, NEW), ssh.machine
    machine.sh(f"mkdir -p /sys/firmware/efi/efivars; printf '\\006\\000\\000\\000\\001' > {_SECURE_BOOT}")
    assert refused(ssh, kernel).startswith(
        f"looking for modules: Secure Boot is on, and /boot/vmlinuz-{NEW} carries no signature"
    )
    # Whoever arms it by hand is told the same.
    machine.prove()
    assert "carries no signature" in machine.boot("arm", NEW).stderr
    assert "carries no signature" in machine.boot("inspect", NEW).stdout
    machine.sh(f"rm {_SECURE_BOOT}")
    ssh.put("/usr/sbin/dkms", f"#!/bin/sh\necho zfs/2.3.2, {RUNNING}, x86_64: installed\n")
    told = refused(ssh, kernel)
    machine.sh("rm /usr/sbin/dkms")
    assert told.startswith(f"looking for modules: DKMS has zfs 2.3.2 installed for {RUNNING} and not for {NEW}: ")
    assert KERNEL not in machine.ask("status")["kernels"]
    assert machine.boot("inspect", NEW).stdout == f"nothing speaks against booting {NEW} here\n"


def test_variables_that_are_missing_are_named(ssh: SshMachine) -> None:
    for playbook in ("stage.yml", "arm.yml", "purge.yml"):
        assert "wanted" in play(ssh, playbook, kernroll_kernel=KERNEL).sentence


def test_a_package_that_is_missing_is_told_by_its_name(ssh: SshMachine, tmp_path: Path) -> None:
    kernel = crafted_kernel(tmp_path, NEW, control="Depends: linux-base (>= 99)\n")
    assert f"linux-image-{NEW} : Depends: linux-base (>= 99) but it is not installable" in refused(ssh, kernel)


def test_a_full_boot_is_told_before_a_package_is_touched(ssh: SshMachine, tmp_path: Path) -> None:
    machine = ssh.machine
    machine.sh("cp -a /boot /boot.kept")
    done = machine.run("mount", "-t", "tmpfs", "-o", "size=64m", "boot", f"{machine.root}/boot")
    assert done.returncode == 0, done.stderr
    machine.sh("cp -a /boot.kept/. /boot/; rm -r /boot.kept; dd if=/dev/zero of=/boot/filler bs=4k 2>/dev/null || true")
    found = play(ssh, "stage.yml", **staging(crafted_kernel(tmp_path, NEW)))
    assert found.sentence.startswith("checking that it comes back: ")
    assert "/boot" in found.sentence
    assert "left" in found.sentence
    assert found.task == "Pin the running kernel"
    assert machine.run("test", "-e", f"{machine.root}/var/lib/kernroll-stage").returncode == 1


def test_what_keeps_a_kernel_from_being_removed_must_be_there_until_it_boots(ssh: SshMachine, tmp_path: Path) -> None:
    machine = ssh.machine
    assert play(ssh, "stage.yml", **staging(crafted_kernel(tmp_path, NEW))).done
    machine.prove()
    # Debian's own apt would remove it: nothing of the kind is armed.
    machine.sh(f"apt-mark auto linux-image-{RUNNING}; mv /etc/apt/apt.conf.d/zz-kernroll /opt/")
    assert f"apt takes linux-image-{RUNNING} for superfluous" in machine.boot("arm", NEW).stderr
    machine.sh(f"apt-mark manual linux-image-{RUNNING}; mv /opt/zz-kernroll /etc/apt/apt.conf.d/")
    assert machine.ask("arm", NEW)["next"] == machine.entry_of(NEW)
    assert machine.ask("recheck")["next"] == machine.entry_of(NEW)
    machine.sh(f"apt-mark auto linux-image-{NEW}")
    withdrawn = machine.ask("recheck")
    assert withdrawn["next"] == ""
    assert withdrawn["withdrawn"] == f"the mark of linux-image-{NEW} as wanted is not as it was when {NEW} was armed"
    assert withdrawn["withdrawn"] in machine.boot("reboot").stderr


def test_packages_of_the_other_kind_are_refused_before_anything_is_copied(ssh: SshMachine, tmp_path: Path) -> None:
    rpm = {"path": "/nowhere", "name": "kernel-core-6.12.0-55.el10.x86_64.rpm", "sha256": "0" * 64}
    asked = staging(crafted_kernel(tmp_path, NEW), kernroll_packages=[rpm])
    assert play(ssh, "stage.yml", **asked).sentence == (
        f"looking at the host: {rpm['name']} is of another kind than this host's packages, which are deb: "
        "give it a rollout of its own with a directory of .deb packages"
    )
    assert ssh.machine.run("test", "-e", f"{ssh.machine.root}/var/lib/kernroll-stage").returncode == 1
