"""A performer at work for a host that stands in a step, with a delivery and a place that are told what to do."""

from engine_parts import Parts, ScriptedDelivery, reached
from fake_places import FakePlaces
from fake_power import FakePower

from controller.domain.errors import Temporary
from controller.services.engine.performing import Performer
from controller.services.engine.powering import PowerRunner

AGAIN = Temporary("not reachable", retry_after_s=0.0)


class Performing:
    """A controller whose host stands in a step, with a performer at work."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.power = FakePower("a")
        self.delivery = ScriptedDelivery()
        self.places = FakePlaces("a")
        self.performer = Performer(
            parts.engine,
            parts.sessions,
            self.delivery,
            parts.kernels,
            parts.clock,
            places=self.places,
            power=PowerRunner(parts.engine, self.power, parts.clock, pause_s=0.0),
            pause_s=0.0,
        )
        parts.engine.on_effects = self.performer.submit
        parts.sessions.on_connected = self.performer.host_connected

    def go(self) -> None:
        """Start on what is outstanding, as after a restart."""
        self.performer.submit(tuple(self.parts.engine.outstanding.values()))

    async def idle(self) -> None:
        """Wait until nothing is being performed."""
        await reached(lambda: not self.performer._running)
