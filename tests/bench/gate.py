"""The gate's speed, beside bare scipy calls on the same numbers in the same run: `python tests/bench/gate.py`.

Exit code 1 when a limit is missed. One core: numpy is kept from using more before it is imported.
"""

import os

os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})

import sys
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

import numpy as np
from scipy import stats
from trial_measured import BUILD, measured

from controller.gate.statistics.cells import CellPlan, Design, judge_cells
from controller.gate.statistics.contrasts import host_change
from controller.gate.trial.blocks import blocks_of
from controller.gate.trial.judge import judge_trial
from controller.gate.trial.model import Measurement, TrialPlan

SEED = 20260218
CELLS, HOSTS, RUNS = 100, 1000, 8
FULL_LIMIT_S, HOST_LIMIT_S = 2.0, 0.050
ROUNDS = 5
# At a wave's end: hosts, how much faster all at once must be than host by host, and what twice the hosts may cost.
WAVE_HOSTS, WAVE_GAIN, WAVE_GROWTH = 10_000, 2.0, 3.0
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
    missed += wave()
    return 1 if missed else 0


def wave() -> int:
    """Judge a wave's end with very many hosts, beside the same changes taken host by host; return the limits missed."""
    runs = measured(Design.PAIRS, 0.0, hosts=WAVE_HOSTS // 2)
    plan = TrialPlan(design=Design.PAIRS, metrics=(BUILD,))
    begin = time.process_time()
    one_by_one(runs)
    before_s = time.process_time() - begin
    begin = time.process_time()
    blocks_of(Design.PAIRS, BUILD, runs, plan.runs)
    after_s = time.process_time() - begin
    begin = time.process_time()
    judge_trial(plan, runs)
    whole_s = time.process_time() - begin
    half = [one for one in runs if int(one.host.rpartition("-")[2]) < WAVE_HOSTS // 4]
    begin = time.process_time()
    judge_trial(plan, half)
    half_s = time.process_time() - begin
    gain, growth = before_s / after_s, whole_s / half_s
    print(f"wave      {WAVE_HOSTS} hosts, {len(runs)} runs of one metric:")
    print(f"          changes, host by host {before_s:6.2f} s; all at once {after_s:6.2f} s: {gain:.1f} times")
    print(f"          judged in {whole_s:.2f} s, half of the hosts in {half_s:.2f} s: {growth:.1f} times for twice")
    return (gain < WAVE_GAIN) + (growth > WAVE_GROWTH)


def one_by_one(runs: list[Measurement]) -> list[float]:
    """Take every host's change by arrays of its own: what `blocks_of` does for all hosts at once."""
    by_host: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for one in runs:
        by_host[one.host][one.position].append(one.value or np.nan)
    return [
        float(host_change(*(np.array([[own[place]]]) for place in (1, 2)))[0]) for _, own in sorted(by_host.items())
    ]


def judge(changes: np.ndarray[tuple[int, ...], np.dtype[np.float64]], once: CellPlan, *, with_bounds: bool) -> object:
    """Judge contrasts, or split the hosts into two arms."""
    if once.design is not Design.TWO_ARMS:
        return judge_cells(changes, once, with_bounds=with_bounds)
    half = once.n_max
    return judge_cells(changes[:, :half], once, control=changes[:, half:], with_bounds=with_bounds)


if __name__ == "__main__":
    sys.exit(main())
