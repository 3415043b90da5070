"""The operators' verbs. Reads return view models; every mutation is an event with the operator's name in it."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace

from controller.domain.caller import Caller
from controller.domain.deciding.checks import decide_report
from controller.domain.deciding.verbs import Request, decide_verb
from controller.domain.deciding.waves import why_waiting
from controller.domain.errors import Conflict, NotFound
from controller.domain.hosts.host import Host
from controller.domain.record.control import Verb
from controller.domain.record.events import Event, RevertStarted, RolloutPlanned, RolloutStarted
from controller.domain.record.journey import Step
from controller.domain.record.names import Key
from controller.domain.state.attempt import Attempt
from controller.domain.state.rollout import Rollout
from controller.domain.state.snapshot import RolloutSnapshot
from controller.services.agents.sessions import Sessions
from controller.services.engine.engine import Engine
from controller.services.operating.fleet import FleetOperations
from controller.services.operating.hosts import find_hosts
from controller.services.operating.plans import Known, Prepared, WithoutPower, planned_cells, prepare
from controller.services.operating.replay import replay
from controller.services.ports import Clock, Kernels, Store
from controller.services.state.waiting import held_up
from controller.views.gate.ledger import ledger_view
from controller.views.gate.replay import ReplayView
from controller.views.hosts.fleet import HostsView
from controller.views.hosts.listing import host_view
from controller.views.models import (
    ExplanationView,
    HostView,
    LedgerView,
    LiveProgress,
    ReportView,
    RolloutLogView,
    RolloutView,
)
from controller.views.plan_models import PlanView
from controller.views.plans.pace import pace_sentences
from controller.views.plans.plan import plan_view
from controller.views.report import rebuild, report
from controller.views.report.log import MOST_SHOWN, rollout_log
from controller.views.rollouts.explain import explain
from controller.views.rollouts.status import rollout_view

# A watcher hears of the passing of time at least this often.
_WATCH_PULSE_S = 15.0
# And of changes at most this often, so that watching a large fleet costs the same as watching a small one.
_WATCH_PAUSE_S = 0.2


def _new_uid() -> str:
    return secrets.token_hex(8)


async def _all_of_them(hosts: Sequence[str]) -> tuple[str, ...]:
    return tuple(hosts)


class Operations:
    """What operators can ask and do."""

    def __init__(
        self,
        engine: Engine,
        store: Store,
        sessions: Sessions,
        kernels: Kernels,
        clock: Clock,
        *,
        new_uid: Callable[[], str] = _new_uid,
    ) -> None:
        self._engine = engine
        self._store = store
        self._sessions = sessions
        self._kernels = kernels
        self._clock = clock
        self._new_uid = new_uid
        self.fleet = FleetOperations(engine, store, clock)
        # The name of the delivery that a plan pins for a host; None where there is no choice.
        self.delivery_of: Callable[[Host], str] | None = None
        # The name of the place that a plan pins for a host, empty where it may go down as it is.
        self.place_of: Callable[[Host], str] = lambda _host: ""
        # Those of some hosts that have no management controller.
        self.without_power: WithoutPower = _all_of_them
        # By host, what its delivery is at.
        self.working: Mapping[str, LiveProgress] = {}

    def hosts(self, selector: str, where: str = "") -> HostsView:
        """Return the hosts that a selector and an expression match, by name; raises InvalidInput for a bad one."""
        found = find_hosts(self._engine.world, selector, where)
        return HostsView(tuple(self._attended(host) for host in found.hosts), found.notes)

    def host(self, name: str) -> HostView:
        """Return one host; raises NotFound."""
        world = self._engine.world
        if name not in world.hosts:
            raise NotFound(f"no host {name} has enrolled; `kernroll hosts list` shows those that have")
        return self._attended(host_view(world.hosts[name], world.active_attempt(name), world.fleet))

    def _attended(self, host: HostView) -> HostView:
        held = self._sessions.held.get(host.name)
        attention = self._sessions.clones.attention(host.name)
        return replace(host, attention=attention, spooled_reports=held.spooled_reports if held else 0)

    async def plan(self, spec_yaml: str, file_name: str, *, aa: bool = False) -> PlanView:
        """Return what a rollout would do; changes nothing but the kernel store."""
        prepared = await prepare(spec_yaml, file_name, self._known(), aa=aa)
        world = self._engine.world
        labels = {name: world.fleet.labels_of(host) for name, host in world.hosts.items()}
        now = self._clock.now()
        return _plan_view(prepared, pace_sentences(prepared.policy, prepared.plan, labels, now, world.boots))

    async def start(self, spec_yaml: str, file_name: str, by: Caller, *, aa: bool = False) -> RolloutView:
        """Start a rollout, or an old-vs-old one; raises Conflict with every blocker."""
        prepared = await prepare(spec_yaml, file_name, self._known(), aa=aa)
        if prepared.all_blockers:
            listed = "".join(f"\n  - {blocker}" for blocker in prepared.all_blockers)
            raise Conflict(f"{prepared.spec.name} cannot start:{listed}")
        now = self._clock.now()
        uid = self._new_uid()
        planned = RolloutPlanned(
            at=now,
            uid=uid,
            name=prepared.spec.name,
            spec_yaml=spec_yaml,
            salt=prepared.plan.seed,
            kernels=prepared.kernels,
            waves=tuple(wave.hosts for wave in prepared.plan.waves),
            bake_s=tuple(wave.bake_s for wave in prepared.plan.waves),
            by=by.name,
            policy=prepared.policy,
        )

        def decide() -> tuple[Event, ...]:
            self._check_unclaimed(planned)
            return (planned, RolloutStarted(at=now, by=by.name))

        await self._engine.record(Key(uid), decide)
        return self.rollout(prepared.spec.name)

    def rollouts(self) -> tuple[RolloutView, ...]:
        """Return all rollouts, oldest first."""
        ordered = sorted(self._engine.world.rollouts.values(), key=lambda rollout: rollout.planned_at)
        return tuple(self._view(rollout) for rollout in ordered)

    def rollout(self, name: str) -> RolloutView:
        """Return one rollout; raises NotFound."""
        return self._view(self._find(name))

    async def watch(self, name: str) -> AsyncIterator[RolloutView]:
        """Yield the rollout now and after every change, until it has ended."""
        seen = self._engine.changes
        view = self.rollout(name)
        yield view
        while not view.terminal:
            await asyncio.sleep(_WATCH_PAUSE_S)
            seen = await self._engine.wait_for_change(seen, _WATCH_PULSE_S)
            view = self.rollout(name)
            yield view

    async def control(self, name: str, request: Request) -> RolloutView:
        """Do what an operator asks; raises Conflict with the reason when the rollout's state does not allow it."""
        uid = self._find(name).uid

        def decide() -> tuple[Event, ...]:
            world = self._engine.world
            events = decide_verb(world.rollouts[uid], world.attempts[uid], request, self._clock.now())
            if any(isinstance(event, RevertStarted) for event in events):
                self._check_free(uid)
            return events

        decide()
        if request.verb is Verb.REVERT:
            # Nobody told an ended rollout what its hosts did since: it must know their present boots before it acts.
            await self._sessions.catch_up(uid)
        await self._engine.record(Key(uid), decide)
        return self.rollout(name)

    async def report_check(self, name: str, check: str, *, passed: bool, by: Caller, remark: str) -> RolloutView:
        """Record what a person says of a manual check; raises NotFound, or Conflict when nobody waits for it."""
        uid = self._find(name).uid

        def decide() -> tuple[Event, ...]:
            rollout, now = self._engine.world.rollouts[uid], self._clock.now()
            return (decide_report(rollout, check, passed=passed, by=by.name, remark=remark, now=now),)

        await self._engine.record(Key(uid), decide)
        return self.rollout(name)

    def explain(self, name: str) -> ExplanationView:
        """Say in one sentence why the rollout stands where it stands."""
        rollout = self._find(name)
        now = self._clock.now()
        waits, held = why_waiting(self._snapshot(rollout), now), held_up(self._engine.world, rollout.uid, now)
        return explain(rollout, self._attempts(rollout), name, waits, held_up=held)

    async def report(self, name: str, beside: Sequence[str] = ()) -> ReportView:
        """Rebuild the before/after report from the event log; its cover letter has the tests of those beside, too."""
        hosts = dict(self._engine.world.hosts)
        logs = [await self._logged(each) for each in (name, *beside)]

        def made() -> ReportView:
            return report(*logs[0], hosts, beside=[rebuild(*log, hosts) for log in logs[1:]])

        # As large as hosts made their evidence: meanwhile others are heard.
        return await asyncio.to_thread(made)

    async def log(self, name: str, *, host: str = "", most: int = 0) -> RolloutLogView:
        """Return what happened in a rollout, to one of its hosts alone when one is named; raises NotFound."""
        rollout = self._find(name)
        if host and host not in self._attempts(rollout):
            raise NotFound(f"{host} is no host of {name}; `kernroll rollout status {name}` shows those there are")
        logged = await self._store.events(rollout.uid)
        active = self._engine.world.active
        working = {one: told for one, told in self.working.items() if active.get(one) == rollout.uid}
        told = [(one.stream, one.event) for one in logged]
        return rollout_log(rollout, told, working, self._clock.now(), host=host, most=most or MOST_SHOWN)

    async def _logged(self, name: str) -> tuple[Rollout, Mapping[str, Attempt], list[tuple[str, Event]]]:
        rollout = self._find(name)
        logged = await self._store.events(rollout.uid)
        return rollout, dict(self._attempts(rollout)), [(one.stream, one.event) for one in logged]

    async def replay(self, name: str, claims: Mapping[str, float], margins: Mapping[str, float]) -> ReplayView:
        """Judge the rollout's log again, with these claims and margins in place of its own; changes nothing."""
        rollout = self._find(name)
        logged = await self._store.events(rollout.uid)
        return await asyncio.to_thread(replay, rollout, logged, claims, margins)

    async def ledger(self) -> LedgerView:
        """Return what is known of the noise of measurements."""
        world = self._engine.world
        hosts = {host.stratum for host in world.hosts.values()}
        planned = {one.stratum for uid in world.attempts for one in world.attempts[uid].values()}
        return ledger_view(await self._store.ledger(sorted(hosts | planned)))

    def _known(self) -> Known:
        return Known(
            world=self._engine.world,
            kernels=self._kernels,
            store=self._store,
            delivery_of=self.delivery_of,
            place_of=self.place_of,
            without_power=self.without_power,
        )

    def _find(self, name: str) -> Rollout:
        rollout = self._engine.world.by_name(name)
        if rollout is None:
            raise NotFound(f"there is no rollout {name}; `kernroll rollout list` shows those there are")
        return rollout

    def _check_unclaimed(self, planned: RolloutPlanned) -> None:
        """Refuse a name or a host that another start took while this one was being prepared."""
        world = self._engine.world
        if world.by_name(planned.name) is not None:
            raise Conflict(f"a rollout named {planned.name} exists already; give this one another metadata.name")
        for one in (one for wave in planned.waves for one in wave):
            if one.host in world.active:
                holder = world.rollouts[world.active[one.host]].name
                raise Conflict(
                    f"{one.host} is held by rollout {holder}: end it first (`kernroll rollout abort {holder}`)"
                )

    def _check_free(self, uid: str) -> None:
        """Refuse to take back hosts that another rollout holds, or that a later one has moved on since."""
        world = self._engine.world
        for host, attempt in world.attempts[uid].items():
            holder = world.active.get(host, uid)
            if holder != uid:
                raise Conflict(f"{host} is held by rollout {world.rollouts[holder].name}: end that one first")
            if attempt.step not in (Step.DONE, Step.LOST):
                continue
            for later in world.rollouts_after(uid):
                moved = world.attempts[later.uid].get(host)
                if moved is not None and moved.changed_kernel:
                    raise Conflict(
                        f"{host} was moved on to another kernel by rollout {later.name}: revert that one first"
                    )

    def _attempts(self, rollout: Rollout) -> Mapping[str, Attempt]:
        return self._engine.world.attempts[rollout.uid]

    def _snapshot(self, rollout: Rollout) -> RolloutSnapshot:
        snapshot = self._engine.world.snapshot(Key(rollout.uid))
        assert isinstance(snapshot, RolloutSnapshot), "a key without a host names a rollout"
        return snapshot

    def _view(self, rollout: Rollout) -> RolloutView:
        live, now = {**self._sessions.live, **self.working}, self._clock.now()
        waits = why_waiting(self._snapshot(rollout), now)
        held = held_up(self._engine.world, rollout.uid, now)
        view = rollout_view(rollout, self._attempts(rollout), live, now, waits=waits, held_up=held)
        return replace(view, revision=self._engine.changes)


def _plan_view(prepared: Prepared, pace: tuple[str, ...]) -> PlanView:
    return plan_view(
        prepared.spec,
        prepared.plan,
        prepared.kernels,
        blockers=prepared.blockers,
        notes=prepared.notes,
        cells=planned_cells(prepared),
        pace=pace,
        aa=prepared.aa,
    )
