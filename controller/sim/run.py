"""Runs one case to its end, in a loop of its own and without a word in the log."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import structlog

from controller.sim.case import Case
from controller.sim.simulation import Simulation
from controller.sim.virtual_loop import run_virtually
from controller.views.simulation import SimulationView

# Nothing in the services is as bad as this.
_SILENT: Final = logging.CRITICAL


@contextmanager
def _quiet() -> Iterator[None]:
    """Let the services say nothing: a simulation has thousands of lines for every one that matters."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(_SILENT))
    try:
        yield
    finally:
        structlog.configure(**before)


def _unheard(_ended: int) -> None:
    """Tell nobody."""


def simulate(case: Case, progress: Callable[[int], None] | None = None) -> SimulationView:
    """Return what one run came to; the same case gives the same outcome, bit for bit.

    `progress` is told from time to time how many hosts have ended their journey.
    """
    return simulated(case, progress)[0]


def simulated(case: Case, progress: Callable[[int], None] | None = None) -> tuple[SimulationView, Simulation]:
    """Return the outcome, and the world as the run has left it."""
    worlds: list[Simulation] = []

    async def whole() -> SimulationView:
        worlds.append(Simulation(case, progress or _unheard))
        return await worlds[0].run()

    with _quiet():
        outcome = run_virtually(whole)
    return outcome, worlds[0]
