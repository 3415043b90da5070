"""Exercisers on the host that exists in a directory only: they answer orders as the real ones do."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from fake_host import FakeProcess
from fake_workers import FakeProgram

from agent.domain.host.memory import MIB
from agent.domain.work.exercises import (
    Called,
    Calling,
    ChildDied,
    End,
    Event,
    Failed,
    FillUp,
    Ready,
    ScenarioDone,
    Shrink,
    SwapsSeen,
    Swept,
    SwitchOff,
    SwitchOn,
    Usage,
    Watched,
    WrongPage,
    as_line,
    parse_order,
)

EBUSY, EINVAL = 16, 22


class FakeExercisers:
    """What all exercisers of one process do; tests change the fields to have a kernel at fault."""

    def __init__(self, process: FakeProcess) -> None:
        self._process = process
        self._kernel = process.kernel
        self.swapped_pages = 1000
        self.wrong_pages: tuple[WrongPage, ...] = ()
        self.died: tuple[ChildDied, ...] = ()
        # Processes that the kernel kills for memory in every round of scenarios, and in every pass of a sweep.
        self.oom_kills = 0
        # What a sweep gives up with; empty: it does not.
        self.sweep_gives_up = ""
        self.scenario_swapped_bytes = 64 * MIB
        self.highest_count = 129
        # What a watcher tells in addition to the truth.
        self.false_readings: tuple[str, ...] = ()
        # swapon takes what it must refuse.
        self.takes_anything = False
        # What swapon of an area that is whole fails with; 0: it works.
        self.swapon_errno = 0
        self.killed: set[str] = set()
        self._readings: list[SwapsSeen] = []
        self.filled_bytes = 0
        # By which the filling process and its page tables are larger when it has filled.
        self.grown_bytes = (4 * MIB, 2 * MIB)
        process.programs[Path(sys.executable).name] = self._program

    def _program(self, command: Sequence[str]) -> FakeProgram:
        name = command[2].rpartition(".")[2]
        if name in self.killed:
            return FakeProgram(status=-9)
        options = json.loads(command[3])
        answers = {
            "sweep": lambda line: self._sweep(options),
            "fill": self._fill,
            "integrity": lambda line: self._integrity(),
            "churn": self._churn,
            "switch": self._switch,
            "watch": self._watch,
        }[name]
        if name == "churn":
            self._use(4096)
        if name == "watch":
            self._readings = []
        return FakeProgram(
            lines=_lines(Ready(pid=77)),
            answers=lambda line: _lines(*answers(line)),
            elapsed_s=0.0,
            stays=name == "watch",
        )

    def _sweep(self, options: dict[str, int]) -> list[Event]:
        self._kernel.count_swapping(self.swapped_pages, self.swapped_pages)
        self._kernel.oom_kills += self.oom_kills
        if self.sweep_gives_up:
            return [Failed(error=self.sweep_gives_up)]
        return [Swept(pattern="any", touched_bytes=options["size_bytes"], elapsed_s=0.5)]

    def _fill(self, line: str) -> list[Event]:
        match parse_order(line.encode()):
            case FillUp(swapped_bytes=swapped_bytes) | Shrink(swapped_bytes=swapped_bytes):
                self.filled_bytes = swapped_bytes
            case End():
                return []
            case _:
                pass
        if not self._kernel.swaps:
            self.filled_bytes = 0
        resident, tables = self.grown_bytes if self.filled_bytes else (0, 0)
        return [
            Usage(
                mapped_bytes=self.filled_bytes,
                resident_bytes=10 * MIB + resident,
                swapped_bytes=self.filled_bytes,
                page_table_bytes=MIB + tables,
            )
        ]

    def _integrity(self) -> list[Event]:
        self._kernel.count_swapping(20 * self.swapped_pages, 20 * self.swapped_pages)
        self._kernel.oom_kills += self.oom_kills
        done = [
            ScenarioDone(
                scenario=scenario,
                compared_pages=100,
                swapped_bytes=self.scenario_swapped_bytes,
                wrong_pages=sum(page.scenario == scenario for page in self.wrong_pages),
                elapsed_s=0.1,
                highest_count=self.highest_count if scenario == "shared_counts" else 0,
            )
            for scenario in ("private", "shared_counts")
        ]
        return [*self.wrong_pages, *self.died, *done, Ready(pid=77)]

    def _churn(self, line: str) -> list[Event]:
        self._use(0)
        return [ScenarioDone(scenario="churn", compared_pages=50, swapped_bytes=0, wrong_pages=0, elapsed_s=1.0)]

    def _use(self, kib: int) -> None:
        """Let every device show that so much of it is in use, also when it is switched on later."""
        self._kernel.used_kib = kib
        self._kernel.write_swaps(self._kernel.swaps)

    def _switch(self, line: str) -> list[Event]:
        order = parse_order(line.encode())
        if not isinstance(order, SwitchOn | SwitchOff):
            return []
        self._look()
        begun_s = self._process.now_s
        if isinstance(order, SwitchOff):
            self._look()
        errno = self._swapon(order.device) if isinstance(order, SwitchOn) else self._swapoff(order.device)
        self._process.now_s += 0.5
        called = Called(begun_s=begun_s, ended_s=self._process.now_s, errno=errno)
        self._process.now_s += 0.5
        self._look()
        return [Calling(), called]

    def _swapon(self, device: str) -> int:
        if device in self._kernel.swaps:
            return EBUSY
        head = bytes(self._kernel.head(device))
        version, last_page, bad_pages = (int.from_bytes(head[at : at + 4], "little") for at in (1024, 1028, 1032))
        whole = version == 1 and last_page < self._kernel.size_of(device) // 4096 and bad_pages == 0
        if not whole and not self.takes_anything:
            return EINVAL
        if self.swapon_errno:
            return self.swapon_errno
        self._kernel.act(("swapon", device))
        return 0

    def _swapoff(self, device: str) -> int:
        return EINVAL if self._kernel.act(("swapoff", device)) else 0

    def _look(self) -> None:
        """Let watchers read now; a moment passes on either side."""
        self._process.now_s += 0.01
        now_s, text = self._process.now_s, (self._kernel.proc / "swaps").read_text()
        self._readings.append(SwapsSeen(begun_s=now_s, ended_s=now_s + 0.001, text=text))
        self._process.now_s += 0.01

    def _watch(self, line: str) -> list[Event]:
        self._look()
        last_s = self._process.now_s
        false = [SwapsSeen(begun_s=last_s, ended_s=last_s + 0.001, text=text) for text in self.false_readings]
        return [*self._readings, *false, Watched(readings=len(self._readings) + len(false))]


def _lines(*events: Event) -> tuple[str, ...]:
    return tuple(as_line(event).decode().rstrip("\n") for event in events)
