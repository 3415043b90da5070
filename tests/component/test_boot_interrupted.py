"""kernroll-boot dies whenever it touches the host: what boots then is allowed, and asking again comes to the end."""

import sys
from collections.abc import Iterator

import pytest
from bls_machine import bls_machine
from boot_machine import OTHER, RUNNING, BootMachine
from firmware_machine import firmware_machine
from grub_machine import grub_machine
from project import ROOT
from systemd_boot_machine import systemd_boot_machine

_DIED = 9
_COMMAND = ("--command-id", "u/a/1")
# Verb and arguments; how the host is brought to its beginning; what may boot by default, and once, afterwards.
_CASES = {
    "pin": (["pin"], [], {OTHER, RUNNING}, {""}),
    "arm": (["arm", OTHER], [["pin"]], {RUNNING}, {"", OTHER}),
    "rehearse": (["rehearse"], [["pin"]], {RUNNING}, {"", RUNNING}),
    "disarm": (["disarm"], [["pin"], ["arm", OTHER]], {RUNNING}, {"", OTHER}),
    "bless": (["bless", RUNNING], [["pin"], ["revert", OTHER]], {RUNNING, OTHER}, {""}),
    "revert": (["revert", OTHER], [["pin"], ["arm", OTHER]], {RUNNING, OTHER}, {"", OTHER}),
}
_ENDS = {"pin": (RUNNING, ""), "rehearse": (RUNNING, RUNNING), "arm": (RUNNING, OTHER), "disarm": (RUNNING, "")}
_ENDS |= {"bless": (RUNNING, ""), "revert": (OTHER, "")}


# The machine of each loader.
_LOADERS = {"grub": grub_machine, "blscfg": bls_machine, "systemd-boot": systemd_boot_machine}
_LOADERS |= {"firmware": firmware_machine}


# All but the first take minutes each: `make e2e` has them.
_RUN = ["grub", *(pytest.param(one, marks=pytest.mark.e2e) for one in ("blscfg", "systemd-boot", "firmware"))]


@pytest.fixture(scope="module", params=_RUN)
def machine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BootMachine]:
    with _LOADERS[request.param](tmp_path_factory.mktemp("machine")) as made:
        made.prove()
        made.ask("revert", OTHER)
        made.forget()
        made.keep()
        yield made


def dying(machine: BootMachine, point: int, *asked: str) -> tuple[int, str]:
    program = str(ROOT / "tests" / "support" / "dying_boot.py")
    path = f"PYTHONPATH={ROOT}"
    done = machine.run("env", path, sys.executable, program, str(point), str(machine.root), *asked)
    assert done.returncode in (0, _DIED), done.stderr
    return done.returncode, done.stdout


def boots(machine: BootMachine) -> tuple[str, str]:
    """Return the releases that boot by default and once."""
    state = machine.ask("status")
    releases = {one["id"]: one["release"] for one in state["entries"]}
    # Nothing that is half of something boots once.
    assert state["next"] in ("", *releases)
    return releases[state["default"]], releases.get(state["next"], "")


@pytest.mark.parametrize("name", _CASES)
def test_wherever_it_dies_the_host_boots_what_it_may(machine: BootMachine, name: str) -> None:
    verb, before, defaults, once = _CASES[name]
    machine.restore()
    for step in before:
        machine.ask(*step)
    machine.keep(f"before-{name}")
    # The first run dies nowhere and says how many moments there are.
    count = 0
    for point in range(200):
        machine.restore(f"before-{name}")
        code, told = dying(machine, point, *verb, *_COMMAND)
        if not point:
            count = int(told.splitlines()[-1])
            assert boots(machine) == _ENDS[name]
            continue
        assert code == _DIED, f"{name} has no moment {point}"
        default, next_one = boots(machine)
        assert default in defaults, f"{name}, moment {point}: boots {default} by default"
        assert next_one in once, f"{name}, moment {point}: boots {next_one} once"
        machine.ask(*verb, *_COMMAND)
        assert boots(machine) == _ENDS[name], f"{name}, moment {point}: asked again"
        if point == count:
            break
    assert count >= 6
