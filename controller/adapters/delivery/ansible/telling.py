"""Tells the log of a rollout what is done on its hosts: each task of a play, and what is asked through an agent."""

import contextlib
import time
from collections.abc import Iterator
from typing import Final

from controller.adapters.plays.outcomes import CHANGED, FAILED, UNREACHABLE, PlayEvent
from controller.adapters.plays.runner import Heard
from controller.domain.errors import KernrollError
from controller.domain.record.actions.work import WorkKind
from controller.services.ports import Work, WorkLog
from controller.words import count_text

_KINDS: Final = {CHANGED: WorkKind.CHANGED, FAILED: WorkKind.FAILED, UNREACHABLE: WorkKind.FAILED}


class _NobodyHears:
    """See WorkLog and Work: for who asks hosts outside of any rollout."""

    def work(self, host: str, command_id: str, way: str) -> Work:
        """See WorkLog."""
        return self

    def tell(self, kind: WorkKind, what: str, *, seconds: float = 0.0, sentence: str = "") -> None:
        """See Work."""


NOBODY_HEARS: Final = _NobodyHears()


@contextlib.contextmanager
def told(works: WorkLog, host: str, command_id: str, verb: str) -> Iterator[Heard]:
    """Yield what hears of the play that carries out a command; how it ended is told when the block is left."""
    # What carries out no command, such as a look, is nobody's work.
    work = (works if command_id else NOBODY_HEARS).work(host, command_id, "ssh")

    def ends(event: PlayEvent) -> None:
        if event.status in _KINDS:
            work.tell(_KINDS[event.status], event.task, seconds=event.seconds, sentence=event.sentence)

    heard = Heard(
        waits=lambda others: work.tell(
            WorkKind.WAITS, verb, sentence=f"waits for {count_text(others, 'other play')} on other hosts"
        ),
        begins=lambda: work.tell(WorkKind.BEGAN, verb),
        starts=lambda _host, task: work.tell(WorkKind.RUNNING, task),
        ends=ends,
    )
    with _ended(work, verb):
        yield heard


@contextlib.contextmanager
def told_agent(works: WorkLog, host: str, command_id: str, verb: str) -> Iterator[None]:
    """Tell of what is asked through the host's agent within the block."""
    work = (works if command_id else NOBODY_HEARS).work(host, command_id, "agent")
    work.tell(WorkKind.BEGAN, verb)
    with _ended(work, verb):
        yield


@contextlib.contextmanager
def _ended(work: Work, verb: str) -> Iterator[None]:
    began, sentence = time.monotonic(), "broken off"
    try:
        yield
        sentence = "done"
    except KernrollError as error:
        sentence = str(error)
        raise
    finally:
        work.tell(WorkKind.ENDED, verb, seconds=time.monotonic() - began, sentence=sentence)
