"""Who a session's other end is: what is enrolled, two machines under one name, and the epoch that all of them obey."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from controller.domain.errors import Permanent, Temporary
from controller.services.ports import Clock, Store
from controller.services.records import Enrolled, not_enrolled

_log = structlog.get_logger("identity")

# Restarts between a backup and its restore raise an epoch by one each; whoever names more is damaged or hostile.
MOST_EPOCHS_AHEAD = 1_000_000
# Agents refuse a higher one: below it every number is exact in every language.
_HIGHEST_EPOCH = 2**53
# Boots that take turns within this time are two machines: one machine's former boot never comes back.
TURNS_WITHIN_S = 3600.0
_SENT_AWAY_S = 600.0
# Of one host, so many boots are remembered.
_MOST_BOOTS = 16
# An agent whose connection broke takes over its own session; so often within this time it is two agents, or a network
# that somebody should look at.
MANY_TAKEOVERS = 5
TAKEOVERS_WITHIN_S = 300.0


class SentAway(Temporary):
    """This machine must not be served now; it may ask again after `retry_after_s`."""


class Identities:
    """Who is enrolled, in memory: a fleet that comes back at once costs the store no read."""

    def __init__(self) -> None:
        self._enrolled: dict[str, Enrolled] = {}

    async def load(self, store: Store) -> None:
        """Begin with what the store holds."""
        self._enrolled = {one.host: one for one in await store.enrolled()}

    def check(self, host: str, key_digest: str) -> Enrolled:
        """Return what is enrolled; raises Permanent when it is not this key."""
        known = self._enrolled.get(host)
        if known is None or known.key_digest != key_digest:
            raise Permanent(not_enrolled(host))
        return known

    def note(self, enrolled: Enrolled) -> None:
        """Remember a host's newest certificate, under its newest spelling."""
        for name in [name for name, one in self._enrolled.items() if _same(one, enrolled)]:
            del self._enrolled[name]
        self._enrolled[enrolled.host] = enrolled

    def forget(self, host: str) -> Enrolled | None:
        """Welcome the host no more; return what was known of it."""
        return self._enrolled.pop(host, None)


class Epochs:
    """This controller's epoch, kept above what agents have obeyed.

    A database that was restored from a backup begins with an epoch that agents have left behind; they would refuse
    every command for stale.
    """

    def __init__(self, store: Store, opened: int) -> None:
        self._store = store
        self._most = min(opened + MOST_EPOCHS_AHEAD, _HIGHEST_EPOCH)
        self._raising = asyncio.Lock()
        self.current = opened

    async def above(self, host: str, obeyed: int) -> None:
        """Let the epoch be no lower than what the host has obeyed; raises Permanent for what no restore explains."""
        if obeyed <= self.current:
            return
        if obeyed > self._most:
            raise Permanent(
                f"{host} has obeyed a controller of epoch {obeyed}, this one's is {self.current} and goes to "
                f"{self._most} at most: restore a newer backup of the controller's database; or, when it is the host's "
                "journal that is damaged, stop its agent, move commands.journal in its state directory away, and start "
                "it again"
            )
        async with self._raising:
            if obeyed > self.current:
                before, self.current = self.current, await self._store.raise_epoch(obeyed)
                _log.warning("epoch_raised", host=host, from_epoch=before, to_epoch=self.current)


@dataclass(slots=True, kw_only=True)
class _Boots:
    newest: str
    # Boot -> when another one took its place.
    left: dict[str, float] = field(default_factory=dict)
    # When a boot was met that had been left; 0 when none was.
    turned_at: float = 0.0
    # The boot that was sent away last.
    other: str = ""
    # When sessions began while another one of the same boot was there, the last of them.
    takeovers: tuple[float, ...] = ()


class Clones:
    """Notices two machines that use one certificate, by boots that take turns.

    A machine that reboots leaves its former boot for good, and one that reconnects keeps its boot.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._of: dict[str, _Boots] = {}

    def check(self, host: str, boot_id: str, *, connected: bool) -> None:
        """Take note of who says Hello; raises SentAway when another machine of this name is connected."""
        now = self._clock.now()
        known = self._of.setdefault(host, _Boots(newest=boot_id))
        if boot_id == known.newest:
            if connected:
                known.takeovers = (*known.takeovers, now)[-MANY_TAKEOVERS:]
            return
        if now - known.left.get(boot_id, -TURNS_WITHIN_S) < TURNS_WITHIN_S:
            known.turned_at, known.other = now, boot_id
            if connected:
                known.left[boot_id] = now
                _log.warning("two_machines", host=host, served=known.newest, sent_away=boot_id)
                raise SentAway(_two(host, known.newest, boot_id), retry_after_s=_SENT_AWAY_S)
            known.other = known.newest
        known.left[known.newest] = now
        known.left.pop(boot_id, None)
        known.newest = boot_id
        for old in [one for one, at in known.left.items() if now - at >= TURNS_WITHIN_S]:
            del known.left[old]
        while len(known.left) > _MOST_BOOTS:
            del known.left[next(iter(known.left))]

    def attention(self, host: str) -> str:
        """Return what an operator has to know about who uses the host's name; empty when all is well."""
        known, now = self._of.get(host), self._clock.now()
        if known is not None and known.turned_at and now - known.turned_at < TURNS_WITHIN_S:
            return _two(host, known.newest, known.other)
        # A copy of a machine that was running has its boot, too.
        if known is None or len(known.takeovers) < MANY_TAKEOVERS or now - known.takeovers[0] >= TAKEOVERS_WITHIN_S:
            return ""
        return (
            f"{host} has begun a session {MANY_TAKEOVERS} times within {TAKEOVERS_WITHIN_S / 60:.0f} minutes while its "
            "former one was there: two agents have one state directory (a copy of a running machine, for example), or "
            "the network between here and there drops connections"
        )

    def forget(self, host: str) -> None:
        """Begin anew with the host."""
        self._of.pop(host, None)


def checked_name(claimed: str, certified: Sequence[str]) -> str:
    """Return the host's name as its certificate vouches for it; raises Permanent when it does not.

    Names that differ only in case are one name.
    """
    for name in certified:
        if name.lower() == claimed.lower():
            return name
    raise Permanent(f"the certificate is for {', '.join(certified) or 'nobody'}, not for {claimed}")


def _same(one: Enrolled, other: Enrolled) -> bool:
    return one.host.lower() == other.host.lower() and one.key_digest == other.key_digest


def _two(host: str, served: str, sent_away: str) -> str:
    return (
        f"two machines say that they are {host}: boot {served} is served, boot {sent_away} is sent away for "
        f"{_SENT_AWAY_S / 60:.0f} minutes at a time; one is a copy of the other. On the copy stop the agent, remove "
        "its state directory, and enroll it under a name of its own"
    )
