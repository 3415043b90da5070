"""What the agent and its exercisers say to each other: options, events and orders, one JSON object a line.

An exerciser is started with its options, tells events on standard output and takes orders on standard input.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from agent.domain.tagged import Tagged, Unknown, Unreadable


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepOptions:
    """Touch anonymous memory, sequentially or at random, as usemem does."""

    size_bytes: int
    processes: int = 1
    # "sequential" or "random".
    pattern: str = "sequential"
    passes: int = 2
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FillOptions:
    """Fill swap with pages that each repeat one non-zero byte; how much is told by orders."""

    chunk_bytes: int = 64 << 20
    # Chooses the byte.
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class IntegrityOptions:
    """Write patterns, have them swapped out in many ways, and compare every byte."""

    size_bytes: int
    seed: int = 0
    # Processes that share the same swapped pages. Above 127 they pass every width that swap counts have had.
    children: int = 132
    # Names of scenarios; empty for all of them.
    scenarios: tuple[str, ...] = ()
    # Flips one byte of this page before it is compared, to prove that a wrong byte is found. None changes nothing.
    corrupt_page: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChurnOptions:
    """Write, swap out, compare and rewrite patterns until ordered to end: the load under a swapoff."""

    size_bytes: int
    seed: int = 0
    processes: int = 2
    # As in IntegrityOptions.
    corrupt_page: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchOptions:
    """Read /proc/swaps as often as possible until ordered to end."""

    swaps: str = "/proc/swaps"
    # /proc/PID/status of a process whose swap is looked at right after a reading that is told; empty for none.
    load_status: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchOptions:
    """Switch swap on and off as ordered, by the system calls themselves: the tools refuse what a kernel must refuse."""


Options = SweepOptions | FillOptions | IntegrityOptions | ChurnOptions | WatchOptions | SwitchOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """The exerciser is set up and waits for an order."""

    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Advanced:
    """A sign of life between two other events."""

    step: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """One kind of pass of a sweep is over."""

    # "populate", "sequential" or "random".
    pattern: str
    touched_bytes: int
    elapsed_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What the exerciser's memory is at this moment; the answer to every order of `fill`."""

    mapped_bytes: int
    resident_bytes: int
    swapped_bytes: int
    page_table_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WrongPage:
    """A page that did not hold what was written into it."""

    scenario: str
    page: int
    generation: int
    # Of the first wrong byte within the page.
    offset: int
    wrong_bytes: int
    # From the first wrong byte, sixteen bytes, hexadecimal.
    expected: str
    found: str
    # What the whole page looks like, for example "page 17 of generation 2".
    looks_like: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildDied:
    """A process that shared the memory ended by a signal that nobody sent, for example SIGBUS after a failed read."""

    scenario: str
    signal: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenarioDone:
    """One scenario came to its end, whatever it found."""

    scenario: str
    compared_pages: int
    # What was in swap when it mattered. 0 says that the scenario proved nothing.
    swapped_bytes: int
    wrong_pages: int
    elapsed_s: float
    # The highest count that the kernel itself showed for the shared pages; 0 where the scenario shares none.
    highest_count: int = 0
    # Why it could not take place on this kernel; empty when it did.
    skipped: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapsSeen:
    """One reading of /proc/swaps: whenever it differs from the one before, and some times a second anyway.

    Both clocks are CLOCK_MONOTONIC.
    """

    begun_s: float
    ended_s: float
    text: str
    # What the load had in swap after the reading. None where no load was named, or it has ended.
    load_swapped_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Calling:
    """A system call is about to be made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """A system call has returned."""

    begun_s: float
    ended_s: float
    # 0 when it succeeded.
    errno: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """The watching is over."""

    readings: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The exerciser could not do its work; nothing is known of the kernel."""

    error: str


Event = (
    Ready
    | Advanced
    | Swept
    | Usage
    | WrongPage
    | ChildDied
    | ScenarioDone
    | SwapsSeen
    | Calling
    | Called
    | Watched
    | Failed
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GoOn:
    """Do what the options say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FillUp:
    """Have at least this much in swap."""

    swapped_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Shrink:
    """Give memory back until at most this much is in swap."""

    swapped_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """Finish what is being done, report it and end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchOn:
    """Call swapon(2)."""

    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchOff:
    """Call swapoff(2)."""

    device: str


Order = GoOn | FillUp | Shrink | SwitchOn | SwitchOff | End

_EVENTS: Tagged[Event] = Tagged(
    {
        "ready": Ready,
        "advanced": Advanced,
        "swept": Swept,
        "usage": Usage,
        "wrong_page": WrongPage,
        "child_died": ChildDied,
        "scenario_done": ScenarioDone,
        "swaps_seen": SwapsSeen,
        "calling": Calling,
        "called": Called,
        "watched": Watched,
        "failed": Failed,
    }
)
_ORDERS: Tagged[Order] = Tagged(
    {
        "go_on": GoOn,
        "fill_up": FillUp,
        "shrink": Shrink,
        "switch_on": SwitchOn,
        "switch_off": SwitchOff,
        "end": End,
    }
)
_Options = TypeVar("_Options", bound=Options)


def as_line(message: Event | Order) -> bytes:
    """Return an event or order as one line."""
    kinds: Tagged[Any] = _ORDERS if isinstance(message, Order) else _EVENTS
    return json.dumps(kinds.plain(message)).encode() + b"\n"


def parse_event(line: bytes) -> Event:
    """Parse one line of an exerciser. Raises ValueError with the line when it is not an event."""
    try:
        return _EVENTS.record(_fields(line))
    except (Unknown, Unreadable) as error:
        raise ValueError(f"an exerciser told what is no event: {line[:200]!r}") from error


def parse_order(line: bytes) -> Order:
    """Parse one line from the agent. Raises ValueError with the line when it is not an order."""
    try:
        return _ORDERS.record(_fields(line))
    except (Unknown, Unreadable) as error:
        raise ValueError(f"not an order: {line[:200]!r}") from error


def options_text(options: Options) -> str:
    """Return options as the exerciser's one argument."""
    return json.dumps(asdict(options))


def parse_options(kind: type[_Options], text: str) -> _Options:
    """Parse an exerciser's one argument. Raises ValueError when it does not fit."""
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in _fields(text).items()
    }
    try:
        return kind(**fields)
    except TypeError as error:
        raise ValueError(f"options that {kind.__name__} does not have: {text[:200]!r}") from error


def _fields(line: bytes | str) -> dict[str, Any]:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {line[:200]!r}") from error
    if not isinstance(fields, dict):
        raise ValueError(f"not a JSON object: {line[:200]!r}")
    return fields
