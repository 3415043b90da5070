"""The gate's speed, beside bare scipy calls on the same numbers in the same run: `python tests/bench/gate.py`.

Exit code 1 when a limit is missed. One core: numpy is kept from using more before it is imported.
"""

import os

os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})

import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np
from scipy import stats

from controller.gate.cells import CellPlan, Design, judge_cells
from controller.gate.contrasts import host_change

SEED = 20260218
CELLS, HOSTS, RUNS = 100, 1000, 8
FULL_LIMIT_S, HOST_LIMIT_S = 2.0, 0.050
ROUNDS = 5
MARGIN = 0.004


def best(call: Callable[[], object]) -> float:
    """Return the fastest of a few rounds, in seconds of the processor: others may be using it, too."""
    times = []
    for _ in range(ROUNDS):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return min(times)


def plan(design: Design) -> CellPlan:
    """A plan for all hosts, looked at once when all are in."""
    controls = HOSTS // 2 if design is Design.TWO_ARMS else 0
    hosts = HOSTS - controls
    return CellPlan(design=design, margin=MARGIN, n_max=hosts, n_max_control=controls, looks=(hosts,), sigma=0.03)


def main() -> int:
    """Measure and compare with the limits."""
    generator = np.random.default_rng(SEED)
    runs = generator.lognormal(0, 0.03, (2, CELLS, HOSTS, 1, RUNS // 2))
    missed = 0
    print(f"seed {SEED}; {CELLS} cells x {HOSTS} hosts x {RUNS} runs; best of {ROUNDS}")
    changes = host_change(runs[0], runs[1])

    def whole(once: CellPlan) -> object:
        return judge(host_change(runs[0], runs[1]), once, with_bounds=True)

    def one_more(once: CellPlan) -> object:
        """One host more, all cells decided again; bounds for the cell that is looked at."""
        changes[:, -1:] = host_change(runs[0][:, -1:], runs[1][:, -1:])
        judge(changes[:1], once, with_bounds=True)
        return judge(changes, once, with_bounds=False)

    for design in (Design.ABBA, Design.TWO_ARMS):
        once = plan(design)
        for name, call, limit in (("everything", whole, FULL_LIMIT_S), ("one more host", one_more, HOST_LIMIT_S)):
            taken = best(partial(call, once))
            missed += taken > limit
            print(f"{design.value:9} {name:14} {taken * 1e3:8.1f} ms, limit {limit * 1e3:.0f} ms")
    peers: dict[str, Callable[[], object]] = {
        "wilcoxon, normal": lambda: stats.wilcoxon(changes[0] - MARGIN, alternative="less", method="asymptotic"),
        "wilcoxon, exact": lambda: stats.wilcoxon(changes[0] - MARGIN, alternative="less", method="exact"),
        "mannwhitneyu": lambda: stats.mannwhitneyu(changes[0, :500] - MARGIN, changes[0, 500:], alternative="less"),
    }
    for name, call in peers.items():
        print(f"scipy     {name:17} {best(call) * 1e3 * CELLS:8.1f} ms for {CELLS} cells, a p-value and no bound")
    return 1 if missed else 0


def judge(changes: np.ndarray[tuple[int, ...], np.dtype[np.float64]], once: CellPlan, *, with_bounds: bool) -> object:
    """Judge contrasts, or split the hosts into two arms."""
    if once.design is not Design.TWO_ARMS:
        return judge_cells(changes, once, with_bounds=with_bounds)
    half = once.n_max
    return judge_cells(changes[:, :half], once, control=changes[:, half:], with_bounds=with_bounds)


if __name__ == "__main__":
    sys.exit(main())
