"""What the firmware was given to boot once: written down before anything is done, and gone once nothing is left."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final

from agent.boot.host import Host
from agent.boot.values import BrokenHost

FILE: Final = "/var/lib/kernroll-boot/firmware.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """One entry of the firmware's, and the files that it starts."""

    # Of the firmware's entry.
    number: int
    # The entry itself, in hex.
    option: str
    # The loader's id of the entry that it stands for.
    entry: str
    # Where the EFI system partition was mounted.
    place: str
    # The copies' digests by their names.
    copies: Mapping[str, str]


def read(host: Host) -> Given | None:
    """Return it; None when nothing is left of anything."""
    text = host.text(FILE)
    if text is None:
        return None
    try:
        said = json.loads(text)
        texts = {name: str(said[name]) for name in ("option", "entry", "place")}
        copies = {str(name): str(one) for name, one in said["copies"].items()}
        bytes.fromhex(texts["option"])
        return Given(number=int(said["number"]), copies=copies, **texts)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BrokenHost(
            f"{FILE} cannot be read ({error}): see what `efibootmgr` says of “kernroll trial”, remove that entry and "
            "BootNext, and then this file"
        ) from error


def keep(host: Host, given: Given) -> None:
    """Write it down."""
    host.write(FILE, json.dumps(asdict(given), indent=1) + "\n")


def forget(host: Host) -> None:
    """Nothing is left of it."""
    if host.path(FILE).exists():
        host.remove(FILE)
