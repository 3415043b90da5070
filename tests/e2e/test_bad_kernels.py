"""Kernels that panic, hang, or never start the agent: every host is back by itself, with or without a controller."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from real_fleet import ARM_HOST, HOST, NEW, OLD, RealFleet, real_fleet, spec, until

from controller.domain.delivery import BootCause, BootEnd, BootRecord

pytestmark = pytest.mark.e2e

# From the start of the trial; a good boot takes 8 to 15 s here.
BOOT_TIMEOUT_S = 40.0
# How long after its end the old kernel's boot must have started.
SLACK_S = 10.0
FALLBACK_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BadKernel:
    """What is wrong with it, and how that shows."""

    command_line: str
    end: BootEnd
    # What `explain` must say besides the host: the signal, and the console's line where the kernel has one to say.
    signal: str
    line: str
    version: str = NEW


PANICS = BadKernel(
    command_line="init=/sbin/no-such-init",
    end=BootEnd.PANIC,
    signal="the kernel panicked",
    line="Kernel panic - not syncing: Requested init /sbin/no-such-init failed",
)
# Its release is that of the kernel it replaces: only boot ids and the supervisor's records tell them apart.
PANICS_SAME_RELEASE = BadKernel(
    command_line=PANICS.command_line, end=PANICS.end, signal=PANICS.signal, line=PANICS.line, version=OLD
)
HANGS = BadKernel(
    command_line="root=PARTUUID=00000000-01 rootwait",
    end=BootEnd.NOT_ACKNOWLEDGED,
    signal="no healthy agent answered by the boot deadline",
    line="Waiting for root device PARTUUID=00000000-01",
)
NO_AGENT = BadKernel(
    command_line="init=/usr/bin/busybox -- sleep 1000000",
    end=BootEnd.NOT_ACKNOWLEDGED,
    signal="no healthy agent answered by the boot deadline",
    line="Run /usr/bin/busybox as init process",
)
KINDS = {
    "panics": PANICS,
    "panics-same-release": PANICS_SAME_RELEASE,
    "hangs": HANGS,
    "no-agent": NO_AGENT,
}


@pytest.fixture(params=list(KINDS))
def bad(request: pytest.FixtureRequest) -> BadKernel:
    """A bad kernel."""
    return KINDS[request.param]


def assert_fell_back_in_time(fleet: RealFleet, bad: BadKernel, host: str = HOST) -> None:
    """One trial that ended as it must, followed by the old kernel, soon enough."""
    old, trial, fallback = fleet.boots(host)
    assert [(boot.cause, boot.end) for boot in (old, trial, fallback)] == [
        (BootCause.INITIAL, BootEnd.REPLACED),
        (BootCause.TRIAL, bad.end),
        (BootCause.FALLBACK, None),
    ]
    assert fallback.kernel == old.kernel != trial.kernel
    assert fallback.started_at - trial.started_at < BOOT_TIMEOUT_S + SLACK_S


def assert_reverted_and_explained(fleet: RealFleet, bad: BadKernel, host: str = HOST) -> None:
    """The rollout's end, and the one sentence that says why."""
    ended = fleet.ended()
    assert ended.state == "reverted", ended.blocking_reason
    fleet.returns(OLD, host)
    sentence = fleet.explanation()
    for part in (host, bad.signal, bad.line):
        assert part in sentence
    assert sentence.count("\n") == 0
    report = fleet.report()
    assert [failure["host"] for failure in report["failures"]] == [host]
    assert report["failures"][0]["back_after_s"] is not None
    assert report["lost"] == []


def test_a_bad_kernel_falls_back_and_the_rollout_reverts(fleet: RealFleet, bad: BadKernel) -> None:
    fleet.start(spec(version=bad.version, command_line=bad.command_line, boot_timeout_s=BOOT_TIMEOUT_S))
    assert_reverted_and_explained(fleet, bad)
    assert_fell_back_in_time(fleet, bad)


def test_a_bad_kernel_falls_back_without_a_controller(fleet: RealFleet, bad: BadKernel) -> None:
    fleet.start(spec(version=bad.version, command_line=bad.command_line, boot_timeout_s=BOOT_TIMEOUT_S))
    fleet.booted(BootCause.TRIAL)
    fleet.controller.kill()
    fallback: BootRecord = fleet.booted(BootCause.FALLBACK, timeout_s=FALLBACK_S)
    console = f"runs {OLD}"
    until("the old kernel's userland", lambda: console in fleet.consoles().get(fallback.number, ""), FALLBACK_S)
    assert_fell_back_in_time(fleet, bad)
    fleet.controller.start()
    assert_reverted_and_explained(fleet, bad)
    assert len(fleet.boots()) == 3


def test_an_arm64_kernel_that_panics_falls_back(tmp_path: Path) -> None:
    with real_fleet(tmp_path, ("arm64",)) as fleet:
        fleet.start(spec(("arm64",), command_line=PANICS.command_line, boot_timeout_s=BOOT_TIMEOUT_S))
        assert_reverted_and_explained(fleet, PANICS, ARM_HOST)
        assert_fell_back_in_time(fleet, PANICS, ARM_HOST)
