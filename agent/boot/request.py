"""What may be asked over the socket: verbs of a fixed list, and every word of them looked at before it counts."""

import json
import os
import re
import select
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from agent.boot.values import BootError

_RECEIVE_S: Final = 10.0
_MOST_BYTES: Final = 16 << 10
_MOST_WORDS: Final = 8
_TOLD_CHARACTERS: Final = 80
# A digest, or a release as `uname -r` gives it; never what an option looks like.
_KERNEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+~-]{0,127}")
_SECONDS: Final = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")
# An option -> what it may be given; None where it takes nothing.
_VALUES: Final[Mapping[str, re.Pattern[str] | None]] = {
    "--output": re.compile("json"),
    "--command-id": re.compile(r"[!-~]{1,200}"),
    "--boot-timeout": _SECONDS,
    "--probation-timeout": _SECONDS,
    "--patience": _SECONDS,
    "--reboot": None,
    "--require-watchdog": None,
}
_ALWAYS: Final = ("--output",)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    """What a verb is given."""

    kernels: tuple[int, ...] = (0,)
    options: tuple[str, ...] = ("--command-id",)


# What is not here is not asked over the socket: what stages kernels, and what the host does for itself.
_FORMS: Final[Mapping[str, _Form]] = {
    "status": _Form(options=()),
    "check": _Form(options=()),
    "pin": _Form(),
    "rehearse": _Form(),
    "arm": _Form(
        kernels=(1,),
        options=("--command-id", "--boot-timeout", "--probation-timeout", "--patience", "--require-watchdog"),
    ),
    "disarm": _Form(),
    "reboot": _Form(),
    "acknowledge": _Form(),
    "bless": _Form(kernels=(0, 1)),
    "revert": _Form(kernels=(1,), options=("--command-id", "--reboot")),
}


def received(handle: int) -> bytes:
    """Read one line. Raises BootError when it does not come, or is too long."""
    found, until = b"", time.monotonic() + _RECEIVE_S
    while b"\n" not in found:
        ready, _, _ = select.select([handle], [], [], max(0.0, until - time.monotonic()))
        if not ready:
            raise BootError(f"no request came within {_RECEIVE_S:.0f} s")
        block = os.read(handle, _MOST_BYTES)
        if not block:
            break
        found += block
        if len(found) > _MOST_BYTES:
            raise BootError(f"a request has at most {_MOST_BYTES} bytes")
    return found.partition(b"\n")[0]


def arguments_of(line: bytes) -> list[str]:
    """Return the command line that a request asks for, with its answer as JSON. Raises BootError for any other."""
    try:
        told = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BootError('a request is one line such as {"arguments": ["status"]}') from error
    words = told.get("arguments") if isinstance(told, dict) and len(told) == 1 else None
    if not isinstance(words, list) or not 0 < len(words) <= _MOST_WORDS:
        raise BootError(f"a request has `arguments`, a list of 1 to {_MOST_WORDS} words, and nothing else")
    if not all(isinstance(word, str) for word in words):
        raise BootError("the words of a request are texts")
    form = _FORMS.get(words[0])
    if form is None:
        raise BootError(f"{_shown(words[0])} is not asked over the socket; {', '.join(_FORMS)} are")
    options = [word for word in words[1:] if word.startswith("-")]
    kernels = [word for word in words[1:] if not word.startswith("-")]
    if len(kernels) not in form.kernels:
        raise BootError(f"{words[0]} takes {' or '.join(map(str, form.kernels))} kernels, and {len(kernels)} are named")
    for kernel in kernels:
        if not _KERNEL.fullmatch(kernel):
            raise BootError(f"{_shown(kernel)} is neither a kernel's release nor its digest")
    names = [_checked(words[0], form, option) for option in options]
    if len(set(names)) < len(names):
        raise BootError(f"{words[0]} was given an option twice")
    return words if "--output" in names else [*words, "--output=json"]


def _checked(verb: str, form: _Form, option: str) -> str:
    """Return an option's name. Raises BootError when the verb does not take it so."""
    name, given, value = option.partition("=")
    if name not in (*form.options, *_ALWAYS):
        raise BootError(f"{verb} does not take {_shown(option)} over the socket")
    pattern = _VALUES[name]
    if bool(given) != (pattern is not None) or (pattern is not None and not pattern.fullmatch(value)):
        raise BootError(f"{_shown(option)} cannot be read: {name} is given otherwise")
    return name


def _shown(word: str) -> str:
    return ascii(word[:_TOLD_CHARACTERS])
