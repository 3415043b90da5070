"""The store port in memory, for tests and simulations: the same promises, and failures on request."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from controller.domain.errors import Conflict, KernrollError, Permanent
from controller.domain.hosts.host import Host
from controller.domain.record.effects import Effect
from controller.domain.record.fleet import HostForgotten
from controller.domain.record.names import FLEET_STREAM, attempt_stream, rollout_stream
from controller.gate.ledger import Boot, Judgement, Ledger
from controller.services import records
from controller.services.records import Commit, Enrolled, Loaded, Logged, TokenGrant


@dataclass(slots=True)
class Disk:
    """What outlives a controller; several stores may be opened on one."""

    epoch: int = 0
    log: list[Logged] = field(default_factory=list)
    revisions: dict[str, int] = field(default_factory=dict)
    # Command id -> (stream, effect), oldest first.
    effects: dict[str, tuple[str, Effect]] = field(default_factory=dict)
    # Stream -> the command ids of its newest effects: replacing them touches no other stream's.
    of_stream: dict[str, tuple[str, ...]] = field(default_factory=dict)
    reports: set[str] = field(default_factory=set)
    hosts: dict[str, Host] = field(default_factory=dict)
    boots: list[Boot] = field(default_factory=list)
    judgements: list[Judgement] = field(default_factory=list)
    tokens: dict[str, TokenGrant] = field(default_factory=dict)
    enrolled: dict[str, Enrolled] = field(default_factory=dict)
    # Raised by every write while it is set, and nothing is written: a full disk.
    failure: KernrollError | None = None

    def fail(self) -> None:
        """Raise what every write is to end with, if anything."""
        if self.failure is not None:
            raise self.failure


class MemoryStore:
    """A Store on a `Disk`."""

    def __init__(self, disk: Disk | None = None) -> None:
        self.disk = disk or Disk()
        self._epoch = 0

    async def open(self, *, may_create: bool = True) -> int:
        """See Store.open."""
        if not self.disk.epoch and not may_create:
            raise Permanent("the store holds no events, and may not be made")
        self.disk.fail()
        self.disk.epoch += 1
        self._epoch = self.disk.epoch
        return self._epoch

    async def raise_epoch(self, above: int) -> int:
        """See Store.raise_epoch."""
        with self._writing() as disk:
            self._epoch = disk.epoch = max(disk.epoch, above + 1)
        return self._epoch

    async def close(self) -> None:
        """See Store.close."""

    async def load(self) -> Loaded:
        """See Store.load."""
        return Loaded(events=tuple(self.disk.log), hosts=dict(self.disk.hosts), effects=await self.outstanding())

    async def commit(self, commit: Commit) -> bool:
        """See Store.commit."""
        with self._writing():
            self._check(commit)
            return self._write(commit)

    async def commit_all(self, commits: Sequence[Commit]) -> None:
        """See Store.commit_all."""
        with self._writing():
            for commit in commits:
                self._check(commit)
            for commit in commits:
                self._write(commit)

    def _check(self, commit: Commit) -> None:
        """Raise Conflict when this may not be written."""
        disk = self.disk
        known = bool(commit.report_id) and commit.report_id in disk.reports
        if not known and commit.events and disk.revisions.get(commit.stream, 0) != commit.expected_revision:
            raise Conflict(f"{commit.stream} has moved on from revision {commit.expected_revision}")

    def _write(self, commit: Commit) -> bool:
        disk = self.disk
        if commit.report_id:
            if commit.report_id in disk.reports:
                return False
            disk.reports.add(commit.report_id)
        self._append(commit)
        if commit.effects is not None:
            for command_id in disk.of_stream.pop(commit.stream, ()):
                disk.effects.pop(command_id, None)
            for effect in commit.effects:
                disk.effects[effect.command_id] = (commit.stream, effect)
            disk.of_stream[commit.stream] = tuple(effect.command_id for effect in commit.effects)
        disk.boots += commit.boots
        disk.judgements += commit.judgements
        return True

    def _append(self, commit: Commit) -> None:
        disk = self.disk
        for revision, event in enumerate(commit.events, start=commit.expected_revision + 1):
            disk.log.append(Logged(number=len(disk.log) + 1, stream=commit.stream, revision=revision, event=event))
            disk.revisions[commit.stream] = revision
            if isinstance(event, HostForgotten):
                disk.enrolled.pop(event.host, None)
                disk.hosts.pop(event.host, None)

    async def effect_done(self, command_id: str) -> None:
        """See Store.effect_done."""
        with self._writing() as disk:
            disk.effects.pop(command_id, None)

    async def outstanding(self) -> tuple[Effect, ...]:
        """See Store.outstanding."""
        return tuple(effect for _, effect in self.disk.effects.values())

    async def events(self, rollout_uid: str) -> tuple[Logged, ...]:
        """See Store.events."""
        own, of_hosts = rollout_stream(rollout_uid), attempt_stream(rollout_uid, "")
        return tuple(one for one in self.disk.log if one.stream == own or one.stream.startswith(of_hosts))

    async def fleet_events(self, most: int) -> tuple[Logged, ...]:
        """See Store.fleet_events."""
        own = [one for one in self.disk.log if one.stream == FLEET_STREAM]
        return tuple(own[max(0, len(own) - most) :])

    async def ledger(self, strata: Sequence[str]) -> Ledger:
        """See Store.ledger."""
        boots: list[Boot] = []
        judgements: list[Judgement] = []
        for stratum in sorted(set(strata)):
            own = [boot for boot in self.disk.boots if boot.stratum == stratum]
            last = list(dict.fromkeys(boot.host for boot in reversed(own)))[: records.MOST_LEDGER_HOSTS]
            kept = [boot for boot in own if boot.host in last]
            ages: Counter[tuple[str, str]] = Counter()
            newest = []
            for boot in reversed(kept):
                ages[boot.host, boot.metric] += 1
                if ages[boot.host, boot.metric] <= records.MOST_LEDGER_BOOTS:
                    newest.append(boot)
            boots += reversed(newest[: records.MOST_LEDGER_ROWS])
            judgements += [one for one in self.disk.judgements if one.stratum == stratum][-records.MOST_LEDGER_ROWS :]
        return Ledger(boots=tuple(boots), judgements=tuple(judgements))

    async def save_host(self, host: Host) -> None:
        """See Store.save_host."""
        with self._writing() as disk:
            disk.hosts[host.name] = host

    async def create_token(self, grant: TokenGrant) -> None:
        """See Store.create_token."""
        with self._writing() as disk:
            disk.tokens[grant.secret_digest] = grant

    async def redeem_token(self, secret_digest: str, enrolled: Enrolled, now: float) -> None:
        """See Store.redeem_token."""
        with self._writing() as disk:
            grant = disk.tokens.get(secret_digest)
            known = [one for name, one in disk.enrolled.items() if name.lower() == enrolled.host.lower()]
            mine = [one for one in known if one.key_digest == enrolled.key_digest]
            if grant is None or grant.expires_at <= now or (grant.uses < 1 and not mine):
                raise Permanent(records.unusable_token())
            if known and not mine:
                raise Conflict(records.taken(known[0].host))
            if not mine:
                disk.tokens[secret_digest] = replace(grant, uses=grant.uses - 1)
            for one in mine:
                del disk.enrolled[one.host]
            disk.enrolled[enrolled.host] = enrolled

    async def renewed(self, enrolled: Enrolled) -> None:
        """See Store.renewed."""
        with self._writing() as disk:
            known = disk.enrolled.get(enrolled.host)
            if known is None or known.key_digest != enrolled.key_digest:
                raise Conflict(records.not_enrolled(enrolled.host))
            disk.enrolled[enrolled.host] = enrolled

    async def enrolled(self) -> tuple[Enrolled, ...]:
        """See Store.enrolled."""
        return tuple(one for _, one in sorted(self.disk.enrolled.items()))

    @contextmanager
    def _writing(self) -> Iterator[Disk]:
        disk = self.disk
        disk.fail()
        if disk.epoch != self._epoch:
            raise Conflict(f"another controller has taken over (epoch {disk.epoch}, ours is {self._epoch})")
        yield disk
