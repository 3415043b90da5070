"""Which hosts wait for a freeze, a window or a denial, for a person who asks."""

from controller.domain.deciding.rules import boot_closed
from controller.domain.deciding.waves import starts_closed
from controller.domain.fleet.closures import Closed, HeldUp
from controller.domain.record.journey import Step
from controller.domain.record.names import Key
from controller.domain.state.rollout import State
from controller.domain.state.snapshot import AttemptSnapshot, RolloutSnapshot
from controller.services.state.world import World


def held_up(world: World, uid: str, now: float) -> HeldUp:
    """Return what keeps the rollout's hosts from being taken down, and from starting. Walks them."""
    hosts: dict[str, Closed] = {}
    for host, attempt in world.attempts[uid].items():
        if attempt.step is not Step.HELD:
            continue
        snapshot = world.snapshot(Key(uid, host))
        assert isinstance(snapshot, AttemptSnapshot), "a key with a host names an attempt"
        waits = boot_closed(snapshot, now)
        if waits is not None:
            hosts[host] = waits
    rollout = world.snapshot(Key(uid))
    assert isinstance(rollout, RolloutSnapshot), "a key without a host names a rollout"
    closed = starts_closed(rollout, now) if rollout.rollout.state is State.RUNNING else None
    return HeldUp(hosts=hosts, starts_at=None if closed is None else closed.until)
