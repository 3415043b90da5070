"""A kernel is armed on a machine that boots by GRUB, and something changes: it is taken back, and that is told."""

import json
from collections.abc import Iterator

import pytest
from boot_machine import OTHER, RUNNING
from grub_machine import GrubMachine, grub_machine


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GrubMachine]:
    with grub_machine(tmp_path_factory.mktemp("machine")) as made:
        made.prove()
        made.keep()
        yield made


@pytest.fixture
def pinned(one: GrubMachine) -> GrubMachine:
    one.restore()
    return one


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("update-grub", ""),
        (f"echo more >> /boot/initrd.img-{OTHER}", f"/boot/initrd.img-{OTHER} is not as it was"),
        (f"echo more >> /boot/vmlinuz-{RUNNING}", f"/boot/vmlinuz-{RUNNING} is not as it was"),
        (f"rm /boot/initrd.img-{RUNNING}", f"/boot/initrd.img-{RUNNING} was there when"),
        ("sed -i 's/panic=10/panic=10 quiet/' /etc/default/grub; update-grub", "the command line of "),
        ("grub-editenv /boot/grub/grubenv set saved_entry=0", f"the default was {RUNNING} when"),
        ("grub-editenv /boot/grub/grubenv set boot_counter=1", "boot_counter is set"),
        ("grub-editenv /boot/grub/grubenv unset next_entry", f"{OTHER} was armed, and nothing is now"),
        ("grub-editenv /boot/grub/grubenv create", f"{OTHER} was armed, and nothing is now"),
        ("echo nonsense > /boot/grub/grubenv", "what boots cannot be told any more"),
    ],
)
def test_a_change_that_nobody_asked_for_takes_back_what_is_armed(pinned: GrubMachine, script: str, told: str) -> None:
    pinned.ask("arm", OTHER)
    pinned.sh(script)
    done = pinned.boot("recheck", "--output", "json")
    if not told:
        assert json.loads(done.stdout)["next"] == pinned.entry_of(OTHER)
        return
    assert told in done.stderr
    assert pinned.run("grep", "-q", "next_entry", f"{pinned.root}/boot/grub/grubenv").returncode == 1
    if done.returncode == 0:
        assert told in json.loads(pinned.sh("cat /var/lib/kernroll-boot/status.json"))["withdrawn"]
        assert told in pinned.boot("reboot").stderr
