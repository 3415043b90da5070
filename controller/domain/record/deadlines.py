"""How long a host may stay in each step, and what that adds up to over its whole walk."""

from collections.abc import Mapping

from controller.domain.record.events import PlannedHost
from controller.domain.record.journey import Side, Step, legs_of
from controller.domain.record.policy import Policy

# How much longer the controller waits than the host's own boot deadline, so that the host's own account comes first.
GRACE_S = 20.0
# A measurement that ends just before the probation deadline still has this long to be blessed.
BLESS_TIMEOUT_S = 60.0
# How long a host that is to panic on purpose may take to do so.
PANIC_TIMEOUT_S = 120.0

# Evictions wait for each other, and for what replaces the evicted.
DRAIN_TIMEOUT_S = 1800.0
UNCORDON_TIMEOUT_S = 600.0

_BOOTED = (Step.ARM, Step.REBOOT, Step.VERIFY)


def step_limits(policy: Policy, boot_timeout_s: float) -> Mapping[Step, float]:
    """Return the time that a host may spend in every step that has a limit; soak times are those of its wave."""
    return {
        Step.BASELINE: policy.baseline_timeout_s + GRACE_S,
        Step.DRAIN: DRAIN_TIMEOUT_S,
        Step.STAGE: policy.stage_timeout_s,
        Step.ARM: policy.stage_timeout_s,
        Step.REBOOT: policy.stage_timeout_s,
        Step.VERIFY: boot_timeout_s + GRACE_S,
        # To be told, to panic, and to boot again.
        Step.DRILL: PANIC_TIMEOUT_S + boot_timeout_s + GRACE_S,
        Step.PROBATION: policy.probation_timeout_s,
        Step.REMEASURE: policy.probation_timeout_s,
        Step.BLESS: BLESS_TIMEOUT_S,
        Step.UNCORDON: UNCORDON_TIMEOUT_S,
        Step.FALLBACK: boot_timeout_s + GRACE_S,
        Step.REVERTING: policy.revert_timeout_s,
    }


def longest_walk_s(policy: Policy, planned: PlannedHost, boot_timeout_s: float) -> float:
    """Return what a host may take from its start until it bakes; measuring and booting count as often as it does them.

    A host whose rig may fail without a pause returns to its old kernel, which takes its time too.
    """
    legs = legs_of(planned.role, planned.cycles)
    steps = [Step.BASELINE, Step.STAGE, *(step for _ in legs[1:] for step in (*_BOOTED, Step.PROBATION)), Step.BLESS]
    if planned.drill and Side.NEW in legs:
        steps += [Step.DRILL, *_BOOTED]
    if planned.place:
        steps += [Step.DRAIN, Step.UNCORDON]
    if policy.error_budget_hosts or policy.error_budget_share:
        steps += [Step.REVERTING] * (1 + policy.power_cycles)
    limits = step_limits(policy, boot_timeout_s)
    return sum(limits[step] for step in steps)
