"""A simulated fleet with a design: planned as an operator's spec says, with performance that a test chooses."""

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import replace

from candidates import candidate
from simulated_fleet import UID, Simulation
from simulated_host import NEW_RELEASE, Faults

from controller.domain.planning.candidates import HostCandidate
from controller.domain.planning.design import needed_comparisons
from controller.domain.planning.policy import policy_of
from controller.domain.planning.selection import WavePlan, hosts_by_stratum, plan_waves
from controller.domain.record.events import CommandState, Event, RolloutPlanned, RunReported
from controller.domain.record.journey import Role, Step, Trigger
from controller.domain.record.names import Key
from controller.domain.record.policy import SuspendedCell
from controller.domain.record.verdicts import WaveJudged
from controller.domain.spec.parse import parse_spec
from controller.gate.ledger import Ledger

SYSTEM_TIME = "kernel_build.system_time"
ELAPSED = "kernel_build.elapsed"
USER_TIME = "kernel_build.user_time"
SPEC = """
apiVersion: kernroll/v1
kind: Rollout
metadata: {name: trial}
spec:
  kernels: {x86_64: {debian: {version: "7.1.13"}}}
  waves: [{per_stratum: 2, bake: 60s}, {per_stratum: 12, bake: 60s}, {rest: true, bake: 60s}]
  workloads:
    kernel_build: {preset: series-arm64-zram, swap: {kind: zram, size: 1GiB}, repetitions: 4, warmups: 1, timeout: 100s}
DESIGN
  limits:
    max_in_flight: 50
    boot_timeout: 60s
    probation_timeout: 200s
    baseline_timeout: 200s
    stage_timeout: 30s
    heartbeat_timeout: 20s
    revert_timeout: 90s
    infrastructure_retries: 1
"""
PAIRS = "  design: matched_pairs\n  pairs: {per_stratum: 14}\n  verdict_by_wave: 2"
ARMS = "  design: two_arms\n  controls: {per_stratum: 14}\n  verdict_by_wave: 2"
ABBA = "  design: abba\n  abba: {per_stratum: 4, cycles: 3}\n  verdict_by_wave: 2"
VM, METAL = "x86_64/vm", "x86_64/metal"

# (host, stratum, new kernel, boot id) -> change of the metric in log units.
Shift = Callable[[str, str, bool, str], float]


def hosts(count: int, stratum: str = VM) -> list[HostCandidate]:
    """Return connected hosts of one stratum; two of a kind each."""
    word = stratum.partition("/")[2]
    return [
        candidate(
            f"{word}{index:02}",
            stratum,
            release="7.0.13-old",
            page_size_bytes=4096,
            memory_bytes=(1 + index // 2) * 2**30,
            cpu_count=2,
        )
        for index in range(count)
    ]


class Designed(Simulation):
    """A rollout under a design. Boots differ by `noise`, runs of one boot hardly; both kernels are alike otherwise."""

    def __init__(
        self,
        design: str,
        fleet: list[HostCandidate],
        *,
        shift: Shift = lambda *_: 0.0,
        noise: float = 0.004,
        hold: bool = False,
        suspended: tuple[SuspendedCell, ...] = (),
        faults: Mapping[str, Faults] | None = None,
        spec: str = SPEC,
    ) -> None:
        text = spec.replace("DESIGN", design + ("\n  on_stratum_failure: hold" if hold else ""))
        self.spec = parse_spec(text, "trial.yaml")
        strata = sorted(hosts_by_stratum(self.spec, fleet))
        needed = needed_comparisons(self.spec, strata, Ledger())
        self.plan: WavePlan = plan_waves(self.spec, fleet, "s", needed)
        assert not self.plan.blockers, self.plan.blockers
        bake_s = tuple(wave.bake_s for wave in self.plan.waves)
        self.policy = replace(policy_of(self.spec, bake_s, strata=strata), suspended=suspended)
        self._shift, self._noise = shift, noise
        self._stratum = {one.name: one.subject.host.stratum for one in fleet}
        names = [[planned.host for planned in wave.hosts] for wave in self.plan.waves]
        super().__init__(names, dict(faults or {}), spec=text, max_in_flight=50)

    def record(self, key: Key, event: Event) -> None:
        """Record the event; the plan is the spec's own, and runs tell times."""
        if isinstance(event, RolloutPlanned):
            event = replace(event, waves=tuple(wave.hosts for wave in self.plan.waves), policy=self.policy)
        if isinstance(event, RunReported):
            event = replace(event, values=self.values(key.host, event))
        super().record(key, event)

    def values(self, host: str, run: RunReported) -> dict[str, float]:
        """Return what the run measured: the same in every repetition of the test."""
        if run.workload != "kernel_build":
            return dict(run.values)
        boot = random.Random(f"{host} {run.boot_id}").gauss(0, self._noise)
        own = random.Random(f"{run.report_id}").gauss(0, self._noise / 10)
        changed = self._shift(host, self._stratum[host], run.release == NEW_RELEASE, run.boot_id)
        return {
            SYSTEM_TIME: 60 * math.exp(boot + own + changed),
            ELAPSED: 400 * math.exp(boot + own + changed / 6),
            USER_TIME: 300 * math.exp((boot + own) / 10),
        }

    @property
    def judged(self) -> list[WaveJudged]:
        """The judgements so far."""
        return [event for _, event in self.log if isinstance(event, WaveJudged)]

    def roles(self, role: Role) -> list[str]:
        """Return the hosts of a role, by name."""
        return sorted(name for name, attempt in self.world.attempts[UID].items() if attempt.role is role)


def slower(share: float, stratum: str = "") -> Shift:
    """Return a kernel that is slower by this share, in one stratum or in all."""

    def shift(_host: str, own: str, new: bool, _boot: str) -> float:
        return math.log1p(share) if new and stratum in ("", own) else 0.0

    return shift


SICK = "vm10"


def sick_fleet(faults: Faults, *, well_after: int = 10**6, design: str = PAIRS) -> Designed:
    """Return a fleet in which one host is slower by a third after its reboot, for as many measurements as told."""
    seen: set[str] = set()

    class Sick(Designed):
        def values(self, host: str, run: RunReported) -> dict[str, float]:
            values = super().values(host, run)
            if host == SICK and run.boot_id.endswith("-2"):
                if SYSTEM_TIME in values:
                    seen.add(run.command_id)
                if SYSTEM_TIME in values and len(seen) <= well_after:
                    values[SYSTEM_TIME] *= 1.35
            return values

    spec = SPEC.replace(
        "  workloads:\n",
        "  workloads:\n    swap_mount: {device: {brd_size: 1TiB}, repetitions: 4, warmups: 0, timeout: 100s}\n",
    )
    return Sick(design, hosts(40), faults={SICK: faults}, spec=spec)


def taken_by_sick_hosts() -> set[tuple[Step, Trigger]]:
    """Return the transitions of a host that is measured once more, whatever can happen to it then."""
    again = [CommandState.COMPLETED] * 4
    taken = set()
    for faults in (
        Faults(measurements=[*again, CommandState.DIED]),
        Faults(fatal_in=Step.REMEASURE),
        Faults(silent_in=Step.REMEASURE),
    ):
        fleet = sick_fleet(faults)
        fleet.run(horizon_s=50_000.0)
        taken |= fleet.taken
    fleet = sick_fleet(Faults())
    fleet.run(until=lambda: fleet.step(SICK) is Step.REMEASURE)
    fleet.revert()
    fleet.run()
    return taken | fleet.taken
