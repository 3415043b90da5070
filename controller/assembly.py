"""The services, wired once: a server, the simulator and tests give the ports, and get the same controller."""

from collections.abc import Callable
from dataclasses import dataclass

from controller.services.agents.sessions import Sessions
from controller.services.engine.checking import CheckRunner
from controller.services.engine.engine import Engine
from controller.services.engine.performing import Performer
from controller.services.engine.powering import PowerRunner
from controller.services.engine.watching import Watcher
from controller.services.engine.working import WorkJournal
from controller.services.operating.rollouts import Operations
from controller.services.ports import Checker, Clock, Delivery, Kernels, Places, Power, Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Core:
    """A controller that decides, hears agents and answers operators, and performs nothing of what it decides."""

    engine: Engine
    sessions: Sessions
    operations: Operations
    # What deliveries tell of their work goes there.
    journal: WorkJournal


@dataclass(frozen=True, slots=True, kw_only=True)
class Services(Core):
    """A whole controller."""

    performer: Performer
    watcher: Watcher


def assemble_core(
    store: Store,
    clock: Clock,
    kernels: Kernels,
    *,
    longest_sleep_s: float | None = None,
    new_uid: Callable[[], str] | None = None,
) -> Core:
    """Return the services that need no delivery; `None` leaves a service its own default."""
    engine = Engine(store, clock) if longest_sleep_s is None else Engine(store, clock, longest_sleep_s=longest_sleep_s)
    sessions = Sessions(engine, store, clock)
    named = {} if new_uid is None else {"new_uid": new_uid}
    operations = Operations(engine, store, sessions, kernels, clock, **named)
    journal = WorkJournal(engine, clock)
    operations.working = journal.live
    return Core(engine=engine, sessions=sessions, operations=operations, journal=journal)


def assemble(
    core: Core,
    clock: Clock,
    kernels: Kernels,
    delivery: Delivery,
    places: Places,
    *,
    checker: Checker | None,
    power: Power,
) -> Services:
    """Return the core with what carries out its decisions; without a checker nothing asks checks."""
    engine, sessions = core.engine, core.sessions
    checks = None if checker is None else CheckRunner(engine, checker, clock)
    performer = Performer(
        engine,
        sessions,
        delivery,
        kernels,
        clock,
        places=places,
        checks=checks,
        power=PowerRunner(engine, power, clock),
    )
    core.operations.place_of = places.place_of
    core.operations.without_power = power.without
    engine.on_effects = performer.submit
    sessions.on_connected = performer.host_connected
    return Services(
        engine=engine,
        sessions=sessions,
        operations=core.operations,
        journal=core.journal,
        performer=performer,
        watcher=Watcher(engine, delivery, clock),
    )
