"""The controller is away for two hours while kernels prove themselves: only a host without network goes back."""

from pathlib import Path

import pytest
from booted_host import BootedHost, BootedProgram, own_loader, stand_in

from agent.boot.trial.network import Standing

_HOSTS, _AWAY_S, _LOOK_S = 20, 7200.0, 300.0
_OLD, _NEW = "1.0", "2.0"
_ARM = ("arm", _NEW, "--boot-timeout=600", "--probation-timeout=900", "--output=json")


async def through_the_outage(host: BootedHost, *, acknowledged: bool) -> None:
    """Put the new kernel on trial, be away, come back, and bless it where it still runs."""
    program = BootedProgram(host, panics={})
    await program.ask("", *_ARM)
    await program.ask("", "reboot", "--output=json")
    if acknowledged:
        await program.ask("", "acknowledge", "--output=json")
    until_s = host.clock_s + _AWAY_S
    while host.clock_s < until_s:
        host.clock_s += _LOOK_S
        program.settle()
    if host.release == _NEW:
        await program.ask("", "acknowledge", "--output=json")
        await program.ask("", "bless", _NEW, "--output=json")
        host.clock_s += _AWAY_S
        program.settle()


@pytest.mark.parametrize("acknowledged", [True, False], ids=["in probation", "still to be acknowledged"])
async def test_an_absent_controller_costs_no_healthy_kernel_its_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, acknowledged: bool
) -> None:
    ran, restarts = [], 0
    for number in range(_HOSTS):
        host = BootedHost(tmp_path / str(number), own_loader(_OLD, _NEW))
        stand_in(host, monkeypatch, Standing.NO_NETWORK if number == 7 else Standing.CONTROLLER_AWAY)
        await through_the_outage(host, acknowledged=acknowledged)
        ran.append(host.release)
        restarts += host.restarts
    assert ran == [_OLD if number == 7 else _NEW for number in range(_HOSTS)]
    assert restarts == 1
