"""What `kernroll sim` does with its runs: one or many, with progress, and a small case when a rule breaks."""

import sys
import time
from collections.abc import Callable
from functools import partial

from controller.cli import output
from controller.cli.counting import counted_progress
from controller.cli.session import Session
from controller.cli.sim.tables import distribution_parts, run_parts
from controller.sim.case import Case
from controller.sim.run import simulate
from controller.sim.searching.campaign import run_all, usual_jobs
from controller.sim.searching.shrink import broken_rule, shrink
from controller.views.json import view_data
from controller.views.simulation import SimulationView, distribution


class SimulatedRuns:
    """Runs cases and shows what came of them; `files` are the arguments that name the operator's files."""

    def __init__(self, session: Session, make: "partial[Case]", files: str) -> None:
        self._session = session
        self._make = make
        self._files = files

    def one(self, seed: str) -> bool:
        """Run one seed; return whether a rule broke."""
        began = time.perf_counter()
        case = self._make(seed)
        with counted_progress() as progress:
            label = f"simulating {case.hosts} hosts, seed {seed}"
            progress(label, 0, case.hosts)
            view = simulate(case, lambda ended: progress(label, ended, case.hosts))
        took_s = time.perf_counter() - began
        if self._session.output == "json":
            output.show_json(view)
        else:
            output.show(*run_parts(view, took_s=took_s))
        return self._explain_breach(view)

    def many(self, first: int, count: int, jobs: int | None) -> bool:
        """Run many seeds; return whether a rule broke in any."""
        views: dict[str, SimulationView] = {}
        began = time.perf_counter()
        with counted_progress() as progress:

            def done(key: str, view: SimulationView) -> None:
                views[key] = view
                progress(f"simulating {count} seeds", len(views), count)

            keys = [str(first + number) for number in range(count)]
            run_all(keys, self._make, jobs=min(jobs or usual_jobs(), count), done=done)
        took_s = time.perf_counter() - began
        ordered = [views[key] for key in keys]
        found = distribution(ordered)
        if self._session.output == "json":
            runs = [{**view_data(view), "waves": view_data(view.waves)} for view in ordered]
            output.show_json({"distribution": view_data(found), "seeds_per_s": count / took_s, "runs": runs})
        else:
            output.show(*distribution_parts(found, seeds_per_s=count / took_s))
        broken = next((view for view in ordered if view.breaches), None)
        return broken is not None and self._explain_breach(broken)

    def _explain_breach(self, view: SimulationView) -> bool:
        """Look for a small case that breaks the same rule, and say how to run both."""
        if not view.breaches:
            return False
        case = self._make(view.seed)
        say(f"kernroll breaks a rule of its own: {view.breaches[0]}")
        say(f"  again:    {command(case, case, self._files)}")
        with counted_progress() as progress:
            small = shrink(case, broken_rule(view), tried=_tried(progress))
        if small != case:
            say(f"  smallest: {command(small, case, self._files)}")
        say("Please report it.")
        return True


def _tried(progress: Callable[[str, int, int], None]) -> Callable[[int], None]:
    return lambda runs: progress("looking for a smaller case", runs, 0)


def command(case: Case, original: Case, files: str) -> str:
    """Return the command that runs a case that was made smaller from the original one."""
    gone = [name for name in original.faults.names() if name not in case.faults.names()]
    words = ["kernroll sim", files, f"--hosts {case.hosts}", f"--seed {case.seed}"]
    words += [f"--without {name}" for name in gone]
    if case.calm_after is not None:
        words.append(f"--calm-after {case.calm_after}")
    if case.then != original.then:
        words.append("--then ''")
    elif case.then and files:
        words.append(f"--then {case.then}")
    return " ".join(filter(None, words))


def say(text: str) -> None:
    """Tell a person, whatever the results go to."""
    print(text, file=sys.stderr, flush=True)
