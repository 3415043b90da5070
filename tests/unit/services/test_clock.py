"""The controller's clock follows the machine's without its leaps."""

import pytest

from controller.adapters.local.clock import SystemClock


class Machine:
    """A machine whose time can be set."""

    def __init__(self) -> None:
        self.wall = 1_000_000.0
        self.running = 50.0

    def pass_by(self, seconds: float) -> None:
        self.wall += seconds
        self.running += seconds


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def clock(machine: Machine) -> SystemClock:
    return SystemClock(lambda: machine.wall, lambda: machine.running)


def test_it_goes_with_the_machine(machine: Machine, clock: SystemClock) -> None:
    machine.pass_by(12.5)
    assert clock.now() == machine.wall


@pytest.mark.parametrize("leap_s", [3600.0, -3600.0])
def test_a_leap_ends_no_wait_and_holds_none_open(machine: Machine, clock: SystemClock, leap_s: float) -> None:
    before = clock.now()
    machine.wall += leap_s
    assert clock.now() == before
    machine.pass_by(100.0)
    assert clock.now() - before == pytest.approx(110.0 if leap_s > 0 else 90.0)


@pytest.mark.parametrize("leap_s", [60.0, -60.0])
def test_both_agree_again_in_time(machine: Machine, clock: SystemClock, leap_s: float) -> None:
    machine.wall += leap_s
    last = clock.now()
    for _ in range(100):
        machine.pass_by(10.0)
        assert clock.now() >= last
        last = clock.now()
    assert clock.now() == pytest.approx(machine.wall)
