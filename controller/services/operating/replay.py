"""What if: a rollout's log judged again, wave by wave, with the evidence that each judgement had."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from controller.domain.errors import InvalidInput
from controller.domain.judging.waves import judge_wave
from controller.domain.record.names import key_of_stream
from controller.domain.record.policy import Policy
from controller.domain.record.verdicts import WaveJudged
from controller.domain.state.rollout import Rollout
from controller.services.records import Logged
from controller.services.state.world import World
from controller.views.gate.replay import ReplayView, replay_view


def replay(
    rollout: Rollout, logged: Sequence[Logged], claims: Mapping[str, float], margins: Mapping[str, float]
) -> ReplayView:
    """Judge every wave again as of its moment, with other `claims` (metric -> saving) and `margins` (metric -> share).

    Raises InvalidInput for a metric that the rollout claims nothing of, or that has no margin in it.
    """
    policy = _with_margins(rollout, _with_claims(rollout, claims), margins)
    changes = [
        f"{claim.metric}: claim ≥ {claims[claim.metric]:g} {claim.unit} instead of ≥ {claim.at_least:g}"
        for claim in rollout.policy.claims
        if claim.metric in claims
    ]
    changes += [
        f"{metric}: margin {margin * 100:g} % instead of {rollout.policy.margins[metric] * 100:g} %"
        for metric, margin in sorted(margins.items())
    ]
    world = World()
    waves: list[tuple[WaveJudged, WaveJudged]] = []
    for one in logged:
        key = key_of_stream(one.stream)
        if isinstance(one.event, WaveJudged):
            then = replace(world.rollouts[key.uid], policy=policy)
            waves.append((one.event, judge_wave(then, world.attempts[key.uid], one.event.at)))
        world.apply(key, one.event)
    return replay_view(rollout.name, changes, waves)


def _with_margins(rollout: Rollout, policy: Policy, margins: Mapping[str, float]) -> Policy:
    for metric, margin in margins.items():
        if metric not in policy.margins:
            listed = ", ".join(sorted(policy.margins)) or "none"
            raise InvalidInput(f"--margin: {rollout.name} has no margin for {metric}; there are {listed}")
        if not 0 < margin <= 1:
            raise InvalidInput(f"--margin: {metric} must be more than 0 % and at most 100 % (got {margin * 100:g} %)")
    return replace(policy, margins={**policy.margins, **margins})


def _with_claims(rollout: Rollout, claims: Mapping[str, float]) -> Policy:
    known = {claim.metric for claim in rollout.policy.claims}
    for metric, at_least in claims.items():
        if metric not in known:
            listed = ", ".join(sorted(known)) or "nothing"
            raise InvalidInput(f"--claim: {rollout.name} claims nothing of {metric}; it claims {listed}")
        if not math.isfinite(at_least):
            raise InvalidInput(f"--claim: {metric} must be a finite number (got {at_least})")
    return replace(
        rollout.policy,
        claims=tuple(
            replace(claim, at_least=claims.get(claim.metric, claim.at_least)) for claim in rollout.policy.claims
        ),
    )
