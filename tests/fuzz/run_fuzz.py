"""Fuzzes every parser and every message: `make fuzz`. Two targets at a time, ten minutes each.

Resumable: what grew is kept in build/fuzz/TARGET/corpus, what was found in build/fuzz/TARGET/findings with its
traceback beside it; the next run begins with both, and takes away what is mended. A small corpus, in which every past
finding has its input, is committed in tests/fuzz/corpus/TARGET and replayed by `make test`. Ends with 1 when anything
is found.

The engine is atheris (libFuzzer for Python): it is guided by what the code under test does, branch by branch, and finds
its way from an example into the corners of a parser by itself. hypothesis draws from what it is told of the grammar,
which tests/unit and tests/properties do; a loop of our own over sys.settrace makes Python 3.11 some ten times slower.
atheris has wheels for x86_64 only, for Python 3.11 to 3.14, so it is an extra that `make fuzz` installs and nothing
else needs; where it cannot be had, inputs are changed blindly (--blind), which finds less.
"""

import argparse
import asyncio
import contextlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from promised import CORPUS, DEADLINE_S, KEPT, ROOT, Target, explained, silenced, tried, tried_long, use_sources

_ENGINE = ROOT / "tests" / "fuzz" / "fuzz_one.py"
_AT_ONCE = 2
_MEMORY_BYTES = 2 << 30
_SAY_EVERY_S = 15.0
# An engine that ends before its time was ended by an input: by its deadline, for want of memory, by a crash.
_MOST_ENDS = 20
# Loading what is fuzzed, replaying the corpus, and one input that is as slow as it may be.
_GRACE_S = 180
# Of a target's committed corpus, which findings are on top of.
_COMMITTED_BYTES = 12 << 10
_COMMITTED_ENTRY_BYTES = 1536
_COMMITTED_ENTRIES = 30


@dataclass(slots=True, kw_only=True)
class Progress:
    """How far one target is."""

    name: str
    inputs: int = 0
    elapsed_s: float = 0.0
    corpus: int = 0
    found: list[str] = field(default_factory=list)
    # What ended the engine itself.
    ends: int = 0
    problem: str = ""

    def line(self) -> str:
        """Return it for people."""
        rate = self.inputs / self.elapsed_s if self.elapsed_s else 0.0
        told = f"{self.name:20} {self.inputs:9d} inputs {rate:7.0f}/s  corpus {self.corpus:5d}"
        told += f"  findings {len(self.found)}"
        return f"{told}  {self.problem}".rstrip()


class Runner:
    """Runs targets, so many at once."""

    def __init__(self, targets: Mapping[str, Target], *, seconds: int, blind: bool) -> None:
        """Give every target so long."""
        self._modules = {name: target.run.__module__ for name, target in targets.items()}
        self._seconds = seconds
        self._blind = blind
        self._running: dict[str, Progress] = {}

    async def run(self, names: Sequence[str]) -> list[Progress]:
        """Return how every target ended."""
        places = asyncio.Semaphore(_AT_ONCE)

        async def one(name: str) -> Progress:
            async with places:
                return await self._target(name)

        tasks = [asyncio.create_task(one(name)) for name in names]
        waiting = set(tasks)
        while waiting:
            _, waiting = await asyncio.wait(waiting, timeout=_SAY_EVERY_S)
            for progress in self._running.values():
                print(f"  … {progress.line()}", flush=True)
        return [task.result() for task in tasks]

    async def _target(self, name: str) -> Progress:
        done = self._running[name] = Progress(name=name)
        await asyncio.to_thread(_take_away_mended, name)
        until = time.monotonic() + self._seconds
        while (left_s := round(until - time.monotonic())) > 0 and done.ends < _MOST_ENDS and not done.problem:
            await self._engine(name, max(1, left_s), done)
        findings = KEPT / name / "findings"
        done.found = sorted(path.name for path in findings.glob("*") if path.suffix != ".txt")
        del self._running[name]
        print(done.line(), flush=True)
        for one in done.found:
            print(f"    {findings / one}\n    {_replay(name, findings / one)}", flush=True)
        return done

    async def _engine(self, name: str, seconds: int, done: Progress) -> None:
        """Run one process until it ends."""
        folder = KEPT / name
        folder.mkdir(parents=True, exist_ok=True)
        log = (folder / "log").open("wb")
        scratch = tempfile.mkdtemp(prefix="kernroll-fuzz-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
        module, before, before_s = self._modules[name], done.inputs, done.elapsed_s
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, str(_ENGINE), module, name, "--seconds", str(seconds)),
            *("--memory", str(_MEMORY_BYTES), *(["--blind"] if self._blind else [])),
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, "TMPDIR": scratch, "OPENBLAS_NUM_THREADS": "1"},
            preexec_fn=lambda: os.nice(10),
        )
        assert process.stdout is not None
        try:
            async with asyncio.timeout(seconds + _GRACE_S):
                async for line in process.stdout:
                    with contextlib.suppress(ValueError):
                        told = json.loads(line)
                        done.inputs, done.corpus = before + told["inputs"], told["corpus"]
                        done.elapsed_s = before_s + told["elapsed_s"]
                        done.found = told["findings"]
                code = await process.wait()
        except TimeoutError:
            done.problem = f"hangs beyond its deadline: {folder / 'log'}"
            return
        finally:
            if process.returncode is None:
                process.kill()
            log.close()
            shutil.rmtree(scratch, ignore_errors=True)
        if code:
            done.ends += 1
            if done.inputs == before and not any((folder / "findings").glob("*-*")):
                done.problem = f"does not start, exit code {code}: {folder / 'log'}"


