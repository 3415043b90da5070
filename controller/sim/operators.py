"""An operator in the simulated world: every verb there is, with whatever options, at moments nobody would choose."""

from collections.abc import Sequence
from typing import Final

from controller.domain.verbs import Request, Verb
from controller.sim.universe import chance

BY: Final = "simulated operator"
_PERSONS: Final = ("ada", "grace", "linus")
_REMARK: Final = "simulated"

# Verb by name, as fault files write it. A verb that operators are given can be used there at once.
VERBS: Final = {verb.value: verb for verb in Verb}


def drawn_request(name: str, seed: str, number: int, hosts: Sequence[str]) -> Request:
    """Return how a verb is used the `number`th time: who asks, with which options, about which hosts."""

    def happens(share: float, *names: object) -> bool:
        return chance(seed, "operator", name, number, *names) < share

    verb = VERBS[name]
    some = tuple(host for host in hosts if happens(2 / len(hosts), host))
    full = verb is Verb.PROMOTE and happens(0.3, "full")
    return Request(
        verb=verb,
        by=_PERSONS[int(len(_PERSONS) * chance(seed, "operator", name, number, "by"))],
        remark=_REMARK,
        hosts=some if verb is Verb.SKIP or (verb is Verb.RETRY and happens(0.5, "hosts")) else (),
        full=full,
        skip=verb is Verb.PROMOTE and not full and happens(0.4, "skip"),
        emergency=verb is Verb.REVERT and happens(0.2, "emergency"),
    )


def plain_request(name: str) -> Request:
    """Return how an operator uses a verb on a rollout that has paused: past what held it, on record."""
    verb = VERBS[name]
    return Request(verb=verb, by=BY, remark=_REMARK, skip=verb is Verb.PROMOTE)
