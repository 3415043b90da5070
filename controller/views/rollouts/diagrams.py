"""The state tables as pages of the documentation: drawn from the tables themselves, so they cannot go stale."""

from collections import defaultdict

from controller.domain.deciding.verbs import ANSWERS
from controller.domain.record.control import Verb
from controller.domain.record.journey import (
    CLOSING,
    ENDED,
    HOLDS_SLOT,
    LEGS,
    ON_TRIAL,
    TRANSITIONS,
    Side,
    Step,
    Trigger,
)
from controller.domain.state.rollout import ENDED_STATES, FOLLOWING, State


def journey_page() -> str:
    """Return docs/journey.md: a host's steps and a rollout's states, as pictures and tables."""
    parts = [
        "# A host's journey and a rollout's states",
        "",
        "Generated from `controller/domain/record/journey.py` and `controller/domain/state/rollout.py` by `make docs`;",
        "a test compares.",
        "",
        "## The way of a host when all goes well",
        "",
        "```mermaid",
        "stateDiagram-v2",
        *(f"    {before} --> {after}: {trigger}" for before, trigger, after in _good_way()),
        "```",
        "",
        *_legs(),
        "",
        "## Every transition",
        "",
        "A pair that is not listed raises: it is a bug, not an event. *Slot*: the host counts against",
        "`limits.max_in_flight`. *Trial*: the kernel under test runs un-blessed, and the host falls back by itself.",
        "",
        "| Step | Slot | Trial | On | Then |",
        "|---|---|---|---|---|",
        *_rows(),
        "",
        "## The states of a rollout",
        "",
        "```mermaid",
        "stateDiagram-v2",
        "    [*] --> planned",
        *(f"    {state} --> {after}" for state in FOLLOWING for after in sorted(FOLLOWING[state])),
        *(f"    {state} --> [*]" for state in sorted(ENDED_STATES)),
        "```",
        "",
        "## What operators can ask, state by state",
        "",
        "From `controller/domain/deciding/verbs.py`. *yes*: it is done, or refused for a reason of its own, such as",
        "a host that is under way; the other cells are what the operator is told.",
        "",
        *_verbs(),
        "",
    ]
    return "\n".join(parts)


def _verbs() -> list[str]:
    """One line per state, one column per verb."""
    rows = [f"| State | {' | '.join(f'`{verb}`' for verb in Verb)} |", f"|---{'|---' * len(Verb)}|"]
    for state in State:
        answers = [ANSWERS[verb, state] for verb in Verb]
        rows.append(f"| **{state}** | {' | '.join(one if isinstance(one, str) else 'yes' for one in answers)} |")
    return rows


def _good_way() -> list[tuple[Step, Trigger, Step]]:
    """Follow the trigger that leads on from each step until the host is done."""
    onward = {
        Step.PENDING: Trigger.START,
        Step.BASELINE: Trigger.MEASURED,
        Step.HELD: Trigger.CLEARED,
        Step.DRAIN: Trigger.DRAINED,
        Step.STAGE: Trigger.STAGED,
        Step.ARM: Trigger.ARMED,
        Step.REBOOT: Trigger.REBOOTED,
        Step.VERIFY: Trigger.VERIFIED,
        Step.PROBATION: Trigger.MEASURED,
        Step.BLESS: Trigger.BLESSED,
        Step.UNCORDON: Trigger.UNCORDONED,
        Step.BAKE: Trigger.BAKED,
    }
    return [(step, trigger, TRANSITIONS[step, trigger]) for step, trigger in onward.items()]


def _legs() -> list[str]:
    return [
        "| Role | Boots, in order | Then, to stay |",
        "|---|---|---|",
        *(f"| {role} | {_sides(sides)} | {_sides(CLOSING[role])} |" for role, sides in LEGS.items()),
        "",
        "Each boot is measured. A crossover host walks its row once a cycle, and then takes the kernel it is to keep.",
    ]


def _sides(sides: tuple[Side, ...]) -> str:
    return ", ".join(side.value for side in sides)


def _rows() -> list[str]:
    by_step: dict[Step, dict[Step, list[str]]] = {step: defaultdict(list) for step in Step}
    for (step, trigger), target in TRANSITIONS.items():
        by_step[step][target].append(trigger.value)
    rows = []
    for step, targets in by_step.items():
        slot, trial = ("yes" if step in group else "" for group in (HOLDS_SLOT, ON_TRIAL))
        if not targets:
            rows.append(f"| **{step}** | {slot} | {trial} | | {'ends here' if step in ENDED else ''} |")
        for target, triggers in targets.items():
            rows.append(f"| **{step}** | {slot} | {trial} | {', '.join(sorted(triggers))} | {target} |")
    return rows


if __name__ == "__main__":
    print(journey_page(), end="")
