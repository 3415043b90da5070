"""An agent killed inside the guest in the middle of swap_mount: its run has died, no swap stays on, and it goes on."""

from pathlib import Path

import pytest
from real_fleet import HOST, NEW, OLD, RealFleet, real_fleet, spec

pytestmark = pytest.mark.e2e

# What the helper inside the guest prints, on the console.
KILLED = "test-helper: killed the agent while swap was on"
EMPTY = "test-helper: no swap is on"
# Found by Python before the agent is: the first agent of a boot starts the helper, which kills it in its first run.
# `once` lies on the guest's disk, so that one boot of the guest's life has a helper at all, or each one.
SITECUSTOMIZE = """\
import os
import subprocess
import sys

if "agent.main" in " ".join(sys.orig_argv):
    try:
        os.close(os.open("{once}", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        pass
    else:
        code = "import runpy; runpy.run_path('/run/kernroll/seed/test_helper.py')"
        subprocess.Popen([sys.executable, "-S", "-c", code, str(os.getpid())], start_new_session=True)
"""
HELPER = f'''\
import os
import signal
import sys
import time


def swap_is_on():
    with open("/proc/swaps") as swaps:
        return len(swaps.readlines()) > 1


def say(text):
    with open("/dev/console", "w") as console:
        console.write(text + "\\n")


while not swap_is_on():
    time.sleep(0.02)
os.kill(int(sys.argv[1]), signal.SIGKILL)
say("{KILLED}")
while swap_is_on():
    time.sleep(0.02)
say("{EMPTY}")
'''


def seed(once: str) -> dict[str, bytes]:
    """Return the helper's files for the guest's seed disk."""
    return {"app/sitecustomize.py": SITECUSTOMIZE.format(once=once).encode(), "test_helper.py": HELPER.encode()}


def died_once(fleet: RealFleet, boot: int) -> None:
    """The helper has done its work in this boot, and in this order."""
    console = fleet.consoles()[boot]
    assert console.count(KILLED) == 1
    assert console.index(KILLED) < console.index("the agent ended with status 137") < console.index(EMPTY)


def test_killed_in_the_baseline(tmp_path: Path) -> None:
    with real_fleet(tmp_path, seed=seed(once="/var/lib/kernroll-test-once")) as fleet:
        fleet.start(spec(repetitions=2))
        ended = fleet.ended()
        assert ended.state == "promoted", ended.blocking_reason
        died_once(fleet, 1)
        host = fleet.report()["hosts"][0]
        # The died run is reported; the measurement was made again, whole.
        assert dict(host["runs"]) == {"died": 1, "ok": 4}
        assert (len(host["old_values"]), len(host["new_values"])) == (2, 2)
        assert fleet.release().startswith(f"{NEW}+")
        with fleet.client() as client:
            assert client.get_host(HOST).facts.swap_devices == ()


def test_killed_in_the_baseline_and_under_the_new_kernel(tmp_path: Path) -> None:
    with real_fleet(tmp_path, seed=seed(once="/run/kernroll-test-once")) as fleet:
        fleet.start(spec())
        ended = fleet.ended()
        assert ended.state == "promoted", ended.blocking_reason
        died_once(fleet, 1)
        died_once(fleet, 2)
        assert len(fleet.boots()) == 2
        assert dict(fleet.report()["hosts"][0]["runs"]) == {"died": 2, "ok": 2}
        assert fleet.printed(f"runs {OLD}") == fleet.printed(f"runs {NEW}") == 1
