"""Breaks one rule of the controller at a time and shows that the simulator finds it: `make sim-mutants`.

Every broken rule is a changed line in a copy of the source. The table says which run found it; a rule that is broken
and not found is a hole in the simulator, and the exit code says so.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from mutants import MUTANTS, ROOT, Mutant

_TIMEOUT_S = 3600.0
_NAME_WIDTH = 44
_SHOWN = 110


def hunt(mutant: Mutant | None, seeds: int, hosts: int) -> dict[str, object]:
    """Return what a hunt in a copy of the source finds; None is the source as it is."""
    with tempfile.TemporaryDirectory(prefix="kernroll-mutant-") as folder:
        copy = Path(folder)
        for part in ("controller", "protos", "deploy", "tests"):
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        if mutant is not None:
            (copy / mutant.path).write_text(mutant.applied(), encoding="utf-8")
        environment = {**os.environ, "PYTHONPATH": f"{copy}{os.pathsep}{copy / 'tests' / 'support'}"}
        ran = subprocess.run(
            [sys.executable, str(copy / "tests" / "sim" / "hunt.py"), str(seeds), str(hosts)],
            cwd=copy,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        if ran.returncode:
            # A rule that breaks every run at once is found as well.
            return {"found": ["at once", ran.stderr.strip().splitlines()[-1]], "cpu_s": 0.0}
        result: dict[str, object] = json.loads(ran.stdout.splitlines()[-1])
        return result


def line(name: str, result: dict[str, object]) -> str:
    """Return a row of the table."""
    found = result["found"]
    if not isinstance(found, list):
        return f"{name:{_NAME_WIDTH}} NOT FOUND   {result['cpu_s']} s"
    where, how = found
    shown = how if len(how) <= _SHOWN else f"{how[: _SHOWN - 1]}…"
    return f"{name:{_NAME_WIDTH}} {where:10} {result['cpu_s']:>6} s  {shown}"


def main() -> int:
    """Hunt every mutant, print the table, and fail when one is not found or the true source is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=400, help="drawn worlds for each at most (%(default)s)")
    parser.add_argument("--hosts", type=int, default=12, help="hosts of each world (%(default)s)")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes (%(default)s)")
    parser.add_argument("--only", default="", help="only mutants whose name contains this")
    options = parser.parse_args()
    chosen = [mutant for mutant in MUTANTS if options.only in mutant.name]
    missed = 0
    print(f"{'broken rule':{_NAME_WIDTH}} found by      after  how it showed", flush=True)
    with ThreadPoolExecutor(options.jobs) as pool:
        for mutant, result in zip(
            chosen, pool.map(lambda one: hunt(one, options.seeds, options.hosts), chosen), strict=True
        ):
            print(line(mutant.name, result), flush=True)
            missed += result["found"] is None
    print(f"{len(chosen) - missed} of {len(chosen)} broken rules found")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
