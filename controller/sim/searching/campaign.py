"""Many seeds on all processors, resumable: what is finished is kept in a file, and a broken rule is told at once."""

import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures import wait as wait_for
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from controller.domain.errors import Permanent
from controller.sim.case import Case
from controller.sim.run import simulate
from controller.views.simulation import SimulatedWaveView, SimulationView

# Enough that no processor waits for work, few enough that an interruption loses little.
_AHEAD: Final = 4


class Finished:
    """The file of finished seeds: one JSON object a line, appended as they come."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> dict[str, SimulationView]:
        """Return what is finished, by key; a last line that was cut off is left out."""
        found: dict[str, SimulationView] = {}
        if not self._path.exists():
            return found
        for line in self._path.read_text(encoding="utf-8").splitlines():
            try:
                document = json.loads(line)
            except ValueError:
                continue
            key = document.pop("key")
            found[key] = _read(document)
        return found

    def append(self, key: str, view: SimulationView) -> None:
        """Keep one."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab+") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - 1))
            # A line that was cut off must not swallow this one.
            torn = file.read(1) not in (b"", b"\n")
            document = json.dumps({"key": key, **asdict(view)}, ensure_ascii=False)
            file.write(("\n" * torn + document + "\n").encode())


def _read(document: dict[str, Any]) -> SimulationView:
    waves = tuple(SimulatedWaveView(**wave) for wave in document.pop("waves"))
    regressions = tuple((stratum, metric) for stratum, metric in document.pop("true_regressions"))
    breaches = tuple(document.pop("breaches"))
    return SimulationView(**document, waves=waves, true_regressions=regressions, breaches=breaches)


def usual_jobs() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0))


def run_all(
    keys: Sequence[str], make: Callable[[str], Case], *, jobs: int, done: Callable[[str, SimulationView], None]
) -> None:
    """Run the case of every key on `jobs` processors; `done` hears of each as it ends, in no fixed order.

    `make` must be a function that other processes can import. Raises Permanent when a worker is killed.
    """
    if jobs == 1:
        for key in keys:
            done(key, simulate(make(key)))
        return
    # Forked, so that the gate's libraries are loaded once and shared.
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(max_workers=jobs, mp_context=context) as pool:
        try:
            _feed(pool, iter(keys), make, jobs=jobs, done=done)
        except BrokenProcessPool as error:
            raise Permanent("a worker was killed, perhaps for want of memory: use fewer --jobs") from error
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _feed(
    pool: ProcessPoolExecutor,
    keys: Iterator[str],
    make: Callable[[str], Case],
    *,
    jobs: int,
    done: Callable[[str, SimulationView], None],
) -> None:
    running: dict[Future[SimulationView], str] = {}
    while True:
        while len(running) < jobs * _AHEAD and (key := next(keys, None)) is not None:
            running[pool.submit(_one, make, key)] = key
        if not running:
            return
        ended, _ = wait_for(running, return_when="FIRST_COMPLETED")
        for future in ended:
            done(running.pop(future), future.result())


def _one(make: Callable[[str], Case], key: str) -> SimulationView:
    return simulate(make(key))
