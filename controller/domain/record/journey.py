"""One host's journey through a rollout, as a table: which step follows which, and on what."""

from enum import StrEnum


class Step(StrEnum):
    """Where a host stands."""

    PENDING = "pending"  # waits for its wave and a slot in the budget
    BASELINE = "baseline"  # the workload runs on the old kernel
    HELD = "held"  # measured; waits until it may be taken down: no freeze, window or denial stands in the way
    DRAIN = "drain"  # taken out of service (cluster nodes; others pass at once)
    STAGE = "stage"  # the kernel's files are brought to the host
    ARM = "arm"  # the kernel becomes the next boot, once
    REBOOT = "reboot"  # the restart was asked for and has not begun
    VERIFY = "verify"  # waits for the agent: another boot id, the right release
    DRILL = "drill"  # panicked on purpose, on trial: it must come back on its old kernel by itself
    PROBATION = "probation"  # up on trial: the workload runs on this leg's kernel
    BLESS = "bless"  # the kernel becomes the default
    UNCORDON = "uncordon"  # put back into service (cluster nodes; others pass at once)
    BAKE = "bake"  # watched for the wave's soak time
    REMEASURE = "remeasure"  # measured once more, because it stood far outside the others
    DONE = "done"  # finished well; still watched until the rollout ends
    FALLBACK = "fallback"  # the trial failed; the host returns to its old kernel by itself
    REVERTING = "reverting"  # the host is being returned to its old kernel
    REVERTED = "reverted"  # back on the old kernel
    LOST = "lost"  # did not come back by its deadline
    SKIPPED = "skipped"  # ended before its kernel was touched


class Trigger(StrEnum):
    """Why a host moves."""

    START = "start"  # admitted by the rollout
    SKIP = "skip"  # the rollout ended before the host's turn
    MEASURED = "measured"  # all runs of this leg are in
    NEXT_TASK = "next_task"  # one workload is measured, and the leg has another
    RETRY = "retry"  # runs died or the rig broke; the workload is measured again
    CLEARED = "cleared"  # it may be taken down
    CLOSED = "closed"  # it may not any more
    DRAINED = "drained"
    STAGED = "staged"
    ARMED = "armed"
    REBOOTED = "rebooted"  # the boot has begun
    DRILL = "drill"  # verified, and the plan has this host prove its way back first
    DRILLED = "drilled"  # back on the old kernel by itself after a panic on purpose
    VERIFIED = "verified"  # the expected kernel answered under a new boot id
    NEXT_LEG = "next_leg"  # measured, and the design asks for another boot
    BLESSED = "blessed"
    UNCORDONED = "uncordoned"
    BAKED = "baked"
    FELL_BACK = "fell_back"  # the trial boot ended by itself
    FATAL = "fatal"  # the kernel log, an unasked reboot, or a failed workload condemns the kernel
    FAIL = "fail"  # a delivery or measurement step failed for good
    DEADLINE = "deadline"  # the step took too long
    SILENT = "silent"  # not heard for longer than allowed
    POWER_CYCLE = "power_cycle"  # not back in time and not heard: its power is cut, and it has its time once more
    REVERT = "revert"  # the rollout returns this host
    RETURNED = "returned"  # heard again, on the old kernel
    REMEASURE = "remeasure"  # the rollout wants this host measured once more
    REMEASURED = "remeasured"  # it was, or its rig would not: then what it measured first stays
    AGAIN = "again"  # an operator sends the host on its way once more


class Role(StrEnum):
    """What a host is for in the comparison."""

    TREATED = "treated"  # old kernel, then the new one
    CONTROL = "control"  # reboots like the treated ones and keeps its kernel
    CROSSOVER = "crossover"  # old, new, new, old (ABBA): compared with itself; then the new kernel for good


class Side(StrEnum):
    """Which kernel a leg runs."""

    OLD = "old"
    NEW = "new"


