"""What will go wrong on one host: drawn once from the faults, by seed and name."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from controller.domain.record.events import CommandState
from controller.sim.faults.fields import HostFault, LateFault, RecurringFault
from controller.sim.faults.parse import Faults
from controller.sim.universe import chance

# A clock that will lie begins to within this long.
_CLOCK_STEPS_WITHIN_S = 7200.0
# What a supervisor can refuse.
_VERBS: Final = ("stage", "arm", "reboot", "bless", "revert")
_ODD: Final = (
    CommandState.FAILED,
    CommandState.TIMED_OUT,
    CommandState.UNSUPPORTED,
    CommandState.REFUSED,
    CommandState.CANCELLED,
)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """One host's faults. Times count from the start of the kernel they concern."""

    panics_at_boot: bool = False
    resets_at_boot: bool = False
    hangs_at_boot: bool = False
    # None: as long as any other boot.
    boot_takes_s: float | None = None
    dies_after_s: float | None = None
    hangs_after_s: float | None = None
    oopses_after_s: float | None = None
    warns_after_s: float | None = None
    kills_workloads: bool = False
    never_returns: bool = False
    unmanaged: bool = False
    mute_management: bool = False
    management_away: RecurringFault | None = None
    dead_disk: bool = False
    # A verb of the delivery; empty: none.
    refuses: str = ""
    ignores_new_kernel: bool = False
    # How every measurement ends; None: as it should.
    outcome: CommandState | None = None
    deaf: RecurringFault | None = None
    flaps: RecurringFault | None = None
    # (seconds after the beginning, seconds ahead); None: the clock is right.
    clock_step: tuple[float, float] | None = None
    noise_factor: float = 1.0
    rig_breaks: int = 0
    reboots_after_s: float | None = None
    # Of the cluster: whether the host is one of its nodes, and how it takes being drained.
    is_node: bool = False
    never_empty: bool = False
    may_not_drain: bool = False
    cluster_away: RecurringFault | None = None


def fate_of(faults: Faults, seed: str, host: str, stratum: str) -> Fate:
    """Return what these faults mean for one host."""

    def hit(fault: HostFault | None, name: str) -> bool:
        concerned = fault is not None and (not fault.strata or stratum in fault.strata)
        return concerned and fault is not None and chance(seed, host, name) < fault.share

    def after_s(fault: LateFault | None, name: str) -> float | None:
        return 2 * fault.after_s * chance(seed, host, name, "when") if fault and hit(fault, name) else None

    def one_of(choices: Sequence[_T], name: str) -> _T:
        return choices[int(len(choices) * chance(seed, host, name))]

    def recurring(fault: RecurringFault | None, name: str) -> RecurringFault | None:
        return fault if hit(fault, name) else None

    kernel, hosts = faults.new_kernel, faults.hosts
    clock, slow, rig, noise = hosts.lying_clock, kernel.boots_slowly, hosts.broken_rig, hosts.noisy_rig
    sign = 1 if chance(seed, host, "clock", "sign") < 0.5 else -1
    begins_s = _CLOCK_STEPS_WITHIN_S * chance(seed, host, "clock", "when")
    return Fate(
        panics_at_boot=hit(kernel.panics_at_boot, "panics_at_boot"),
        resets_at_boot=hit(kernel.resets_at_boot, "resets_at_boot"),
        hangs_at_boot=hit(kernel.hangs_at_boot, "hangs_at_boot"),
        boot_takes_s=slow.takes_s if slow and hit(slow, "boots_slowly") else None,
        dies_after_s=after_s(kernel.dies_later, "dies_later"),
        hangs_after_s=after_s(kernel.hangs_later, "hangs_later"),
        oopses_after_s=after_s(kernel.oopses_later, "oopses_later"),
        warns_after_s=after_s(kernel.warns_later, "warns_later"),
        kills_workloads=hit(kernel.kills_workloads, "kills_workloads"),
        never_returns=hit(hosts.never_return, "never_return"),
        unmanaged=hit(hosts.unmanaged, "unmanaged"),
        mute_management=hit(hosts.mute_management, "mute_management"),
        management_away=recurring(hosts.management_away, "management_away"),
        refuses=one_of(_VERBS, "refused verb") if hit(hosts.refuse_a_verb, "refuse_a_verb") else "",
        ignores_new_kernel=hit(hosts.ignore_new_kernel, "ignore_new_kernel"),
        outcome=one_of(_ODD, "odd outcome") if hit(hosts.odd_outcomes, "odd_outcomes") else None,
        dead_disk=hit(hosts.dead_disk, "dead_disk"),
        deaf=recurring(hosts.deaf_supervisor, "deaf_supervisor"),
        flaps=recurring(faults.network.flaps, "flaps"),
        clock_step=(begins_s, sign * clock.off_by_s) if clock and hit(clock, "lying_clock") else None,
        noise_factor=noise.factor if noise and hit(noise, "noisy_rig") else 1.0,
        rig_breaks=rig.times if rig and hit(rig, "broken_rig") else 0,
        reboots_after_s=after_s(hosts.reboot_unasked, "reboot_unasked"),
        is_node=hit(faults.cluster.nodes, "nodes"),
        never_empty=hit(faults.cluster.never_empty, "never_empty"),
        may_not_drain=hit(faults.cluster.may_not_drain, "may_not_drain"),
        cluster_away=recurring(faults.cluster.away, "cluster_away"),
    )


def is_down(fault: RecurringFault | None, now_s: float, phase: float) -> float:
    """Return for how many seconds longer something that comes and goes is away; 0 while it is there.

    `now_s` counts from the beginning of the world, `phase` in [0, 1) sets one host apart from another.
    """
    if fault is None:
        return 0.0
    cycle_s = fault.every_s + fault.down_for_s
    into_s = (now_s + phase * cycle_s) % cycle_s
    return max(0.0, cycle_s - into_s) if into_s >= fault.every_s else 0.0
