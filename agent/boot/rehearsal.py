"""The proof that a host comes back: its present kernel, booted once by the way that a new one would be.

What a loader says it will do and what it does are two things: a disk that it cannot write shows only in the next boot.
The proof is of this loader and this firmware, and is lost when either changes.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import Final

from agent.boot.host import Host
from agent.boot.port import Loader
from agent.boot.values import BootError, BrokenHost

_FILE: Final = "/var/lib/kernroll-boot/rehearsal.json"
_FIRMWARE: Final = ("bios_vendor", "bios_version", "bios_date")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """One that has begun, and may have been passed."""

    # The boot in which it was begun, and the kernel that was to boot again.
    boot_id: str
    release: str
    # What the host boots by: "loader 1f…, firmware …".
    boots_by: str
    # When the host was back, in seconds since the Unix epoch; None until then.
    passed_at: float | None = None
    # Why it was not passed; empty while it may be.
    failed: str = ""

    @property
    def is_pending(self) -> bool:
        """Whether the boot that shows it is still to come."""
        return self.passed_at is None and not self.failed


def boots_by(host: Host, loader: Loader) -> str:
    """Return the loader's and the firmware's identity in words. Raises BootError when the loader is not found."""
    digest = hashlib.sha256()
    for path in loader.images():
        digest.update(path.relative_to(host.root).as_posix().encode())
        digest.update(path.read_bytes())
    known = (host.text(f"/sys/class/dmi/id/{name}") for name in _FIRMWARE)
    firmware = " ".join(one.strip() for one in known if one and one.strip())
    once = ", which boots once" if loader.read().one_shot == "firmware" else ""
    return f"loader {digest.hexdigest()[:12]}, firmware {firmware or 'unknown'}{once}"


def read(host: Host) -> Rehearsal | None:
    """Return the newest rehearsal; None when there was none."""
    text = host.text(_FILE)
    if text is None:
        return None
    try:
        found = Rehearsal(**json.loads(text))
        if not isinstance(found.passed_at, float | int | None):
            raise TypeError("passed_at is no time")
        return found
    except (ValueError, TypeError) as error:
        raise BrokenHost(f"{_FILE} cannot be read ({error}): remove it and rehearse again") from error


def keep(host: Host, rehearsal: Rehearsal) -> None:
    """Write it down."""
    host.write(_FILE, json.dumps(asdict(rehearsal), indent=1) + "\n")


def give_up(host: Host, why: str) -> None:
    """Let a rehearsal that is under way count no more, if there is one."""
    known = read(host)
    if known is not None and known.is_pending:
        keep(host, replace(known, failed=why))


def require(host: Host, loader: Loader) -> None:
    """Raise BootError unless it is proven that this host comes back, as it is now."""
    found = read(host)
    if found is not None and found.failed:
        raise BootError(f"the rehearsal failed: {found.failed}. Mend that, and `kernroll-boot rehearse`")
    if found is None or found.passed_at is None:
        raise BootError("it is not proven that this host comes back: `kernroll-boot rehearse`, reboot, and once more")
    if (now := boots_by(host, loader)) != found.boots_by:
        raise BootError(
            f"what was proven of this host was of {found.boots_by}, and it boots by {now} now: rehearse again"
        )
