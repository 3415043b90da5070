"""The power of a host fails at random moments of a rollout: it comes up on an allowed kernel, and the rollout ends.

`make e2e-cuts CUTS=20 SHAPE=x86_64-bios-grub` runs it. The moment is drawn from a seed, which is printed; `SEED=…`
draws the same one again.
"""

import os
import random
import threading
from collections.abc import Iterator

import pytest
from metal_fleet import NEW, STEP_S, MetalFleet, metal_fleet
from real_fleet import until

from controller.lab.full.shapes import DEFAULT_SHAPE

pytestmark = pytest.mark.cuts

# The steps in which a power cut is begun: it comes some seconds later, and may find the host in another one.
_BEGUN_IN = ("stage", "arm", "reboot", "verify", "probation", "bless")
_LATEST_S = 30.0
# Where the host may boot either kernel: it is told to boot the new one once, to keep it, or to leave it.
_EITHER = frozenset({"arm", "reboot", "verify", "bless", "reverting"})
# Where the new one has become the default. In every other step the old one is, and nothing is to be booted once.
_NEW = frozenset({"bake", "done"})


@pytest.fixture(scope="module")
def metal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MetalFleet]:
    with metal_fleet(tmp_path_factory.mktemp("cuts"), os.environ.get("SHAPE") or DEFAULT_SHAPE) as fleet:
        yield fleet


class Cut:
    """The power fails some seconds after it was asked to, and is back at once."""

    def __init__(self, metal: MetalFleet, rollout: str, after_s: float) -> None:
        self._metal, self._rollout, self._after_s = metal, rollout, after_s
        self.steps: set[str] = set()
        self.came_up_on = ""

    def __call__(self) -> None:
        """See above."""
        threading.Timer(self._after_s, self._happen).start()

    def _happen(self) -> None:
        self._see()
        self._metal.machine.kill()
        # What the controller had not heard yet when the power failed it has heard now.
        self._see()
        self._metal.machine.start()
        self._metal.machine.wait_for_ssh(STEP_S)
        self.came_up_on = self._metal.machine.sh("uname -r").strip()

    def _see(self) -> None:
        with self._metal.client() as client:
            found = client.get_rollout(self._rollout)
        self.steps |= {one.step for wave in found.waves for one in wave.hosts}


@pytest.mark.parametrize("number", range(int(os.environ.get("CUTS") or 12)))
def test_a_host_whose_power_fails_comes_up_on_a_kernel_that_is_allowed(metal: MetalFleet, number: int) -> None:
    seed = os.environ.get("SEED") or f"cut {number}"
    drawn = random.Random(seed)
    step, after_s = drawn.choice(_BEGUN_IN), drawn.uniform(0.0, _LATEST_S)
    print(f"\nSEED={seed!r}: the power fails {after_s:.1f} s into {step}", flush=True)
    cut = Cut(metal, f"cut-{number}", after_s)
    ended = metal.rolled(f"cut-{number}", during={step: cut})
    came_up_on = until("the machine is up again", lambda: cut.came_up_on or None, STEP_S)
    print(
        f"        in {' or '.join(sorted(cut.steps))}; it came up on {came_up_on}; the rollout is {ended.state}",
        flush=True,
    )
    if not cut.steps & _EITHER and len({one in _NEW for one in cut.steps}) == 1:
        assert came_up_on.startswith(NEW) == (cut.steps <= _NEW)
    assert ended.state in ("promoted", "reverted", "paused")
    if ended.state == "paused":
        metal.command("rollout", "abort", ended.name, "--remark", "the next cut")
    elif ended.state == "promoted":
        metal.command("rollout", "revert", ended.name, "--remark", "the next cut")
    until("the old kernel runs", lambda: not metal.runs().startswith(NEW), STEP_S)
    metal.allow()
