"""Simulated samples for `kernroll gate judge`: what deploy/examples/gate/runs.jsonl was made with.

    python tests/support/gate_samples.py --seed 7 > deploy/examples/gate/runs.jsonl

Nothing in them was measured. Ten matched pairs a stratum; every host has its own speed, every boot its own offset, and
between the first and the second measurement everything drifts by 2 %. On x86_64 the new kernel is 2.4 % faster, on
arm64 4 % slower.
"""

import argparse
import json
import math
import random
from collections.abc import Iterator, Mapping
from typing import Any

EFFECTS: Mapping[str, float] = {"x86_64/vm": -0.024, "arm64/vm": 0.04}
PAIRS = 10
RUNS = 4
DRIFT = 0.02
HOST_SD, BOOT_SD, RUN_SD = 0.05, 0.004, 0.01
# Metric -> (unit, typical value, whether the kernel moves it).
METRICS: Mapping[str, tuple[str, float, bool]] = {
    "kernel_build.system_time": ("s", 67.75, True),
    "kernel_build.user_time": ("s", 512.0, False),
}


def samples(seed: int, effects: Mapping[str, float] = EFFECTS, pairs: int = PAIRS) -> Iterator[dict[str, Any]]:
    """Yield simulated samples, one dict a line; the same seed gives the same ones."""
    rng = random.Random(seed)
    for stratum, effect in effects.items():
        for pair in range(1, pairs + 1):
            for arm in ("treated", "control"):
                host = f"{stratum[:3]}-{arm[0]}{pair:02}"
                speeds = {metric: rng.gauss(0, HOST_SD) for metric in METRICS}
                for position in ("first", "second"):
                    second = position == "second"
                    moved = {metric: rng.gauss(0, BOOT_SD) + DRIFT * second for metric in METRICS}
                    for run in range(1, RUNS + 1):
                        for metric, (unit, typical, kernel_moves) in METRICS.items():
                            shift = math.log1p(effect) if kernel_moves and second and arm == "treated" else 0.0
                            log = speeds[metric] + moved[metric] + shift + rng.gauss(0, RUN_SD)
                            yield {
                                "host": host,
                                "stratum": stratum,
                                "arm": arm,
                                "pair": f"{stratum[0]}{pair:02}",
                                "position": position,
                                "run": run,
                                "metric": metric,
                                "value": round(typical * math.exp(log), 3),
                                "unit": unit,
                            }


def main() -> None:
    """Print the samples of a seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=7)
    for sample in samples(parser.parse_args().seed):
        print(json.dumps(sample, separators=(",", ":")))


if __name__ == "__main__":
    main()
