"""Lets the simulator loose on a copy of the source in which one rule is broken."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from mutants import ROOT, Mutant

_TIMEOUT_S = 3600.0


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
