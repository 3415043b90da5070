"""One simulated host, and what goes wrong on it."""

from dataclasses import dataclass, field

from controller.domain.delivery import BootEnd
from controller.domain.record.events import CommandState
from controller.domain.record.journey import Step

OLD, NEW = "old-digest", "new-digest"
OLD_RELEASE, NEW_RELEASE = "7.0.13-old", "7.1.13-new"
COSTS = {OLD: 819.0, NEW: 567.0}


# The rollout that most tests run; the words in capitals are filled in.
SPEC = """
apiVersion: kernroll/v1
kind: Rollout
metadata: {name: trial}
spec:
  kernels:
    x86_64: {debian: {version: "7.1.13"}}
  waves: [{per_stratum: 1, bake: 60s}, {rest: true, bake: 60s}]
  workloads:
    swap_mount: {device: {block_device: /dev/swap}, repetitions: 2, warmups: 1, timeout: 100s}
  claim: [{metric: swap_mount.cost, saves_at_least: 230.4, unit: MiB/TiB, on_refuted: ON_REFUTED}]
  limits:
    max_in_flight: IN_FLIGHT
    boot_timeout: 60s
    probation_timeout: 200s
    baseline_timeout: 200s
    stage_timeout: 30s
    heartbeat_timeout: 20s
    revert_timeout: 90s
    infrastructure_retries: 1
    error_budget: {hosts: 0, share: 0 %}
"""


@dataclass(kw_only=True)
class Faults:
    """What goes wrong on one host; everything else goes well."""

    # How the new kernel's boot ends: None boots well.
    trial_end: BootEnd | None = None
    # A verb of the delivery that is refused, or something that is never answered: such a verb, "old" or "new" (the
    # measurement under that kernel) or "hello" (the boot on trial).
    refused: str = ""
    unanswered: str = ""
    # Outcomes of successive measurements; after the last one they complete.
    measurements: list[CommandState] = field(default_factory=list)
    # The agent goes silent for good on entering this step.
    silent_in: Step | None = None
    # A fatal line is logged on entering this step.
    fatal_in: Step | None = None
    # The blessed kernel panics in this step.
    dies_in: Step | None = None
    # The host never answers again after a revert or fallback.
    never_returns: bool = False
    # It comes back this late after a revert or fallback.
    returns_after_s: float = 10.0
    # The host answers under the old kernel after the reboot although nothing reported a failure.
    ignores_new_kernel: bool = False
    # What a panic on purpose leads to, where not to the old kernel: "refused", "ignored", "hangs", "stays" on the new.
    drill: str = ""
    # It does not run its default kernel when it is staged.
    strays: bool = False
    # MiB per TiB under the new kernel.
    new_cost: float = COSTS[NEW]


@dataclass(kw_only=True)
class SimulatedHost:
    """One host as the world sees it."""

    name: str
    faults: Faults
    default: str = OLD
    running: str = OLD
    armed: str = ""
    boots: int = 1
    trial_command: str = ""
    # The agent says nothing any more.
    silenced: bool = False
    done: set[str] = field(default_factory=set)

    @property
    def boot_id(self) -> str:
        """Different for every boot."""
        return f"{self.name}-boot-{self.boots}"

    @property
    def release(self) -> str:
        """What uname -r says."""
        return OLD_RELEASE if self.running == OLD else NEW_RELEASE
