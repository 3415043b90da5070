"""What the agent keeps of itself on disk, read in one place that knows three outcomes.

A file is *fine*. Or it is *unreadable*: damaged, of another shape, or no regular file; then it is named in the log and
kept as FILE.unreadable-1, and the agent goes on without it, in the way that is safe for what it said. Or a *newer*
agent wrote it: that is told in one sentence that ends this agent, because what it cannot understand it must not undo.

A file without a `version` is of the first layout, and there has been no other.
"""

import json
import os
import stat
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import structlog

from agent import __version__
from agent.adapters.state.durable import sync_directory
from agent.domain.errors import ConfigError, RigError
from agent.domain.tagged import Tagged, Unknown, Unreadable

LAYOUT = 1
# Of a small file that is replaced whole.
MOST_BYTES = 4 << 20

_T = TypeVar("_T")

log = structlog.get_logger(__name__)


class NewerState(ConfigError):
    """A newer agent wrote it; the text names the file and what to do."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(
            f"{path}: a newer agent than this one ({__version__}) wrote it, with {what}: install that agent again; or "
            "let it take down what it noted (kernroll-agent sweep), then move the file away"
        )


def read_regular(path: Path, *, most_bytes: int = MOST_BYTES) -> bytes | None:
    """Return a file's content; None when there is nothing of this name. Raises Unreadable."""
    try:
        # Neither waits for a pipe's other end nor follows a link to somewhere else.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise Unreadable("it is no regular file")
            if status.st_size > most_bytes:
                raise Unreadable(f"it has {status.st_size} bytes, more than the {most_bytes} that any has")
            return file.read(most_bytes)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unreadable(error.strerror or str(error)) from error


def parse_json(content: bytes) -> Any:
    """Return what the JSON says. Raises Unreadable, whatever it is instead."""
    try:
        return json.loads(content)
    except RecursionError as error:
        raise Unreadable("it is nested too deeply") from error
    except ValueError as error:
        raise Unreadable(f"it is no JSON: {error}") from error


def load_json(path: Path, parse: Callable[[dict[str, Any]], _T]) -> _T | None:
    """Return what a file of one object says; None when there is none, or it was unreadable and is kept aside.

    `parse` may raise Unreadable, KeyError, TypeError and ValueError. Raises NewerState, RigError.
    """
    try:
        content = read_regular(path)
        if content is None:
            return None
        document = parse_json(content)
        if not isinstance(document, dict):
            raise Unreadable("it holds no object")
        check_layout(path, document)
        return parse(document)
    except (Unreadable, KeyError, TypeError, ValueError) as error:
        set_aside(path, str(error) if isinstance(error, Unreadable) else f"another shape: {error!r}")
        return None


def check_layout(path: Path, document: Mapping[str, Any]) -> None:
    """Raise NewerState when the document names a later layout, Unreadable when it names none that there can be."""
    version = document.get("version", LAYOUT)
    if not isinstance(version, int) or isinstance(version, bool) or version < LAYOUT:
        raise Unreadable("its version is no number that there has been")
    if version > LAYOUT:
        raise NewerState(path, f"layout {version}")


def record_of(path: Path, kinds: Tagged[_T], told: Mapping[str, Any]) -> _T:
    """Return one record of a file. Raises Unreadable, NewerState."""
    try:
        return kinds.record(told)
    except Unknown as error:
        raise NewerState(path, str(error)) from error


def set_aside(path: Path, why: str) -> Path:
    """Keep an unreadable file, or whatever is there instead, under another name. Raises RigError."""
    aside = next(each for number in count(1) if not os.path.lexists(each := Path(f"{path}.unreadable-{number}")))
    try:
        path.rename(aside)
        sync_directory(path.parent)
    except OSError as error:
        problem = f"{path} is unreadable ({why}) and cannot be put aside: {error.strerror}; move it away"
        raise RigError(problem) from error
    log.error("state_unreadable", file=str(path), why=why, kept_as=str(aside))
    return aside


def kept_aside(path: Path) -> tuple[str, ...]:
    """Return the names of what was put aside of a file and still lies there: nobody has seen to it."""
    return tuple(sorted(str(each) for each in path.parent.glob(f"{path.name}.unreadable-*")))