def _replay(name: str, path: Path) -> str:
    return f"{Path(sys.executable)} tests/fuzz/run_fuzz.py --target {name} --replay {path}"


def _take_away_mended(name: str) -> None:
    """Move the inputs of findings that are none any more to the corpus."""
    folder = KEPT / name
    (folder / "corpus").mkdir(parents=True, exist_ok=True)
    for path in sorted((folder / "findings").glob("*")):
        if path.suffix == ".txt":
            continue
        # In a process of its own: what hangs or crashes may do so still.
        command = [sys.executable, str(ROOT / "tests/fuzz/run_fuzz.py"), "--target", name, "--replay", str(path)]
        try:
            code = subprocess.run(command, check=False, capture_output=True, timeout=12 * DEADLINE_S).returncode
        except subprocess.TimeoutExpired:
            continue
        if code == 0:
            path.rename(folder / "corpus" / path.name)
            path.with_suffix(".txt").unlink(missing_ok=True)


def replay(target: Target, path: Path) -> int:
    """Try one input and show what comes of it."""
    data = path.read_bytes()
    began = time.monotonic()
    try:
        tried(target, data)
        tried_long(target, data)
    except Exception as error:
        print(explained(error))
        return 1
    print(f"{target.name}: {len(data)} bytes keep what is promised, in {time.monotonic() - began:.2f} s")
    return 0


def minimise(target: Target) -> None:
    """Write the smallest inputs that together reach what the kept corpus reaches into the committed one."""
    name, committed = target.name, CORPUS / target.name
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            str(_ENGINE),
            target.run.__module__,
            name,
            "--minimise",
            folder,
        ]
        with (KEPT / name / "log").open("wb") as log:
            subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=log, timeout=900)
        left = _COMMITTED_BYTES
        chosen = sorted(Path(folder).iterdir(), key=lambda path: (path.stat().st_size, path.name))
        for path in committed.glob("kept-*"):
            path.unlink()
        # From the small to the large ones, evenly: each end shows something else.
        for path in chosen[:: max(1, len(chosen) // _COMMITTED_ENTRIES)]:
            size = path.stat().st_size
            if size <= min(left, _COMMITTED_ENTRY_BYTES):
                left -= size
                committed.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, committed / f"kept-{path.name[:10]}")
    print(f"{name}: {len(list(committed.glob('*')))} entries")


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description="Fuzz every parser and every message.")
    parser.add_argument("--minutes", type=float, default=10.0, help="for each target")
    parser.add_argument("--target", action="append", default=[], metavar="NAME", help="only this one; may be repeated")
    parser.add_argument("--list", action="store_true", help="name the targets")
    parser.add_argument("--blind", action="store_true", help="change inputs without atheris")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="try one input of the one target named")
    parser.add_argument("--minimise", action="store_true", help="choose the committed corpus from the kept one")
    arguments = parser.parse_args()
    use_sources()
    from fuzz_targets import TARGETS  # noqa: PLC0415 - needs the sources

    unknown = [name for name in arguments.target if name not in TARGETS]
    if unknown:
        parser.error(f"no target {unknown[0]}; there are {', '.join(TARGETS)}")
    names = arguments.target or list(TARGETS)
    if arguments.list:
        print("\n".join(TARGETS))
        return 0
    if arguments.replay is not None:
        silenced()
        return replay(TARGETS[names[0]], arguments.replay)
    if arguments.minimise:
        for name in names:
            minimise(TARGETS[name])
        return 0
    blind = arguments.blind or importlib.util.find_spec("atheris") is None
    if blind:
        print("without atheris: inputs are changed blindly, which finds less")
    ended = asyncio.run(Runner(TARGETS, seconds=round(arguments.minutes * 60), blind=blind).run(names))
    found = sum(len(one.found) for one in ended)
    print(f"{len(ended)} targets, {sum(one.inputs for one in ended)} inputs, {found} findings")
    return 1 if found or any(one.problem for one in ended) else 0


if __name__ == "__main__":
    sys.exit(main())
