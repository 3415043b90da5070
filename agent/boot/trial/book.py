"""Where the ledger is kept: one file, replaced as a whole."""

import json
from dataclasses import asdict
from typing import Any, Final

from agent.boot.host import Host
from agent.boot.trial.ledger import Asked, Boot, Cause, End, Ending, Ledger, Trial
from agent.boot.values import BrokenHost

_FILE: Final = "/var/lib/kernroll-boot/boots.json"


def read(host: Host) -> Ledger:
    """Return the ledger, an empty one where there is none. Raises BrokenHost for one that cannot be read."""
    text = host.text(_FILE)
    if text is None:
        return Ledger()
    try:
        return _ledger(json.loads(text))
    except (ValueError, TypeError, KeyError) as error:
        raise BrokenHost(
            f"{_FILE} cannot be read ({error}): move it away; what was booted before is forgotten then"
        ) from error


def write(host: Host, ledger: Ledger) -> None:
    """Bring it to the disk."""
    host.write(_FILE, json.dumps(asdict(ledger), indent=1) + "\n")


def change(host: Host, before: Ledger, after: Ledger) -> Ledger:
    """Write a ledger that has changed, and return it."""
    if after != before:
        write(host, after)
    return after


def _ledger(saved: dict[str, Any]) -> Ledger:
    asked, ending = saved["asked"], saved["ending"]
    return Ledger(
        revision=int(saved["revision"]),
        boots=tuple(Boot(**{**one, "cause": Cause(one["cause"])}) for one in saved["boots"]),
        trial=None if saved["trial"] is None else Trial(**saved["trial"]),
        asked=None if asked is None else Asked(**{**asked, "cause": Cause(asked["cause"])}),
        ending=None if ending is None else Ending(**{**ending, "end": End(ending["end"])}),
        withdrawn=str(saved.get("withdrawn", "")),
    )
