"""A program that plays and may be killed: a playbook, an inventory, a host and variables, as JSON on standard input."""

import asyncio
import json
import sys
from pathlib import Path

from controller.adapters.plays.leftovers import end_orphans
from controller.adapters.plays.runner import Plays


async def main() -> None:
    """Play as a controller does when it starts, and print what became of the host."""
    asked = json.load(sys.stdin)
    end_orphans()
    plays = Plays(Path(asked["inventory"]))
    found = await plays.run(asked["playbook"], [asked["host"]], asked["variables"], timeout_s=asked["timeout_s"])
    outcome = found[asked["host"]]
    print(json.dumps({"done": outcome.done, "sentence": outcome.sentence, "answer": dict(outcome.answer)}))


if __name__ == "__main__":
    asyncio.run(main())
