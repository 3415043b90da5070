"""What operators decide about hosts and kernels, whatever rollouts there are: one event each, with who decided."""

from collections.abc import Callable, Mapping, Sequence
from typing import cast

from controller.domain.caller import Caller
from controller.domain.errors import Conflict, InvalidInput, NotFound
from controller.domain.fleet.decided import Fleet
from controller.domain.fleet.denials import check_kernel
from controller.domain.fleet.inventory import changes, check_label
from controller.domain.fleet.limits import MOST_DECISIONS
from controller.domain.hosts.host import check_host_name
from controller.domain.printable import is_plain, printable
from controller.domain.record.fleet import (
    FleetEvent,
    FleetFrozen,
    FleetThawed,
    HostForgotten,
    HostLabelled,
    HostQuarantined,
    HostReleased,
    InventoryImported,
    KernelCleared,
    KernelDenied,
)
from controller.domain.record.names import FLEET
from controller.services.engine.engine import Engine
from controller.services.operating.hosts import condition
from controller.services.ports import Clock, Store
from controller.views.hosts.fleet import FleetView, HostLabelsView, InventoryDiffView, fleet_view, inventory_diff
from controller.views.hosts.fleet_log import DecisionView, decision_views
from controller.words import LAST_MOMENT, names_text

_LONGEST_REMARK = 1000
_LONGEST_NAME = 128