# The boots of each role in order; the first leg is the baseline and needs no reboot of ours. Hosts that are compared
# with themselves may walk it several times, one cycle after the other.
LEGS: dict[Role, tuple[Side, ...]] = {
    Role.TREATED: (Side.OLD, Side.NEW),
    Role.CONTROL: (Side.OLD, Side.OLD),
    Role.CROSSOVER: (Side.OLD, Side.NEW, Side.NEW, Side.OLD),
}

# The boots after the last cycle. What is compared ends on the old kernel; the host is to keep the new one.
CLOSING: dict[Role, tuple[Side, ...]] = {
    Role.TREATED: (),
    Role.CONTROL: (),
    Role.CROSSOVER: (Side.NEW,),
}


def legs_of(role: Role, cycles: int = 1) -> tuple[Side, ...]:
    """Return the kernels that a host of this role boots, in order."""
    assert cycles == 1 or role is Role.CROSSOVER, "only hosts that are compared with themselves repeat their walk"
    return LEGS[role] * cycles + CLOSING[role]


_UNTOUCHED_ENDINGS = {Trigger.FAIL: Step.SKIPPED, Trigger.DEADLINE: Step.SKIPPED, Trigger.REVERT: Step.SKIPPED}
_BACK_TO_OLD = {Trigger.FAIL: Step.REVERTING, Trigger.DEADLINE: Step.REVERTING, Trigger.REVERT: Step.REVERTING}
_CONDEMNED = {Trigger.SILENT: Step.REVERTING, Trigger.FATAL: Step.REVERTING}
_AFTER_BLESSING = {**_CONDEMNED, Trigger.REVERT: Step.REVERTING}

_ROWS: dict[Step, dict[Trigger, Step]] = {
    Step.PENDING: {Trigger.START: Step.BASELINE, Trigger.SKIP: Step.SKIPPED},
    Step.BASELINE: {
        Trigger.MEASURED: Step.HELD,
        Trigger.RETRY: Step.BASELINE,
        Trigger.NEXT_TASK: Step.BASELINE,
        Trigger.SILENT: Step.SKIPPED,
        **_UNTOUCHED_ENDINGS,
    },
    Step.HELD: {Trigger.CLEARED: Step.DRAIN, Trigger.REVERT: Step.SKIPPED},
    Step.DRAIN: {Trigger.DRAINED: Step.STAGE, Trigger.CLOSED: Step.HELD, **_UNTOUCHED_ENDINGS},
    Step.STAGE: {Trigger.STAGED: Step.ARM, **_UNTOUCHED_ENDINGS},
    Step.ARM: {
        Trigger.ARMED: Step.REBOOT,
        # Back on its old kernel already, but perhaps with another one armed: only a revert takes that away.
        Trigger.FELL_BACK: Step.REVERTING,
        Trigger.FATAL: Step.REVERTING,
        **_BACK_TO_OLD,
    },
    Step.REBOOT: {Trigger.REBOOTED: Step.VERIFY, Trigger.FELL_BACK: Step.FALLBACK, **_BACK_TO_OLD},
    Step.VERIFY: {
        Trigger.VERIFIED: Step.PROBATION,
        Trigger.DRILL: Step.DRILL,
        Trigger.FELL_BACK: Step.FALLBACK,
        Trigger.DEADLINE: Step.FALLBACK,
        Trigger.FATAL: Step.REVERTING,
        Trigger.REVERT: Step.REVERTING,
    },
    Step.DRILL: {Trigger.DRILLED: Step.ARM, Trigger.FAIL: Step.REVERTING, Trigger.REVERT: Step.REVERTING},
    Step.PROBATION: {
        Trigger.MEASURED: Step.BLESS,
        Trigger.NEXT_LEG: Step.ARM,
        Trigger.RETRY: Step.PROBATION,
        Trigger.NEXT_TASK: Step.PROBATION,
        Trigger.FELL_BACK: Step.FALLBACK,
        **_BACK_TO_OLD,
        **_CONDEMNED,
    },
    Step.BLESS: {Trigger.BLESSED: Step.UNCORDON, Trigger.FELL_BACK: Step.FALLBACK, **_BACK_TO_OLD, **_CONDEMNED},
    Step.UNCORDON: {
        Trigger.UNCORDONED: Step.BAKE,
        # The kernel is good; that nobody can use the host yet is its rig's failure, and is tried again.
        Trigger.FAIL: Step.BAKE,
        Trigger.DEADLINE: Step.BAKE,
        **_AFTER_BLESSING,
    },
    Step.BAKE: {Trigger.BAKED: Step.DONE, **_AFTER_BLESSING},
    Step.DONE: {Trigger.REMEASURE: Step.REMEASURE, **_AFTER_BLESSING},
    Step.REMEASURE: {
        Trigger.REMEASURED: Step.DONE,
        Trigger.RETRY: Step.REMEASURE,
        Trigger.NEXT_TASK: Step.REMEASURE,
        **_AFTER_BLESSING,
    },
    Step.FALLBACK: {
        Trigger.RETURNED: Step.REVERTED,
        Trigger.POWER_CYCLE: Step.FALLBACK,
        Trigger.DEADLINE: Step.REVERTING,
    },
    Step.REVERTING: {
        Trigger.RETURNED: Step.REVERTED,
        Trigger.POWER_CYCLE: Step.REVERTING,
        Trigger.FAIL: Step.LOST,
        Trigger.DEADLINE: Step.LOST,
    },
    Step.REVERTED: {Trigger.AGAIN: Step.PENDING},
    Step.LOST: {Trigger.RETURNED: Step.REVERTED, Trigger.REVERT: Step.REVERTING},
    Step.SKIPPED: {Trigger.AGAIN: Step.PENDING},
}

