"""The network between one agent and the controller: streams that break, repeat themselves and overtake each other."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from controller.domain.hosts.host import Host
from controller.domain.record.effects import AgentEffect
from controller.domain.record.events import CommandReported, RunReported
from controller.services.agents.sessions import LogReported
from controller.sim.faults.document import Network
from controller.sim.hosts.fates import Fate, is_down
from controller.sim.universe import Universe

Report = RunReported | CommandReported | LogReported

_LATENCY_S: Final = 0.05
# A controller that hears nothing from a stream for this long takes it for broken: three heartbeats.
NOTICED_AFTER_S: Final = 30.0
_OVERTAKEN_BY_S: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The agent holds a command, or refuses it."""

    command_id: str
    refused: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledged:
    """A report is durable on the other side."""

    report_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordered:
    """A command with the epoch of the controller that gives it."""

    effect: AgentEffect
    epoch: int


Upward = Report | Receipt
Downward = Acknowledged | Ordered


class Server(Protocol):
    """The controller's end of one stream."""

    def take(self, message: Upward) -> None:
        """A message has come."""

    def broken(self) -> None:
        """The stream is gone."""


class Client(Protocol):
    """The agent's end of one stream."""

    def take(self, session: "Session", message: Downward) -> None:
        """A message has come."""

    def lost(self, session: "Session") -> None:
        """The stream is gone."""


class Listener(Protocol):
    """Whoever accepts streams."""

    def accept(self, session: "Session", host: Host) -> Server | None:
        """Begin to serve a stream; None when nobody does."""


class Session:
    """One stream. What is sent arrives in order, once, unless a fault has it otherwise."""

    def __init__(self, link: "Link", client: Client, number: int) -> None:
        self._link = link
        self._client = client
        self._number = number
        self._sent = 0
        self.server: Server | None = None
        self.open = True

    def up(self, message: Upward) -> None:
        """Send from the agent to the controller."""
        if self.server is not None:
            self._send(self.server.take, message)

    def down(self, message: Downward) -> None:
        """Send from the controller to the agent."""
        self._send(self._arrived, message)

    def _arrived(self, message: Downward) -> None:
        self._client.take(self, message)

    def _send(self, take: Callable[..., None], message: object) -> None:
        self._sent += 1
        link, names = self._link, (self._link.host, self._number, self._sent)
        if link.befalls("lost", *names):
            self.cut()
            return
        delay_s = _LATENCY_S
        if link.befalls("reordered", *names):
            delay_s += _OVERTAKEN_BY_S * link.universe.chance("overtaken", *names)
        link.universe.later(delay_s, self._deliver, take, message)
        if link.befalls("duplicated", *names):
            link.universe.later(delay_s + 1.0, self._deliver, take, message)

    def _deliver(self, take: Callable[..., None], message: object) -> None:
        if self.open:
            take(message)

    def cut(self, *, noticed_after_s: float = NOTICED_AFTER_S) -> None:
        """End the stream without a word: the agent sees it soon, the controller when it misses heartbeats."""
        if not self.open:
            return
        self.open = False
        self._link.universe.later(_LATENCY_S, self._client.lost, self)
        if self.server is not None:
            self._link.universe.later(noticed_after_s, self.server.broken)

    def close(self) -> None:
        """End the stream in order: both sides know at once."""
        if self.open:
            self.open = False
            self._link.universe.later(_LATENCY_S, self._client.lost, self)
            if self.server is not None:
                self._link.universe.later(_LATENCY_S, self.server.broken)


class Link:
    """One host's way to whatever controller listens at the moment."""

    def __init__(
        self, universe: Universe, host: str, fate: Fate, network: Network, *, listener: Callable[[], Listener | None]
    ) -> None:
        self.universe = universe
        self.host = host
        self._fate = fate
        self._network = network
        self._listener = listener
        self._phase = universe.chance(host, "flaps")
        self._dialled = 0
        self._session: Session | None = None
        if fate.flaps is not None:
            self._flap()

    def befalls(self, what: str, *names: object) -> bool:
        """Return whether a message fault hits one message."""
        fault = getattr(self._network, what)
        return fault is not None and self.universe.chance(what, *names) < fault.share

    def dial(self, client: Client, host: Host) -> Session | None:
        """Return a new stream to the controller that listens; None when none can be had now."""
        listener = self._listener()
        if listener is None or is_down(self._fate.flaps, self.universe.loop.time(), self._phase):
            return None
        self._dialled += 1
        session = Session(self, client, self._dialled)
        session.server = listener.accept(session, host)
        if session.server is None:
            return None
        self._session = session
        return session

    def _flap(self) -> None:
        """The network goes away now, if it does, and again and again."""
        fault = self._fate.flaps
        assert fault is not None, "only a link that flaps is asked to"
        cycle_s = fault.every_s + fault.down_for_s
        into_s = (self.universe.loop.time() + self._phase * cycle_s) % cycle_s
        if into_s >= fault.every_s and self._session is not None:
            self._session.cut()
        ahead_s = fault.every_s - into_s if into_s < fault.every_s else fault.every_s + cycle_s - into_s
        self.universe.later(ahead_s + 0.001, self._flap)
