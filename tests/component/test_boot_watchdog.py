"""Watchdogs on a machine that boots by GRUB: what is said of them, what is armed without one, and kdump beside one."""

import json
from collections.abc import Iterator

import pytest
from boot_machine import OTHER, RUNNING
from grub_machine import GrubMachine, grub_machine

# Lists what a file says of it: the machine's RAM disks are none.
_LISTER = "#!/bin/sh\ncat /etc/listed\n"
_DEVICE = """
mkdir -p /sys/class/watchdog/watchdog0/device/driver /sys/module/iTCO_wdt /etc
for pair in identity=iTCO_wdt state=active timeout=30 nowayout=0 bootstatus=0; do
  echo "${pair#*=}" > "/sys/class/watchdog/watchdog0/${pair%%=*}"
done
ln -sfn ../../../../../module/iTCO_wdt /sys/class/watchdog/watchdog0/device/driver/module
echo usr/lib/modules/kernel/drivers/watchdog/iTCO_wdt.ko.xz > /etc/listed
sed -i 's/panic=10/panic=10 watchdog.open_timeout=300/' /etc/default/grub
update-grub
"""


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GrubMachine]:
    with grub_machine(tmp_path_factory.mktemp("machine")) as made:
        made.sh("mkdir /opened; ln -s /dev/null /opened/0; ln -s /dev/watchdog0 /opened/4")
        for lister in ("lsinitramfs", "lsinitrd"):
            done = made.run("tee", f"{made.root}/usr/bin/{lister}", stdin=_LISTER)
            assert done.returncode == 0, done.stderr
        made.sh("chmod +x /usr/bin/lsinitr*")
        made.prove()
        made.sh(_DEVICE)
        done = made.run("mount", "--bind", f"{made.root}/opened", f"{made.root}/proc/1/fd")
        assert done.returncode == 0, done.stderr
        made.keep()
        yield made


@pytest.fixture
def machine(one: GrubMachine) -> GrubMachine:
    one.restore()
    return one


def test_a_watchdog_that_systemd_keeps_open_is_shown(machine: GrubMachine) -> None:
    assert "watchdog: watchdog0 iTCO_wdt, which resets the machine after 30 s" in machine.boot("status").stdout
    machine.ask("pin")
    kept = json.loads(machine.sh("cat /var/lib/kernroll-boot/status.json"))
    assert (kept["watchdog"]["held"], kept["watchdog_gaps"], kept["refusals"]) == ("watchdog0", [], [])


def test_what_is_missing_is_written_down_for_the_agent_and_refuses_nothing(machine: GrubMachine) -> None:
    machine.sh("rm -r /sys/class/watchdog")
    assert "watchdog: watchdog0\n" in machine.boot("status").stdout
    machine.ask("pin")
    kept = json.loads(machine.sh("cat /var/lib/kernroll-boot/status.json"))
    assert [one["code"] for one in kept["watchdog_gaps"]] == ["watchdog-missing"]
    # A verb after which nothing is looked at anew keeps what was found.
    machine.ask("disarm")
    assert json.loads(machine.sh("cat /var/lib/kernroll-boot/status.json"))["watchdog_gaps"] == kept["watchdog_gaps"]
    assert machine.ask("arm", OTHER)["next"] == machine.entry_of(OTHER)


def test_a_kernel_is_armed_where_a_watchdog_is_required_and_covers_it(machine: GrubMachine) -> None:
    assert machine.ask("arm", OTHER, "--require-watchdog")["next"] == machine.entry_of(OTHER)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("echo usr/lib/modules > /etc/listed", f"iTCO_wdt is neither part of {OTHER} nor in its initial RAM disk"),
        ("sed -i 's/watchdog.open_timeout=300//' /boot/grub/grub.cfg", "is not on the command line for"),
        ("echo 'Software Watchdog' > /sys/class/watchdog/watchdog0/identity", "is a timer of the kernel itself"),
        ("rm -r /sys/class/watchdog", "the kernel shows no watchdog"),
    ],
)
def test_a_kernel_that_no_watchdog_would_end_is_not_armed_where_one_is_required(
    machine: GrubMachine, change: str, told: str
) -> None:
    machine.sh(f"mkdir -p /lib/modules/{OTHER}; : > /lib/modules/{OTHER}/modules.builtin; {change}")
    done = machine.boot("arm", OTHER, "--require-watchdog")
    assert (done.returncode, "next_entry" in machine.environment()) == (1, False)
    assert told in done.stderr


_KDUMP = f"""
echo 1 > /sys/kernel/kexec_crash_loaded
printf 'failure_action %s\\n' > /etc/kdump.conf
mkdir -p /lib/modules/{RUNNING}
: > /lib/modules/{RUNNING}/modules.builtin
"""


@pytest.mark.parametrize("action", ["shell", "halt", "poweroff"])
def test_a_crash_kernel_that_waits_is_refused_unless_it_cannot_feed_the_open_watchdog(
    machine: GrubMachine, action: str
) -> None:
    machine.sh(_KDUMP % action)
    # Its own initial RAM disk has the driver: systemd feeds the watchdog there, or closes it as it halts.
    assert set(machine.refusals()) == {"kdump-waits"}
    machine.sh("echo usr/bin/makedumpfile > /etc/listed")
    assert machine.refusals() == {}
    machine.sh(f"echo kernel/drivers/watchdog/iTCO_wdt.ko > /lib/modules/{RUNNING}/modules.builtin")
    assert set(machine.refusals()) == {"kdump-waits"}


@pytest.mark.parametrize(
    "change",
    [
        "rm -r /sys/class/watchdog",
        "echo 'Software Watchdog' > /sys/class/watchdog/watchdog0/identity",
        f"rm /lib/modules/{RUNNING}/modules.builtin",
    ],
)
def test_a_crash_kernel_that_waits_is_refused_where_nothing_is_proven(machine: GrubMachine, change: str) -> None:
    machine.sh(_KDUMP % "shell" + "echo usr/bin/makedumpfile > /etc/listed\n" + change)
    assert set(machine.refusals()) == {"kdump-waits"}


def test_a_crash_kernel_that_starts_the_hosts_own_services_is_refused_with_a_watchdog_too(machine: GrubMachine) -> None:
    machine.sh("echo 1 > /sys/kernel/kexec_crash_loaded; echo usr/bin/makedumpfile > /etc/listed")
    machine.sh("echo 'KDUMP_FAIL_CMD=\"/bin/sh\"' > /etc/default/kdump-tools")
    assert set(machine.refusals()) == {"kdump-waits"}
