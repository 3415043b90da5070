"""Processes forked from one, so that they share its swapped pages; what each finds comes back through a pipe."""

import os
import random
import signal
from collections.abc import Callable
from contextlib import suppress

from agent.domain.work.exercises import ChildDied, WrongPage, as_line, parse_event
from agent.exercisers.marked_memory import Findings
from agent.exercisers.process import emit, fork

_COUNT = b"compared "


class Crowd:
    """Children that wait for one start together, so that they race."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._children: dict[int, bool] = {}
        self._gate, self._starter = os.pipe()
        self._reports, self._report_out = os.pipe()

    def add(self, work: Callable[[Findings], None]) -> None:
        """Fork a child that waits for the start and then works with findings of its own."""
        child = fork(lambda: self._live(work))
        self._children[child] = False

    def start(self) -> None:
        """Let all children go at once."""
        os.close(self._starter)
        os.close(self._gate)
        os.close(self._report_out)

    def kill(self, share: float, rng: random.Random) -> None:
        """Kill a share of the children wherever they are."""
        for child in rng.sample(sorted(self._children), int(share * len(self._children))):
            self._children[child] = True
            # One that has ended is a zombie until it is waited for, so its number belongs to nobody else.
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)

    def collect(self) -> None:
        """Wait for all children and take over what they found; a child that died by itself is told."""
        buffer = b""
        while part := os.read(self._reports, 1 << 16):
            buffer += part
        os.close(self._reports)
        for line in buffer.splitlines():
            self._take(line)
        for child, killed in self._children.items():
            _, status = os.waitpid(child, 0)
            if os.WIFSIGNALED(status) and not killed:
                emit(ChildDied(scenario=self._findings.scenario, signal=os.WTERMSIG(status)))
            elif os.WIFEXITED(status) and os.WEXITSTATUS(status):
                raise OSError(f"a child of scenario {self._findings.scenario} failed; its error is above")

    def _live(self, work: Callable[[Findings], None]) -> None:
        os.close(self._starter)
        os.close(self._reports)
        # Ends when the last writer, the parent, closes it.
        os.read(self._gate, 1)
        found: list[bytes] = []
        mine = Findings(scenario=self._findings.scenario, tell=lambda page: found.append(as_line(page)))
        work(mine)
        for line in (*found, _COUNT + str(mine.compared_pages).encode() + b"\n"):
            # Shorter than PIPE_BUF, so lines of different children do not mix.
            os.write(self._report_out, line)

    def _take(self, line: bytes) -> None:
        if line.startswith(_COUNT):
            self._findings.compared_pages += int(line[len(_COUNT) :])
            return
        # A child that was killed may leave half a line.
        with suppress(ValueError):
            event = parse_event(line)
            if isinstance(event, WrongPage):
                self._findings.wrong(event)
