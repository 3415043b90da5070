"""What is promised of a parser, and how one input is tried against it.

Whatever bytes come, there is a value or the documented error, in words that a terminal can show, in time that grows
with the input's length and no faster.
"""

import logging
import sys
import time
import traceback
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog

ROOT = Path(__file__).resolve().parents[2]
CORPUS = ROOT / "tests" / "fuzz" / "corpus"
KEPT = ROOT / "build" / "fuzz"

# Of one input; the slowest honest one takes a twentieth of it.
DEADLINE_S = 10
# Time is compared where there is enough of it to compare.
_WORTH_COMPARING_S = 0.3
# Twice the input takes twice the time; four times would be quadratic.
_MOST_GROWTH = 3.2
_SHRINKING_S = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One parser."""

    name: str
    # Takes any bytes. Raises one of `errors`, or AssertionError where something else that is promised does not hold.
    run: Callable[[bytes], object]
    # What it is documented to raise.
    errors: tuple[type[Exception], ...] = ()
    # How long inputs become, and how long they are made to see how time grows.
    most_bytes: int = 4096
    stretched_bytes: int = 1 << 16
    # Words of its language, so that not every one has to be guessed.
    words: tuple[str, ...] = ()


class NotLinear(Exception):
    """Time grows faster than the input."""


def tried(target: Target, data: bytes) -> None:
    """Try one input; what is raised breaks a promise."""
    try:
        target.run(data)
    except target.errors as error:
        text = str(error)
        unprintable = {sign for sign in text if not (sign.isprintable() or sign == "\n")}
        if unprintable:
            raise AssertionError(f"the message holds {unprintable!r}: {text[:300]!r}") from error
        if not text.strip():
            raise AssertionError(f"{type(error).__name__} says nothing") from error


def stretched(data: bytes, size: int) -> bytes:
    """Return the input with one piece of it, the same at every call, repeated until it is so long."""
    if not data:
        return b"\0" * size
    drawn = zlib.crc32(data)
    start = drawn % len(data)
    end = start + 1 + (drawn >> 16) % min(len(data) - start, 64)
    piece = data[start:end]
    return data[:start] + piece * (1 + max(0, -((len(data) - size) // len(piece)))) + data[end:]


def tried_long(target: Target, data: bytes) -> None:
    """Try an input made long. Raises NotLinear, or what `tried` raises."""
    half, whole = (stretched(data, target.stretched_bytes // part) for part in (2, 1))
    first_s = _took_s(target, half)
    if first_s * 2 < _WORTH_COMPARING_S:
        return
    second_s = _took_s(target, whole)
    if second_s < _WORTH_COMPARING_S or second_s < _MOST_GROWTH * first_s:
        return
    # Once more: another process may have taken the caches in between.
    first_s, second_s = max(first_s, _took_s(target, half)), min(second_s, _took_s(target, whole))
    if second_s > _MOST_GROWTH * first_s:
        raise NotLinear(f"{len(half)} bytes took {first_s:.2f} s, {len(whole)} bytes {second_s:.2f} s")


def _took_s(target: Target, data: bytes) -> float:
    began = time.thread_time()
    tried(target, data)
    return time.thread_time() - began


def signature(error: BaseException) -> str:
    """Return what tells findings apart: the kind of error, and the innermost place in our own code."""
    frames = traceback.extract_tb((error.__cause__ or error).__traceback__)
    ours = [one for one in frames if one.filename.startswith((f"{ROOT}/controller/", f"{ROOT}/agent/"))]
    last = (ours or frames)[-1]
    return f"{type(error).__name__}-{Path(last.filename).stem}-{last.name.strip('<>')}-{last.lineno}"


def shrunk(target: Target, data: bytes, name: str) -> bytes:
    """Return a shorter input that breaks the same promise at the same place, or the input itself."""
    until = time.monotonic() + _SHRINKING_S
    size = len(data) // 2
    while size and time.monotonic() < until:
        at = 0
        while at < len(data) and time.monotonic() < until:
            shorter = data[:at] + data[at + size :]
            if _breaks(target, shorter) == name:
                data = shorter
            else:
                at += size
        size //= 2
    return data


def _breaks(target: Target, data: bytes) -> str:
    try:
        tried(target, data)
    except Exception as error:
        return signature(error)
    return ""


def entries(target: Target) -> Mapping[str, bytes]:
    """Return the committed inputs of a target, by file name."""
    return {path.name: path.read_bytes() for path in sorted((CORPUS / target.name).glob("*"))}


def explained(error: BaseException) -> str:
    """Return the traceback of a finding."""
    return "".join(traceback.format_exception(error))


def silenced() -> None:
    """Log nothing: every damaged file would be told of."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def use_sources() -> None:
    """Let the targets import what they fuzz from this checkout, and what tests have in common."""
    for place in (ROOT / "tests" / "support", ROOT / "tests" / "fuzz", ROOT):
        if str(place) not in sys.path:
            sys.path.insert(0, str(place))
