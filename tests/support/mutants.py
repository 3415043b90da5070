"""Rules of the controller that are broken on purpose, one at a time: each must be found by the simulator."""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One broken rule: a passage of the source, which stands there once, and what takes its place."""

    # What is wrong, for people.
    name: str
    path: str
    old: str
    new: str

    def applied(self) -> str:
        """Return the module's text with the rule broken; raises ValueError when the passage is not there once."""
        text = (ROOT / self.path).read_text(encoding="utf-8")
        if text.count(self.old) != 1:
            raise ValueError(f"{self.name}: {self.path} has this passage {text.count(self.old)} times:\n{self.old}")
        return text.replace(self.old, self.new)


MUTANTS = (
    Mutant(
        name="budget off by one",
        path="controller/domain/deciding/waves.py",
        old="return _NO_LIMIT if limit is None else max(0, limit - moving)",
        new="return _NO_LIMIT if limit is None else max(0, limit - moving + 1)",
    ),
    Mutant(
        name="budget of a place off by one",
        path="controller/domain/state/occupancy.py",
        old="taken.places[place] + away >= allowed:",
        new="taken.places[place] + away > allowed:",
    ),
    Mutant(
        name="a failed check stops nothing",
        path="controller/domain/deciding/checks.py",
        old="result.outcome is not Outcome.PASS and _over(result, now)]",
        new="result.outcome is Outcome.TIMED_OUT and _over(result, now)]",
    ),
    Mutant(
        name="an error counts as a pass",
        path="controller/services/engine/checking.py",
        old="        return Answer(outcome=Outcome.ERROR, detail=detail)",
        new="        return Answer(outcome=Outcome.PASS, detail=detail)",
    ),
    Mutant(
        name="acknowledged before the commit",
        path="controller/services/agents/sessions.py",
        old="            await self._engine.observe(Key(uid, host), told, report_id=_own(host, report.report_id))\n",
        new="            asyncio.ensure_future(self._engine.observe(Key(uid, host), told, report_id=_own(host, "
        "report.report_id)))\n",
    ),
    Mutant(
        name="forgotten deadline",
        path="controller/domain/deciding/moves.py",
        old="target in ENDED or target in (Step.PENDING, Step.HELD):",
        new="target in ENDED or target in (Step.PENDING, Step.HELD, Step.VERIFY):",
    ),
    Mutant(
        name="a node goes down while it serves",
        path="controller/domain/deciding/rules.py",
        old='    if attempt.command_id and answer is None:\n        return _deadline(attempt, now, "taking it out',
        new='    if False and answer is None:\n        return _deadline(attempt, now, "taking it out',
    ),
    Mutant(
        name="a node that went back stays out of service",
        path="controller/domain/record/journey.py",
        old=") | {Step.REVERTED, Step.SKIPPED}\n",
        new=")\n",
    ),
    Mutant(
        name="deadlines that nobody looks at",
        path="controller/services/state/agenda.py",
        old="            self.mark(heapq.heappop(self.deadlines)[2])\n",
        new="            heapq.heappop(self.deadlines)\n",
    ),
    Mutant(
        name="stale epoch accepted",
        path="controller/adapters/store/memory.py",
        old="if disk.epoch != self._epoch:",
        new="if disk.epoch < self._epoch:",
    ),
    Mutant(
        name="repeated reboot carried out again",
        path="controller/adapters/delivery/hypervisor/supervising/commands.py",
        old="    if carried_out(state, command_id, RebootAsked):\n        return None\n",
        new="",
    ),
    Mutant(
        name="soak time ignored",
        path="controller/domain/deciding/rules.py",
        old="over = attempt.deadline is not None and attempt.deadline <= now and not _goes_back(snapshot)",
        new="over = not _goes_back(snapshot)",
    ),
    Mutant(
        name="failure forgotten",
        path="controller/domain/state/attempt.py",
        old="        failure=event.failure or state.failure,\n",
        new="        failure=event.failure,\n",
    ),
    Mutant(
        name="revert leaves finished hosts",
        path="controller/domain/deciding/waves.py",
        old="    return not tally.count_all(Step.DONE)\n",
        new="    return True\n",
    ),
    Mutant(
        name="abort leaves hosts under way",
        path="controller/domain/deciding/waves.py",
        old="if tally.count_all(Step.PENDING) or tally.in_flight:",
        new="if tally.count_all(Step.PENDING):",
    ),
    Mutant(
        name="measured without runs",
        path="controller/domain/deciding/measurement.py",
        old="answer.state is CommandState.COMPLETED and good >= task.repetitions:",
        new="answer.state is CommandState.COMPLETED and good >= 0 * task.repetitions:",
    ),
    Mutant(
        name="wave left on a verdict that holds it",
        path="controller/domain/deciding/waves.py",
        old='        case "hold":\n            return _events(judged, RolloutPaused(at=now, reason=judged.sentence))\n',
        new='        case "hold":\n            return _events(judged, _go_on(rollout, judged.sentence, now))\n',
    ),
    Mutant(
        name="silence ignored",
        path="controller/domain/deciding/rules.py",
        old="    return attempt.silent_since + snapshot.rollout.policy.silence_timeout_s <= now\n",
        new="    return False\n",
    ),
    Mutant(
        name="wave judged while a finished host is away",
        path="controller/domain/deciding/waves.py",
        old="if tally.unheard or not rollout.approved:",
        new="if not rollout.approved:",
    ),
    Mutant(
        name="broken rig tried again for ever",
        path="controller/domain/deciding/measurement.py",
        old="if attempt.tries < policy.infrastructure_retries:",
        new="if attempt.tries >= 0:",
    ),
    Mutant(
        name="condemned kernel goes on",
        path="controller/domain/deciding/waves.py",
        old="failed = next((one for one in tally.failures if one.condemns), None)",
        new="failed = next((one for one in tally.failures if one.condemns and one.at < 0), None)",
    ),
    Mutant(
        name="control host gets the new kernel",
        path="controller/domain/deciding/moves.py",
        old="                    kernel=old if attempt.legs[leg] is Side.OLD else kernel,\n",
        new="                    kernel=new,\n",
    ),
    Mutant(
        name="lost hosts not listed",
        path="controller/domain/deciding/waves.py",
        old="    if not snapshot.tally.count_all(Step.LOST):\n",
        new="    if True:\n",
    ),
    Mutant(
        name="outbox forgotten by a new controller",
        path="controller/services/engine/engine.py",
        old="        self.on_effects(loaded.effects)\n",
        new="",
    ),
    Mutant(
        name="effect performed before its commit",
        path="controller/services/engine/engine.py",
        old="        rehearsed = self.world.rehearse(key, events)\n",
        new="        rehearsed = self.world.rehearse(key, events)\n"
        "        if effects is not None:\n"
        "            self._replace(key.stream, effects)\n"
        "            self.on_effects(effects)\n",
    ),
    Mutant(
        name="boot begun without approval",
        path="controller/domain/state/rollout.py",
        old="        return len({given.by for given in self.approvals}) >= self.approvals_needed\n",
        new="        return len(self.approvals) + 1 >= self.approvals_needed\n",
    ),
    Mutant(
        name="memory changed by a commit that failed",
        path="controller/services/engine/engine.py",
        old="            if not await self._store.commit(commit):\n                return False\n",
        new="            if not await self._store.commit(commit):\n                return False\n"
        "        except Temporary:\n            pass\n",
    ),
    Mutant(
        name="power cut again by a new controller",
        path="controller/domain/deciding/power_cycles.py",
        old="        return Due.UNKNOWN\n",
        new="        return Due.CYCLE\n",
    ),
)
