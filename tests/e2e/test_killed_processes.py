"""Controller or supervisor killed in the middle of a rollout: the end is the same, and nothing happens twice."""

from collections.abc import Callable

import pytest
from real_fleet import HOST, NEW, RealFleet, spec, until

from controller.adapters.delivery.hypervisor.processes import vm_status
from controller.domain.delivery import BootCause, BootEnd

pytestmark = pytest.mark.e2e

REPETITIONS = 2
# What an agent prints when it starts a workload, and when it has reported one.
STARTED = "command_started"
Moment = Callable[[RealFleet], None]


def measuring_the_old_kernel(fleet: RealFleet) -> None:
    """Return in the middle of the first of the baseline's runs."""
    fleet.reaches(lambda host: host.step == "baseline" and "swapon" in host.detail, "a baseline run")


def before_the_reboot(fleet: RealFleet) -> None:
    """Return once the kernel is armed or about to be: the steps from staging to the reboot take a second together."""
    fleet.reaches(lambda host: host.step in ("stage", "arm", "reboot", "verify"), "the way to the reboot")


def booting_the_new_kernel(fleet: RealFleet) -> None:
    """Return while the new kernel boots: QEMU runs, the agent does not."""
    fleet.booted(BootCause.TRIAL)
    until("the new kernel's console", lambda: fleet.printed(f"runs {NEW}"), 120.0)


def measuring_the_new_kernel(fleet: RealFleet) -> None:
    """Return in the middle of the probation's first run."""
    fleet.reaches(lambda host: host.step == "probation" and "swapon" in host.detail, "a probation run")


def assert_promoted_with_nothing_twice(fleet: RealFleet) -> None:
    """One boot for one step, one command for one measurement, and as many runs as the spec wants."""
    ended = fleet.ended()
    assert ended.state == "promoted", ended.blocking_reason
    assert [(boot.cause, boot.end) for boot in fleet.boots()] == [
        (BootCause.INITIAL, BootEnd.REPLACED),
        (BootCause.TRIAL, None),
    ]
    assert fleet.release().startswith(f"{NEW}+")
    assert vm_status(fleet.directory()).supervisor_pid is not None
    host = fleet.report()["hosts"][0]
    assert len(host["boot_ids"]) == 2
    assert host["runs"] == [["ok", 2 * REPETITIONS]]
    assert (len(host["old_values"]), len(host["new_values"])) == (REPETITIONS, REPETITIONS)
    assert {number: console.count(STARTED) for number, console in fleet.consoles().items()} == {1: 1, 2: 1}


@pytest.mark.parametrize(
    "moment", [measuring_the_old_kernel, before_the_reboot, booting_the_new_kernel, measuring_the_new_kernel]
)
def test_a_killed_controller_continues(fleet: RealFleet, moment: Moment) -> None:
    fleet.start(spec(repetitions=REPETITIONS))
    moment(fleet)
    fleet.controller.kill()
    fleet.controller.start()
    assert_promoted_with_nothing_twice(fleet)


def test_a_controller_that_is_away_through_a_whole_measurement_loses_nothing(fleet: RealFleet) -> None:
    fleet.start(spec(repetitions=REPETITIONS))
    measuring_the_old_kernel(fleet)
    fleet.controller.kill()
    until("the end of the measurement", lambda: fleet.printed("command_finished"), 240.0)
    fleet.controller.start()
    assert_promoted_with_nothing_twice(fleet)


@pytest.mark.parametrize("moment", [booting_the_new_kernel, measuring_the_new_kernel])
def test_a_killed_supervisor_is_replaced_and_boots_nothing_twice(fleet: RealFleet, moment: Moment) -> None:
    fleet.start(spec(repetitions=REPETITIONS))
    moment(fleet)
    fleet.kill_supervisor(HOST)
    assert_promoted_with_nothing_twice(fleet)


def test_controller_and_supervisor_killed_together(fleet: RealFleet) -> None:
    fleet.start(spec(repetitions=REPETITIONS))
    booting_the_new_kernel(fleet)
    fleet.controller.kill()
    fleet.kill_supervisor(HOST)
    fleet.controller.start()
    assert_promoted_with_nothing_twice(fleet)
