"""Breaks one rule of the controller at a time and shows that the simulator finds it: `make sim-mutants`.

Every broken rule is a changed line in a copy of the source. The table says which run found it; a rule that is broken
and not found is a hole in the simulator, and the exit code says so.
"""

import argparse
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from mutant_hunt import hunt
from mutants import MUTANTS

_NAME_WIDTH = 44
_SHOWN = 110


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
