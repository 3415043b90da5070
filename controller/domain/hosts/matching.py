"""Which hosts an expression matches."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from controller.domain.hosts.expressions import Expression, Undecided
from controller.domain.hosts.facts import FACTS, Subject


@dataclass(frozen=True, slots=True)
class Matched:
    """Which hosts an expression matches."""

    names: frozenset[str]
    # Why it cannot be decided -> the hosts, which are not in `names`.
    undecided: Mapping[str, tuple[str, ...]]


def decide(condition: Expression, subject: Subject) -> bool | Undecided:
    """Return whether the host matches. What it does not tell, the expression does not see."""
    facts = {name: value for name in condition.names if (value := FACTS[name].read(subject)) is not None}
    return condition.decide(facts)


def matching(condition: Expression, subjects: Iterable[Subject]) -> Matched:
    """Ask the expression of every host."""
    names: set[str] = set()
    undecided: dict[str, list[str]] = defaultdict(list)
    for subject in subjects:
        decided = decide(condition, subject)
        if isinstance(decided, Undecided):
            undecided[decided.why].append(subject.host.name)
        elif decided:
            names.add(subject.host.name)
    return Matched(frozenset(names), {why: tuple(sorted(of)) for why, of in sorted(undecided.items())})
