"""The operators' verbs. Reads return view models; every mutation is an event with the operator's name in it."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace

from controller.domain.attempt import Attempt
from controller.domain.errors import Conflict, NotFound
from controller.domain.events import AbortStarted, Event, RevertStarted, RolloutPlanned, RolloutStarted
from controller.domain.rollout import FOLLOWING, Rollout, State
from controller.services.loop import Engine
from controller.services.planning import Prepared, prepare
from controller.services.ports import Clock, Kernels, Store
from controller.services.sessions import Sessions
from controller.services.world import Key
from controller.views.explain import explain
from controller.views.hosts import host_view, select_hosts
from controller.views.models import ExplanationView, HostView, PlanView, ReportView, RolloutView
from controller.views.plan import plan_view
from controller.views.report import report
from controller.views.rollout import rollout_view

# A watcher hears of the passing of time at least this often.
_WATCH_PULSE_S = 15.0
# And of changes at most this often, so that watching a large fleet costs the same as watching a small one.
_WATCH_PAUSE_S = 0.2


class Operations:
    """What operators can ask and do."""

    def __init__(self, engine: Engine, store: Store, sessions: Sessions, kernels: Kernels, clock: Clock) -> None:
        self._engine = engine
        self._store = store
        self._sessions = sessions
        self._kernels = kernels
        self._clock = clock

    def hosts(self, selector: str) -> tuple[HostView, ...]:
        """Return the hosts a selector matches, by name; raises InvalidInput for a bad selector."""
        world = self._engine.world
        views = [host_view(world.hosts[name], world.active_attempt(name)) for name in sorted(world.hosts)]
        return select_hosts(views, selector)

    def host(self, name: str) -> HostView:
        """Return one host; raises NotFound."""
        world = self._engine.world
        if name not in world.hosts:
            raise NotFound(f"no host {name} has enrolled; `kernroll hosts list` shows those that have")
        return host_view(world.hosts[name], world.active_attempt(name))

    async def plan(self, spec_yaml: str, file_name: str) -> PlanView:
        """Return what a rollout would do; changes nothing but the kernel store."""
        return _plan_view(await prepare(spec_yaml, file_name, self._engine.world, self._kernels))

    async def start(self, spec_yaml: str, file_name: str, by: str) -> RolloutView:
        """Start a rollout; raises Conflict with every blocker."""
        prepared = await prepare(spec_yaml, file_name, self._engine.world, self._kernels)
        if prepared.all_blockers:
            listed = "".join(f"\n  - {blocker}" for blocker in prepared.all_blockers)
            raise Conflict(f"{prepared.spec.name} cannot start:{listed}")
        now = self._clock.now()
        uid = secrets.token_hex(4)
        planned = RolloutPlanned(
            at=now,
            uid=uid,
            name=prepared.spec.name,
            spec_yaml=spec_yaml,
            salt=prepared.plan.seed,
            kernels=prepared.kernels,
            waves=tuple(wave.hosts for wave in prepared.plan.waves),
            bake_s=tuple(wave.bake_s for wave in prepared.plan.waves),
            by=by,
        )
        await self._engine.record(Key(uid), (planned, RolloutStarted(at=now, by=by)))
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

    async def abort(self, name: str, by: str, remark: str) -> RolloutView:
        """Start nothing new, bring hosts in flight back, leave finished ones."""
        rollout = self._find(name)
        self._check(rollout, State.ABORTING)
        reason = f"aborted by {by}" + (f": {remark}" if remark else "")
        await self._engine.record(Key(rollout.uid), (AbortStarted(at=self._clock.now(), reason=reason, by=by),))
        return self.rollout(name)

    async def revert(self, name: str, by: str, remark: str) -> RolloutView:
        """Bring every touched host back to its former kernel, finished ones too."""
        rollout = self._find(name)
        self._check(rollout, State.REVERTING)
        self._check_free(rollout)
        reason = f"reverted by {by}" + (f": {remark}" if remark else "")
        event = RevertStarted(at=self._clock.now(), reason=reason, by=by)
        await self._engine.record(Key(rollout.uid), (event,))
        return self.rollout(name)

    def explain(self, name: str) -> ExplanationView:
        """Say in one sentence why the rollout stands where it stands."""
        rollout = self._find(name)
        return explain(rollout, self._attempts(rollout), name)

    async def report(self, name: str) -> ReportView:
        """Rebuild the before/after report from the event log."""
        rollout = self._find(name)
        logged = await self._store.events(rollout.uid)
        events: list[tuple[str, Event]] = [(one.stream, one.event) for one in logged]
        return report(rollout, self._attempts(rollout), events, self._engine.world.hosts)

    def _find(self, name: str) -> Rollout:
        rollout = self._engine.world.by_name(name)
        if rollout is None:
            raise NotFound(f"there is no rollout {name}; `kernroll rollout list` shows those there are")
        return rollout

    def _check(self, rollout: Rollout, target: State) -> None:
        if target not in FOLLOWING[rollout.state]:
            raise Conflict(f"{rollout.name} is {rollout.state.value} and cannot become {target.value}")

    def _check_free(self, rollout: Rollout) -> None:
        """Refuse to take hosts back from another rollout that holds them now."""
        world = self._engine.world
        for host in world.attempts[rollout.uid]:
            holder = world.active.get(host)
            if holder is not None and holder != rollout.uid:
                raise Conflict(f"{host} is held by rollout {world.rollouts[holder].name}: end that one first")

    def _attempts(self, rollout: Rollout) -> Mapping[str, Attempt]:
        return self._engine.world.attempts[rollout.uid]

    def _view(self, rollout: Rollout) -> RolloutView:
        view = rollout_view(rollout, self._attempts(rollout), self._sessions.live, self._clock.now())
        return replace(view, revision=self._engine.changes)


def _plan_view(prepared: Prepared) -> PlanView:
    return plan_view(prepared.spec, prepared.plan, prepared.kernels, blockers=prepared.blockers, notes=prepared.notes)
