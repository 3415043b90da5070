"""Whether machines that are to join a controller still get on: their boots and consoles tell, not the clock alone.

A machine that is emulated beside other work takes many times as long as an idle one, and is as sound.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from controller.adapters.delivery.hypervisor.processes import vm_status
from controller.words import bytes_text, count_text, duration_text

# A machine that was started so often without joining will not join.
MOST_BOOTS: Final = 5
# However long a machine still gets on.
_LIMIT_IN_WAITS: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """What a machine shows of itself from outside."""

    switched_on: bool
    boots: int
    # What it printed, all boots together.
    console_bytes: int
    # How the newest boot that is over ended; empty when none is.
    ended: str = ""


def sign_of(vm_dir: Path) -> Sign:
    """Look at a machine without changing anything."""
    seen = vm_status(vm_dir)
    over = next((one for one in reversed(seen.delivery.boots) if one.end is not None), None)
    ended = "" if over is None or over.end is None else over.end.value
    return Sign(
        switched_on=seen.switched_on,
        boots=len(seen.delivery.boots),
        console_bytes=sum(file.stat().st_size for file in vm_dir.glob("boots/*/console.log")),
        ended=f"{ended}: {over.console_line}" if over is not None and over.console_line else ended,
    )


@dataclass(slots=True, kw_only=True)
class Joining:
    """What is still waited for. Times are seconds of any clock that does not go back."""

    missing: set[str]
    # A machine that shows nothing new for so long is given up.
    quiet_s: float
    began: float
    # Name -> the newest sign, and when it last changed.
    _seen: dict[str, tuple[Sign, float]] = field(default_factory=dict)
    _boots_before: dict[str, int] = field(default_factory=dict)

    def look(self, now: float, joined: Iterable[str], signs: Mapping[str, Sign]) -> dict[str, str]:
        """Take note of who has joined and what the others show; return why those that are left are given up.

        Empty while one of them still gets on, or all are there.
        """
        self.missing -= set(joined)
        given_up = {name: self._outcome(name, signs[name], now) for name in sorted(self.missing)}
        return given_up if all(given_up.values()) else {}

    def _outcome(self, name: str, sign: Sign, now: float) -> str:
        """Return why a machine is given up; empty while it gets on."""
        before, since = self._seen.get(name, (None, now))
        if sign != before:
            since = now
        self._seen[name] = (sign, since)
        boots = sign.boots - self._boots_before.setdefault(name, max(0, sign.boots - 1))
        shown = f"{count_text(boots, 'boot')} and {bytes_text(sign.console_bytes)} on its console"
        if not sign.switched_on:
            return "is switched off"
        if boots >= MOST_BOOTS:
            return f"was started {boots} times and starts again and again; the last ended: {sign.ended or 'untold'}"
        if now - since > self.quiet_s:
            return f"has shown nothing new for {duration_text(now - since)} after {shown}"
        if now - self.began > _LIMIT_IN_WAITS * self.quiet_s:
            return f"still starts after {duration_text(now - self.began)}: {shown}"
        return ""
