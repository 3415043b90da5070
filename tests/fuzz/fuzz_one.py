"""One target in one process: inputs, until the time is up, and what breaks a promise is kept.

Started by run_fuzz.py. Progress goes to standard output as one JSON object a line; what the engine says to standard
error. Without atheris, inputs are changed blindly.
"""

import argparse
import importlib
import json
import os
import random
import resource
import shlex
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from promised import (
    CORPUS,
    DEADLINE_S,
    KEPT,
    NotLinear,
    Target,
    entries,
    explained,
    shrunk,
    signature,
    silenced,
    stretched,
    tried,
    tried_long,
    use_sources,
)

_SAY_EVERY_S = 1.0
# So many inputs between two that are made long.
_STRETCH_EVERY = 256
# By the clock: on a busy machine an input takes longer than it needs, and one that is made long is tried four times.
_HANG_S = 6 * DEADLINE_S


class Trial:
    """Counts inputs and keeps findings."""

    def __init__(self, target: Target, folder: Path) -> None:
        """Keep what is found below the folder."""
        self._target = target
        self._findings = folder / "findings"
        self._corpus = folder / "corpus"
        self._known = {path.stem for path in self._findings.glob("*.txt")}
        self._count = 0
        self._began = self._said = time.monotonic()

    def one(self, data: bytes) -> None:
        """Try an input."""
        self._count += 1
        began = time.thread_time()
        try:
            tried(self._target, data)
            if time.thread_time() - began > DEADLINE_S:
                raise TimeoutError(f"{len(data)} bytes took more than {DEADLINE_S} s")
        except Exception as error:
            self._keep(data, error)
        else:
            if self._count % _STRETCH_EVERY == 0:
                self._long(data)
        now = time.monotonic()
        if now - self._said >= _SAY_EVERY_S:
            self._said = now
            self.say()

    def say(self) -> None:
        """Tell how far it is."""
        elapsed_s = time.monotonic() - self._began
        corpus = len(os.listdir(self._corpus))
        told = {"inputs": self._count, "elapsed_s": elapsed_s, "corpus": corpus, "findings": sorted(self._known)}
        try:
            print(json.dumps(told), flush=True)
        except BrokenPipeError:
            # Whoever started us is gone.
            os._exit(0)

    def _long(self, data: bytes) -> None:
        try:
            tried_long(self._target, data)
        except NotLinear as error:
            # As it is: what makes it long makes it long again.
            self._keep(data, error)
        except Exception as error:
            self._keep(stretched(data, self._target.stretched_bytes), error)

    def _keep(self, data: bytes, error: Exception) -> None:
        name = signature(error)
        if name in self._known:
            return
        self._known.add(name)
        data = shrunk(self._target, data, name)
        (self._findings / f"{name}.input").write_bytes(data)
        (self._findings / f"{name}.txt").write_text(explained(error), errors="backslashreplace")
        self.say()


def blindly(trial: Trial, target: Target, seconds: int) -> None:
    """Change committed inputs without knowing what the changes reach."""
    seeds = list(entries(target).values()) or [b""]
    words = [word.encode() for word in target.words] + [b"\0", b"\xff", b"\n", b'"', b"9" * 20, b"\xe2\x80\xae"]
    random_ = random.Random(time.monotonic_ns())
    until = time.monotonic() + seconds
    signal.signal(signal.SIGALRM, _late)
    while time.monotonic() < until:
        data = bytearray(random_.choice(seeds))
        for _ in range(random_.randint(1, 6)):
            at = random_.randint(0, len(data))
            end = min(len(data), at + random_.choice((0, 0, 1, 1, 4, 32)))
            other = random_.choice(seeds)
            cut = random_.randint(0, len(other))
            data[at:end] = random_.choice((random_.choice(words), random_.randbytes(1), other[cut : cut + 64], b""))
        signal.alarm(DEADLINE_S)
        trial.one(bytes(data[: target.most_bytes]))
        signal.alarm(0)
    trial.say()


def _late(_number: int, _frame: FrameType | None) -> None:
    raise TimeoutError(f"one input took more than {DEADLINE_S} s")


def main() -> None:
    """Fuzz one target, or minimise its corpus into a folder."""
    parser = argparse.ArgumentParser()
    parser.add_argument("module")
    parser.add_argument("name")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--memory", type=int, default=2 << 30)
    parser.add_argument("--blind", action="store_true")
    parser.add_argument("--minimise", type=Path)
    arguments, more = parser.parse_known_args()
    use_sources()
    silenced()
    # Only what this target needs: instrumenting everything takes half a minute.
    if arguments.blind:
        atheris, module = None, importlib.import_module(arguments.module)
    else:
        import atheris  # noqa: PLC0415 - it is optional

        with atheris.instrument_imports(include=["controller", "agent"], enable_loader_override=False):
            module = importlib.import_module(arguments.module)
    target = next(one for one in module.TARGETS if one.name == arguments.name)
    folder = KEPT / target.name
    for part in ("corpus", "findings"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    resource.setrlimit(resource.RLIMIT_AS, (arguments.memory, arguments.memory))
    trial = Trial(target, folder)
    if atheris is None:
        blindly(trial, target, arguments.seconds)
        return
    committed = CORPUS / target.name
    committed.mkdir(parents=True, exist_ok=True)
    options = [
        f"-max_len={target.most_bytes}",
        f"-timeout={_HANG_S}",
        "-rss_limit_mb=0",
        "-len_control=20",
        "-print_final_stats=1",
    ]
    options += [f"-artifact_prefix={folder}/findings/", "-detect_leaks=0"]
    if target.words:
        (folder / "words").write_text("".join(f'"{_escaped(word)}"\n' for word in target.words))
        options.append(f"-dict={folder}/words")
    if arguments.minimise is not None:
        arguments.minimise.mkdir(parents=True, exist_ok=True)
        places = [str(arguments.minimise), str(committed), str(folder / "corpus")]
        # The engine starts itself again by its first word, with words of its own.
        again = folder / "engine"
        if not more:
            again.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, *sys.argv])} "$@"\n')
            again.chmod(0o700)
        atheris.Setup([str(again), *(more or ["-merge=1", *options, *places])], trial.one)
    else:
        time_ = f"-max_total_time={arguments.seconds}"
        atheris.Setup([sys.argv[0], time_, *options, str(folder / "corpus"), str(committed)], trial.one)
    atheris.Fuzz()


def _escaped(word: str) -> str:
    return "".join(chr(one) if 32 <= one < 127 and chr(one) not in '"\\' else f"\\x{one:02x}" for one in word.encode())


if __name__ == "__main__":
    main()
