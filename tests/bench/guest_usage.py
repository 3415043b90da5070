"""Runs inside a guest: starts node exporter, fetches its metrics as Prometheus would, and measures it and the agent.

Called with the exporter's program, the seconds to measure and a file for the result: a list of snapshots by name.
"""

import json
import subprocess
import sys
import time
import urllib.request
from dataclasses import asdict
from pathlib import Path

from process_usage import snapshot

_ADDRESS = "127.0.0.1:9100"
_SETTLE_S = 20.0
# Each look takes the one processor away for a moment.
_SNAPSHOT_EVERY_S = 10.0
_SCRAPE_EVERY_S = 15.0


def main() -> None:
    """Measure, and write the result in one go, so that whoever waits for the file finds a whole one."""
    binary, seconds, result = sys.argv[1], float(sys.argv[2]), Path(sys.argv[3])
    with subprocess.Popen(
        [binary, f"--web.listen-address={_ADDRESS}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as exporter:
        pids = {"agent": agent_pid(), "exporter": exporter.pid}
        time.sleep(_SETTLE_S)
        found: dict[str, list[dict[str, object]]] = {name: [] for name in pids}
        end = time.monotonic() + seconds
        look = scrape = time.monotonic()
        while True:
            now = time.monotonic()
            if now >= look:
                for name, pid in pids.items():
                    found[name].append(asdict(snapshot(pid)))
                look += _SNAPSHOT_EVERY_S
                if now >= end:
                    break
            if now >= scrape:
                with urllib.request.urlopen(f"http://{_ADDRESS}/metrics", timeout=30) as answer:
                    answer.read()
                scrape += _SCRAPE_EVERY_S
            time.sleep(max(0.0, min(look, scrape) - time.monotonic()))
        exporter.terminate()
    partial = result.with_suffix(".new")
    partial.write_text(json.dumps(found))
    partial.rename(result)


def agent_pid() -> int:
    """Return the resident agent's process id."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            words = (entry / "cmdline").read_text(errors="replace").split("\0")
            if {"agent.main", "serve"} <= set(words):
                return int(entry.name)
    raise SystemExit("no agent runs here")


if __name__ == "__main__":
    main()
