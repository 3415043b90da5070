"""`--watch`: follow one rollout until its end, through restarts of the controller."""

import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import click

from controller.adapters.rpc.operator_client import TimedOut, Unreachable
from controller.cli.exit_codes import ExitCode
from controller.cli.rollouts.live import Sink, open_sink
from controller.cli.session import Session
from controller.domain.errors import KernrollError, Temporary
from controller.domain.record.journey import IN_FLIGHT
from controller.views.models import RolloutView

# A controller that restarts is back within seconds; one that is away for longer needs a person.
UNREACHABLE_LIMIT_S = 300.0
_RETRY_S = 1.0
# How often countdowns move.
_TICK_S = 0.25
# The call itself ends later than the watch, so that it is the watch that says so.
_GRACE_S = 10.0
_FLYING = frozenset(step.value for step in IN_FLIGHT)


@dataclass(frozen=True, slots=True)
class Lost:
    """The stream ended before the rollout did."""

    error: KernrollError


_News = RolloutView | Lost


class Follower:
    """Reads the rollout in a thread of its own, so that countdowns move while nothing happens."""

    def __init__(self, session: Session, name: str, timeout_s: float) -> None:
        """Prepare; nothing is called before the first `news`."""
        self._session = session
        self._name = name
        self._timeout_s = timeout_s
        self._news: queue.Queue[_News] = queue.Queue()
        self._stopped = threading.Event()
        self._client = session.client()
        self._thread = threading.Thread(target=self._read, name="watch", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """End the call; safe at any moment."""
        self._stopped.set()
        self._client.close()
        self._thread.join(timeout=5.0)

    def news(self, wait_s: float) -> _News | None:
        """Return what came in, or None when nothing did for so long."""
        try:
            return self._news.get(timeout=max(0.0, wait_s))
        except queue.Empty:
            return None

    def _read(self) -> None:
        while not self._stopped.is_set():
            try:
                for view in self._client.watch_rollout(self._name, self._timeout_s + _GRACE_S):
                    self._news.put(view)
                    if view.terminal:
                        return
                error: KernrollError = Unreachable(f"the controller at {self._client.address} ended the watch")
            except KernrollError as failure:
                error = failure
            except ValueError:
                # The channel was closed by `stop`.
                return
            self._news.put(Lost(error))
            if not passing(error):
                return
            self._stopped.wait(_RETRY_S)


def watch(session: Session, name: str, *, settled_is_enough: bool, timeout_s: float, wanted: str) -> int:
    """Show every change until the rollout ends; return OK when it ends in the state `wanted`, else UNSUCCESSFUL.

    With `settled_is_enough` a paused rollout in which no host moves counts as an end.
    """
    try:
        return follow(session, name, settled_is_enough=settled_is_enough, timeout_s=timeout_s, wanted=wanted)
    except KeyboardInterrupt:
        command = f"kernroll rollout status {name} --watch"
        click.echo(f"left; the rollout goes on. Follow it again with `{command}`.", err=True)
        return ExitCode.INTERRUPTED


def follow(session: Session, name: str, *, settled_is_enough: bool, timeout_s: float, wanted: str) -> int:
    """Do what `watch` does, and leave an interruption to the caller."""
    with open_sink(session) as sink:
        return follow_into(sink, session, name, settled_is_enough=settled_is_enough, timeout_s=timeout_s, wanted=wanted)


def follow_into(
    sink: Sink, session: Session, name: str, *, settled_is_enough: bool, timeout_s: float, wanted: str
) -> int:
    """Do what `follow` does, and show it there."""
    follower = Follower(session, name, timeout_s)
    with _following(follower):
        return _follow(follower, sink, name, settled_is_enough=settled_is_enough, timeout_s=timeout_s, wanted=wanted)


@contextmanager
def _following(follower: Follower) -> Iterator[None]:
    follower.start()
    try:
        yield
    finally:
        follower.stop()


def _follow(
    follower: Follower, sink: Sink, name: str, *, settled_is_enough: bool, timeout_s: float, wanted: str
) -> int:
    deadline = time.monotonic() + timeout_s
    heard = 0
    unheard_since: float | None = None
    while True:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise TimedOut(f"{name} has not ended after {timeout_s:g} s; it goes on")
        match follower.news(min(_TICK_S, left_s)):
            case None:
                sink.tick()
            case Lost(error):
                now = time.monotonic()
                unheard_since = now if unheard_since is None else unheard_since
                # A controller that never answered is not waited for: most likely the address is wrong.
                if not passing(error) or not heard or now - unheard_since > UNREACHABLE_LIMIT_S:
                    raise error
                sink.unheard(str(error))
            case RolloutView() as view:
                heard, unheard_since = heard + 1, None
                sink.show(view)
                if view.terminal or (settled_is_enough and settled(view)):
                    # An A/A rollout has nothing to promote.
                    good = view.state == wanted or (wanted == "promoted" and view.state == "completed")
                    return ExitCode.OK if good else ExitCode.UNSUCCESSFUL


def passing(error: KernrollError) -> bool:
    """Return whether the watch may come back by itself."""
    return isinstance(error, Temporary) and not isinstance(error, TimedOut)


def settled(view: RolloutView) -> bool:
    """Return whether a paused rollout stands still until somebody decides."""
    return view.state == "paused" and not any(host.step in _FLYING for wave in view.waves for host in wave.hosts)