class FleetOperations:
    """The verbs of `kernroll fleet` and those of `kernroll hosts` that change something."""

    def __init__(self, engine: Engine, store: Store, clock: Clock) -> None:
        self._engine = engine
        self._store = store
        self._clock = clock
        # Ends what a host is welcomed by, and its session, with a reason.
        self.on_forgotten: Callable[[str, str], None] = lambda _host, _reason: None

    def fleet(self) -> FleetView:
        """Return what holds now."""
        return fleet_view(self._fleet, self._engine.world.hosts, self._clock.now())

    async def log(self, most: int) -> tuple[DecisionView, ...]:
        """Return the newest decisions, oldest first; raises InvalidInput for no sensible number of them."""
        if not 1 <= most <= MOST_DECISIONS:
            raise InvalidInput(f"1 to {MOST_DECISIONS} decisions can be listed (got {most})")
        events = [one.event for one in await self._store.fleet_events(most)]
        return decision_views(cast(list[FleetEvent], events))

    async def label(self, host: str, labels: Mapping[str, str], removed: Sequence[str], by: Caller) -> HostLabelsView:
        """Set labels of a host by hand, and take labels set by hand back; raises NotFound or InvalidInput."""
        for key, value in labels.items():
            check_label(key, value)
        if not labels and not removed:
            raise InvalidInput("no label is given: write KEY=VALUE to set one, KEY- to take one back")

        def decide() -> FleetEvent:
            self._check_known(host)
            by_hand = self._fleet.labels.get(host, {})
            if strange := sorted(set(removed) - set(by_hand)):
                raise NotFound(
                    f"{host} has no label {printable(strange[0], 253)} that was set by hand; {_those(by_hand)}"
                )
            return HostLabelled(
                at=self._clock.now(), by=by.name, host=host, labels=dict(labels), removed=tuple(removed)
            )

        await self._record(decide)
        return self._labels(host)

    async def import_inventory(
        self,
        inventory: str,
        hosts: Mapping[str, Mapping[str, str]],
        by: Caller,
        *,
        kept: Sequence[str] = (),
        dry_run: bool,
    ) -> InventoryDiffView:
        """Replace what an inventory says of its hosts, and return what that changes; nothing with `dry_run`.

        What it said of hosts in `kept`, which it names and which could not be read, stays. Raises InvalidInput for a
        bad label, and for a host that another inventory names.
        """
        if not inventory or len(inventory) > _LONGEST_NAME or not is_plain(inventory):
            raise InvalidInput(f"the inventory's name must be one line of 1 to {_LONGEST_NAME} printable characters")
        for host, labels in hosts.items():
            check_host_name(host)
            for key, value in labels.items():
                check_label(key, value)
        expected = self._fleet.expected
        before = {host: expected[host].labels for host in kept if host in expected and host not in hosts}
        hosts = {**hosts, **{host: before[host] for host in before if expected[host].inventory == inventory}}
        found = changes(self._fleet, inventory, hosts)
        view = inventory_diff(inventory, found, hosts, self._engine.world.hosts)
        if found and not dry_run:

            def decide() -> FleetEvent:
                changes(self._fleet, inventory, hosts)
                return InventoryImported(at=self._clock.now(), by=by.name, inventory=inventory, hosts=hosts)

            await self._record(decide)
        return view

    async def quarantine(self, host: str, remark: str, by: Caller) -> FleetView:
        """Leave a host out of rollouts; raises NotFound, or Conflict when it is quarantined already."""
        _check_remark(remark, needed=True)

        def decide() -> FleetEvent:
            self._check_known(host)
            if known := self._fleet.quarantined.get(host):
                raise Conflict(f"{host} is quarantined already, by {known.by}: {known.remark}")
            return HostQuarantined(at=self._clock.now(), by=by.name, host=host, remark=remark)

        return await self._recorded(decide)

    async def release(self, host: str, remark: str, by: Caller) -> FleetView:
        """End a quarantine; raises Conflict when there is none."""
        _check_remark(remark)

        def decide() -> FleetEvent:
            if host not in self._fleet.quarantined:
                raise Conflict(f"{host} is not quarantined; `kernroll fleet status` lists the hosts that are")
            return HostReleased(at=self._clock.now(), by=by.name, host=host, remark=remark)

        return await self._recorded(decide)

    async def forget(self, host: str, remark: str, by: Caller) -> FleetView:
        """End what a host is known by, so that its name may be enrolled with another key.

        Labels by hand and a quarantine stay: they are about the name. Raises NotFound, or Conflict while a rollout has
        the host in flight.
        """
        _check_remark(remark, needed=True)
        enrolled = {one.host for one in await self._store.enrolled()}

        def decide() -> FleetEvent:
            if host not in enrolled and host not in self._engine.world.hosts:
                raise NotFound(f"no host {host} has enrolled; `kernroll hosts list` shows those that have")
            attempt = self._engine.world.active_attempt(host)
            if attempt is not None and attempt.in_flight:
                raise Conflict(
                    f"{host} is in flight in rollout {attempt.rollout} ({attempt.step.value}): wait until it has "
                    f"finished, or `kernroll rollout abort {attempt.rollout}` brings it back first"
                )
            return HostForgotten(at=self._clock.now(), by=by.name, host=host, remark=remark)

        await self._record(decide)
        self._engine.world.forget(host)
        self.on_forgotten(host, f"{host} was forgotten by {by.name}: {remark}")
        return self.fleet()

    async def deny(self, kernel: str, where: str, reason: str, by: Caller) -> FleetView:
        """Keep a kernel from hosts; raises InvalidInput."""
        _check_remark(reason, needed=True)
        check_kernel(kernel)
        if where:
            condition(where, "where")
        return await self._recorded(
            lambda: KernelDenied(at=self._clock.now(), by=by.name, kernel=kernel, where=where, reason=reason)
        )

    async def allow(self, kernel: str, where: str | None, remark: str, by: Caller) -> FleetView:
        """Take back the rules about a kernel, or the one with this expression; raises NotFound."""
        _check_remark(remark)
        told = printable(kernel, 128)

        def decide() -> FleetEvent:
            named = self._fleet.denied_as(kernel)
            if not named:
                raise NotFound(f"no rule denies {told}; `kernroll hosts denied` lists the rules as they are written")
            if len(named) > 1:
                raise Conflict(f"{told} begins the digests of {len(named)} denied kernels: {names_text(named)}")
            mine = [one for one in self._fleet.denials if one.kernel == named[0]]
            if where is not None and where not in [one.where for one in mine]:
                raise NotFound(f"no rule denies {told} with that expression; `kernroll hosts denied` lists them")
            return KernelCleared(at=self._clock.now(), by=by.name, kernel=named[0], where=where, remark=remark)

        return await self._recorded(decide)

    async def freeze(self, remark: str, until: float | None, by: Caller) -> FleetView:
        """Let no rollout admit hosts; raises InvalidInput for a time that has passed."""
        _check_remark(remark, needed=True)

        def decide() -> FleetEvent:
            now = self._clock.now()
            # Not a number compares as false.
            if until is not None and not now < until < LAST_MOMENT:
                raise InvalidInput(
                    "the freeze would end before it begins, or never: its end must be ahead, and before 10000"
                )
            return FleetFrozen(at=now, by=by.name, remark=remark, until=until)

        return await self._recorded(decide)

    async def thaw(self, remark: str, by: Caller) -> FleetView:
        """End a freeze; raises Conflict when there is none."""
        _check_remark(remark)

        def decide() -> FleetEvent:
            now = self._clock.now()
            if self._fleet.frozen(now) is None:
                raise Conflict("the fleet is not frozen")
            return FleetThawed(at=now, by=by.name, remark=remark)

        return await self._recorded(decide)

    @property
    def _fleet(self) -> Fleet:
        return self._engine.world.fleet

    def _labels(self, host: str) -> HostLabelsView:
        known = self._engine.world.hosts.get(host)
        if known is not None:
            labels = self._fleet.labels_of(known)
        else:
            expected = self._fleet.expected.get(host)
            labels = {**(expected.labels if expected else {}), **self._fleet.labels.get(host, {})}
        return HostLabelsView(host, dict(sorted(labels.items())))

    def _check_known(self, host: str) -> None:
        if not any(host in known for known in (self._engine.world.hosts, self._fleet.expected, self._fleet.labels)):
            raise NotFound(
                f"no host {printable(host, 128)} has enrolled and no inventory names it; "
                "`kernroll hosts list` shows those that have"
            )

    async def _record(self, decide: Callable[[], FleetEvent]) -> None:
        await self._engine.record(FLEET, lambda: (decide(),))

    async def _recorded(self, decide: Callable[[], FleetEvent]) -> FleetView:
        await self._record(decide)
        return self.fleet()


def _check_remark(remark: str, *, needed: bool = False) -> None:
    if needed and not remark.strip():
        raise InvalidInput("the remark is empty: say why, for those who will read it later")
    if len(remark) > _LONGEST_REMARK or not is_plain(remark):
        raise InvalidInput(f"the remark must be one line of at most {_LONGEST_REMARK} printable characters")


def _those(by_hand: Mapping[str, str]) -> str:
    listed = ", ".join(sorted(by_hand))
    return f"those that were: {listed}" if listed else "none was"
