"""A host that starts from its own disk is enrolled, rehearsed and given kernels: good ones stay, bad ones are left.

The tests of a shape share one machine and run in their order; `make e2e-metal` runs them all, and
`make e2e-metal ARGS="-k arm64"` those of a shape.
"""

from collections.abc import Iterator

import pytest
from metal_fleet import BOOT_TIMEOUT_S, HOST, NEW, MetalFleet, metal_fleet

from controller.lab.full.shapes import SHAPES

pytestmark = pytest.mark.metal

_UNIT = "/etc/systemd/system"
# Under the new kernel alone, once the machine is guarded.
_SERVICE = """\
cat > /etc/systemd/system/fault.service <<'END'
[Unit]
ConditionKernelVersion={release}*
After=kernroll-guard.service
[Service]
Type=oneshot
ExecStart=/bin/sh -c '{command}'
[Install]
WantedBy=multi-user.target
END
systemctl enable -q fault
"""
# What goes wrong under the new kernel alone, each by units of the machine's own.
_FAULTS = {
    "panics": _SERVICE.format(release=NEW, command="sleep 5; echo c > /proc/sysrq-trigger"),
    "has no network": (
        f"mkdir -p {_UNIT}/systemd-networkd.service.d; printf '[Unit]\\nConditionKernelVersion=!{NEW}*\\n' "
        f"> {_UNIT}/systemd-networkd.service.d/fault.conf"
    ),
    "has no agent": (
        f"mkdir -p {_UNIT}/kernroll-agent.service.d; printf '[Unit]\\nConditionKernelVersion=!{NEW}*\\n' "
        f"> {_UNIT}/kernroll-agent.service.d/fault.conf"
    ),
    # As when a file system of /etc/fstab is none that the kernel knows.
    "ends in an emergency shell": _SERVICE.format(release=NEW, command="systemctl emergency"),
    # What has a higher priority leaves the rest a twentieth of the processor, by the server of the scheduler itself.
    "starves": _SERVICE.format(
        release=NEW,
        command="echo -1 > /proc/sys/kernel/sched_rt_runtime_us; exec chrt --fifo 99 yes > /dev/null",
    ),
    # No program runs any more, not even the service manager; only the watchdog's own clock goes on.
    "stops": _SERVICE.format(
        release=NEW,
        command="cd /sys/fs/cgroup; echo 1 > init.scope/cgroup.freeze; echo 1 > system.slice/cgroup.freeze",
    ),
}
# What the machine's own account then says. Where nothing keeps a panic's last words it is a reset like any other.
_ENDS = {
    "panics": ("panic", "reset"),
    "has no network": ("not_acknowledged",),
    "has no agent": ("not_acknowledged",),
    "ends in an emergency shell": ("not_acknowledged",),
    "starves": ("not_acknowledged",),
    "stops": ("reset",),
}
_MENDED = (
    "systemctl disable -q fault 2> /dev/null || true; "
    f"rm -rf {_UNIT}/fault.service {_UNIT}/*.d/fault.conf; systemctl daemon-reload"
)


@pytest.fixture(scope="module", params=sorted(SHAPES))
def metal(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MetalFleet]:
    with metal_fleet(tmp_path_factory.mktemp("metal"), request.param) as fleet:
        yield fleet


def test_enrolled_and_rehearsed_it_says_so(metal: MetalFleet) -> None:
    boot = metal.host().boot
    assert boot is not None
    loader = "systemd-boot" if "systemd-boot" in metal.machine.made_of.shape else "grub"
    assert (boot.loader, boot.pinned, boot.refusals) == (loader, True, ())
    assert boot.proven_at is not None


def test_a_good_kernel_stays_and_its_predecessor_is_kept_when_packages_are_cleaned_up(metal: MetalFleet) -> None:
    old = metal.runs()
    ended = metal.rolled("it-is-good", during={"probation": metal.clean_up})
    assert ended.state == "promoted", ended
    assert metal.runs().startswith(NEW)
    metal.clean_up()
    assert metal.machine.run("test", "-e", f"/boot/vmlinuz-{old}").code == 0


def test_a_blessed_kernel_goes_back_when_it_is_asked_to(metal: MetalFleet) -> None:
    metal.command("rollout", "revert", "it-is-good", "--remark", "a drill")
    with metal.client() as client:
        ended = list(client.watch_rollout("it-is-good", 3600.0))[-1]
    assert ended.state == "reverted", ended
    assert not metal.runs().startswith(NEW)
    assert HOST in {one.host for wave in ended.waves for one in wave.hosts}
    metal.allow()


@pytest.mark.parametrize("fault", _FAULTS)
def test_a_kernel_that_fails_is_left_without_anybodys_help(metal: MetalFleet, fault: str) -> None:
    old = metal.runs()
    metal.machine.sh(f"{_FAULTS[fault]}\nsystemctl daemon-reload")
    ended = metal.rolled(f"it-{fault.replace(' ', '-')}")
    assert ended.state == "reverted"
    assert metal.runs() == old
    boot = metal.host().boot
    assert boot is not None
    trial, back = boot.boots[-2:]
    assert (trial.cause, back.cause) == ("trial", "fallback")
    assert trial.end in _ENDS[fault]
    said = f" ({trial.line})" if trial.line else ""
    print(f"        {fault}: {trial.end}{said}, {back.started_at - trial.started_at:.0f} s after its start", flush=True)
    if trial.end == "not_acknowledged":
        assert back.started_at - trial.started_at >= BOOT_TIMEOUT_S - 60
    metal.machine.sh(_MENDED)
    metal.allow()
