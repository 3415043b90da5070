"""What the agent costs an idle guest of the lab on an emulated processor, beside Debian's node exporter in it."""

import asyncio
import inspect
import json
import math
import tempfile
from pathlib import Path
from typing import Any

import guest_usage
import process_usage
from faulty_guest import FaultyGuest, faulty_guest
from idle_subjects import HEARTBEAT_S, SCRAPE_INTERVAL_S
from process_usage import Snapshot, Switches, Usage, usage

KERNEL = "6.18.15"
AGENT = "kernroll-agent"
EXPORTER = f"node exporter, scraped every {SCRAPE_INTERVAL_S:g} s"
_SEED = "/run/kernroll/seed"
_RESULT = "/run/guest-usage.json"
# Settling, and what an emulated processor takes to start Python and the exporter.
_GRACE_S = 180.0
# One command in a guest may take two minutes.
_WAIT_S = 100
_WAIT = f"for i in $(seq {_WAIT_S // 5}); do test -e {_RESULT} && break; sleep 5; done; cat /run/usage.log"


def measure(binary: Path, seconds: float) -> dict[str, Usage]:
    """Boot a guest, measure agent and exporter over the same time, and return what they cost. Raises SystemExit."""
    with tempfile.TemporaryDirectory(prefix="kernroll-bench-") as name:
        return asyncio.run(_measured(Path(name), binary.read_bytes(), seconds))


async def _measured(directory: Path, exporter: bytes, seconds: float) -> dict[str, Usage]:
    seed = {
        "exporter": exporter,
        "guest_usage.py": inspect.getsource(guest_usage).encode(),
        "process_usage.py": inspect.getsource(process_usage).encode(),
    }
    async with faulty_guest(directory, KERNEL, seed=seed, heartbeat_s=HEARTBEAT_S) as guest:
        await _told(guest, f"cp {_SEED}/exporter /run/exporter && chmod 700 /run/exporter")
        await _told(
            guest,
            f"python3 {_SEED}/guest_usage.py /run/exporter {seconds} {_RESULT} </dev/null >/run/usage.log 2>&1 &",
        )
        for _ in range(math.ceil((seconds + _GRACE_S) / _WAIT_S)):
            await _told(guest, _WAIT)
        found = json.loads(await _told(guest, f"cat {_RESULT}"))
    return {AGENT: usage(_snapshots(found["agent"])), EXPORTER: usage(_snapshots(found["exporter"]))}


async def _told(guest: FaultyGuest, command: str) -> str:
    """Return what a shell command printed in the guest. Raises SystemExit when it or the measurement failed."""
    status, printed = await guest.hands.ask("shell", command)
    if status or "Traceback" in printed:
        raise SystemExit(f"in the guest: {command}\n{printed}")
    return str(printed)


def _snapshots(documents: list[dict[str, Any]]) -> list[Snapshot]:
    found = []
    for each in documents:
        threads = {int(thread): Switches(**both) for thread, both in each["threads"].items()}
        found.append(Snapshot(**{**each, "threads": threads}))
    return found
