"""Where a watched rollout is shown: a live picture on a terminal, one line a change elsewhere, JSON for programs."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live

from controller.cli.output import cell, console, show_json
from controller.cli.rollouts.tables import status_parts
from controller.cli.session import Session
from controller.views.models import RolloutView
from controller.views.rollouts.changes import changes
from controller.words import offset_text

# Lines of the picture that are not hosts: head, kernels, titles, verdicts, reason, deadline.
_OTHER_LINES = 12


class Sink(Protocol):
    """Shows what happens to a rollout."""

    def show(self, view: RolloutView) -> None:
        """Take the newest state."""

    def tick(self) -> None:
        """Let countdowns move."""

    def unheard(self, sentence: str) -> None:
        """Say that the controller does not answer for now."""


@contextmanager
def open_sink(session: Session) -> Iterator[Sink]:
    """Return the sink that fits the output, and leave the terminal as it was."""
    if session.output == "json":
        yield JsonSink()
        return
    target = console()
    # A terminal that cannot move its cursor is no place for a picture.
    if not sys.stdout.isatty() or target.is_dumb_terminal:
        yield LineSink(session.now)
        return
    with Live(console=target, auto_refresh=False, vertical_overflow="crop") as live:
        yield LiveSink(live, target, session.now)


class JsonSink:
    """One JSON document per change, each on its line."""

    def show(self, view: RolloutView) -> None:
        """Print the state."""
        show_json(view, indent=None)

    def tick(self) -> None:
        """Countdowns are for people."""

    def unheard(self, sentence: str) -> None:
        """Keep standard output JSON."""
        print(sentence, file=sys.stderr, flush=True)


class LineSink:
    """One line per change, with the time since the rollout began."""

    def __init__(self, now: Callable[[], float]) -> None:
        """Begin with nothing shown."""
        self._now = now
        self._shown: RolloutView | None = None
        self._silent = False

    def show(self, view: RolloutView) -> None:
        """Print what is new against the state before."""
        began = view.started_at if view.started_at is not None else self._now()
        for change in changes(self._shown, view):
            at = change.at if change.at is not None else self._now()
            print(f"{offset_text(at - began):>8}  {cell(change.subject):<20} {cell(change.text)}", flush=True)
        self._shown, self._silent = view, False

    def tick(self) -> None:
        """Nothing happened, so nothing is printed."""

    def unheard(self, sentence: str) -> None:
        """Say it once until the controller is heard again."""
        if not self._silent:
            print(f"{'':>8}  {'controller':<20} {cell(sentence)}; trying again", flush=True)
        self._silent = True


class LiveSink:
    """A picture that is drawn again for every change and for the countdowns."""

    def __init__(self, live: Live, target: Console, now: Callable[[], float]) -> None:
        """Draw into `live`."""
        self._live = live
        self._target = target
        self._now = now
        self._shown: RolloutView | None = None
        self._trouble = ""

    def show(self, view: RolloutView) -> None:
        """Draw the state."""
        self._shown, self._trouble = view, ""
        self._draw()

    def tick(self) -> None:
        """Draw again with the time gone by."""
        self._draw()

    def unheard(self, sentence: str) -> None:
        """Draw again with the trouble below."""
        self._trouble = sentence
        self._draw()

    def _draw(self) -> None:
        if self._shown is None:
            return
        room = max(3, self._target.height - _OTHER_LINES)
        # Nothing scrolls away any more once it has ended: show every host.
        parts = status_parts(
            self._shown, self._now(), max_hosts=None if self._shown.terminal else room, width=self._target.width
        )
        trouble = (f"! {self._trouble}; trying again",) if self._trouble else ()
        self._live.update(Group(*parts, *trouble), refresh=True)