# (step, trigger) -> next step. A pair that is not listed is a bug of ours and raises.
TRANSITIONS: dict[tuple[Step, Trigger], Step] = {
    (step, trigger): target for step, row in _ROWS.items() for trigger, target in row.items()
}

ENDED = frozenset({Step.DONE, Step.REVERTED, Step.LOST, Step.SKIPPED})
# Steps of a host that has started and not ended.
IN_FLIGHT = frozenset(Step) - ENDED - {Step.PENDING}
# Steps that hold a slot of the disruption budget. A lost host keeps its slot: nobody knows what it does.
# Hosts that are measured once more have finished, and are up.
HOLDS_SLOT = (IN_FLIGHT - {Step.BAKE, Step.REMEASURE}) | {Step.LOST}
# Steps in which a host serves on the new kernel: its return takes it down, and waits for its turn.
SERVING = frozenset({Step.BAKE, Step.DONE})
# Steps in which a host is to be in service; what was drained before is uncordoned on the way in.
IN_SERVICE = frozenset(
    {Step.PENDING, Step.BASELINE, Step.HELD, Step.UNCORDON, Step.BAKE, Step.REMEASURE, Step.DONE}
) | {Step.REVERTED, Step.SKIPPED}
# Steps in which the kernel under test runs un-blessed: the host itself falls back.
ON_TRIAL = frozenset({Step.REBOOT, Step.VERIFY, Step.DRILL, Step.PROBATION, Step.BLESS})
# Steps in which a host that is not heard counts as failing.
MUST_BE_HEARD = frozenset(
    {Step.BASELINE, Step.PROBATION, Step.BLESS, Step.UNCORDON, Step.BAKE, Step.REMEASURE, Step.DONE}
)
# Steps in which the workloads run.
MEASURING = frozenset({Step.BASELINE, Step.PROBATION, Step.REMEASURE})
# The agent is told to do something and answers.
ORDERED = MEASURING | {Step.DRILL}


class ImpossibleTransition(AssertionError):
    """A trigger was fired in a step whose row does not list it."""


def next_step(step: Step, trigger: Trigger) -> Step:
    """Return the step that follows; raise ImpossibleTransition for a pair that is not in the table."""
    try:
        return TRANSITIONS[step, trigger]
    except KeyError:
        raise ImpossibleTransition(f"{trigger} is not possible in {step}") from None
