"""An operator in the simulated world: every verb there is, with whatever options, at moments nobody would choose."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from controller.domain.caller import Caller
from controller.domain.deciding.verbs import Request
from controller.domain.record.control import Verb
from controller.services.operating.rollouts import Operations
from controller.sim.universe import chance

BY: Final = Caller("simulated operator")
_PERSONS: Final = ("ada", "grace", "linus")
_REMARK: Final = "simulated"
# A freeze is over by itself after at most this long.
_LONGEST_FREEZE_S: Final = 7200.0

# Verb by name, as fault files and --then write it. A verb that operators are given can be used at once.
ROLLOUT_VERBS: Final = {verb.value: verb for verb in Verb}
_FLEET_VERBS: Final = ("freeze", "thaw", "quarantine", "release")
# What a fault file may have operators do.
VERBS: Final = (*ROLLOUT_VERBS, *_FLEET_VERBS)


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetRequest:
    """A wish about the fleet as a whole."""

    verb: str
    by: Caller
    # For quarantine and release.
    host: str
    # For freeze.
    lasts_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRequest:
    """What a person says of a manual check."""

    verb: str
    by: Caller
    check: str
    passed: bool


AnyRequest = Request | FleetRequest | CheckRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """The `number`th use of a verb in the world of a seed."""

    seed: str
    verb: str
    number: int

    def share(self, *names: object) -> float:
        """Return a number in [0, 1) for one of its options."""
        return chance(self.seed, "operator", self.verb, self.number, *names)


def drawn_request(draw: Draw, hosts: Sequence[str]) -> Request | FleetRequest:
    """Return who asks, with which options, about which hosts."""
    by = Caller(_PERSONS[int(len(_PERSONS) * draw.share("by"))])
    if draw.verb in _FLEET_VERBS:
        # Few hosts, so that some are released again.
        host = hosts[int(min(3, len(hosts)) * draw.share("host"))]
        return FleetRequest(verb=draw.verb, by=by, host=host, lasts_s=60 + _LONGEST_FREEZE_S * draw.share("lasts"))
    verb = ROLLOUT_VERBS[draw.verb]
    some = tuple(host for host in hosts if draw.share(host) < 2 / len(hosts))
    full = verb is Verb.PROMOTE and draw.share("full") < 0.3
    return Request(
        verb=verb,
        by=by,
        remark=_REMARK,
        hosts=some if verb is Verb.SKIP or (verb is Verb.RETRY and draw.share("hosts") < 0.5) else (),
        full=full,
        skip=verb is Verb.PROMOTE and not full and draw.share("skip") < 0.4,
        emergency=verb is Verb.REVERT and draw.share("emergency") < 0.2,
    )


def plain_request(name: str) -> Request:
    """Return how an operator uses a verb on a rollout that has paused: past what held it, on record."""
    verb = ROLLOUT_VERBS[name]
    return Request(verb=verb, by=BY, remark=_REMARK, skip=verb is Verb.PROMOTE)


async def operate(operations: Operations, rollout: str, request: AnyRequest, now: float) -> None:
    """Ask for it; raises Permanent where it is refused."""
    if isinstance(request, Request):
        await operations.control(rollout, request)
        return
    if isinstance(request, CheckRequest):
        await operations.report_check(rollout, request.check, passed=request.passed, by=request.by, remark=_REMARK)
        return
    fleet = operations.fleet
    match request.verb:
        case "freeze":
            await fleet.freeze(_REMARK, now + request.lasts_s, request.by)
        case "thaw":
            await fleet.thaw(_REMARK, request.by)
        case "quarantine":
            await fleet.quarantine(request.host, _REMARK, request.by)
        case "release":
            await fleet.release(request.host, _REMARK, request.by)
        case unknown:
            raise AssertionError(f"operators are not given {unknown!r}")
