"""What a host's rehearsal has come to, from what the controller knows of the host: pure, and in words."""

from dataclasses import dataclass
from typing import Final

from controller.views.models import Epoch, HostView
from controller.words import duration_text

PROVEN: Final = "proven"
NOT_REBOOTED: Final = "not rebooted"
# It came back, and not as it should.
FAILED: Final = "not proven"
LOST: Final = "not back"
# Its turn did not come, because of another host.
NOT_BEGUN: Final = "not begun"
BROKEN_OFF: Final = "broken off"


@dataclass(frozen=True, slots=True, kw_only=True)
class RehearsalView:
    """What became of one host."""

    name: str
    # One of the words above.
    outcome: str
    # From the beginning of its turn to its end; 0 when it had none.
    seconds: float = 0.0
    # When it was proven, by the host's clock, and by what it boots; None and empty when it was not.
    proven_at: Epoch | None = None
    boots_by: str = ""
    # Why it is not proven, and what to do; empty when it is.
    sentence: str = ""

    @property
    def is_trouble(self) -> bool:
        """Whether a host went down and did not come back as it should: the next might not, either."""
        return self.outcome in (FAILED, LOST)


def objection(name: str, host: HostView | None) -> str:
    """Return why the host is not rebooted now, and what to do; empty when nothing speaks against it."""
    if host is None:
        return f"it has not enrolled: `kernroll hosts enroll -i INVENTORY --limit {name}`"
    if host.rollout:
        return (
            f"{host.rollout} holds it, at {host.step}: wait until that has ended (`kernroll rollout status "
            f"{host.rollout} --watch`)"
        )
    if not host.connected:
        return "its agent is not connected, so that nobody would hear it come back: `systemctl status kernroll-agent`"
    if host.boot is None:
        return f"it does not tell what it boots: `kernroll hosts enroll -i INVENTORY --limit {name}`"
    return ""


def settled(before: HostView, now: HostView) -> RehearsalView | None:
    """Return the outcome; None while there is none yet. `before` is the host as it was when its turn began.

    A proof counts when it is another than before and was told under another boot: the host's clock and ours differ.
    """
    boot = now.boot
    if boot is None or not is_back(before, now):
        return None
    if boot.rehearsal_failed:
        return RehearsalView(name=now.name, outcome=FAILED, sentence=f"it came back, and {boot.rehearsal_failed}")
    known = None if before.boot is None else before.boot.proven_at
    if boot.proven_at is None or boot.proven_at == known:
        return None
    return RehearsalView(name=now.name, outcome=PROVEN, proven_at=boot.proven_at, boots_by=boot.boots_by)


def overdue(before: HostView, now: HostView, *, wait_s: float, said: str) -> RehearsalView:
    """Return the outcome of a host that was waited for in vain; `said` is what the way to it said, if anything."""
    if is_back(before, now):
        told = (
            "it came back, and nothing says that its rehearsal was passed: on it, `systemctl status kernroll-guard` "
            "says why, and `kernroll-boot status` what is known"
        )
        return RehearsalView(name=now.name, outcome=FAILED, sentence=told)
    told = (
        f"not heard of under another boot for {duration_text(wait_s)}: look at its console; once it runs, "
        "`kernroll-boot status` says what boots. Give it no kernel until a rehearsal has passed"
    )
    return RehearsalView(name=now.name, outcome=LOST, sentence=f"{told} (its reboot said: {said})" if said else told)


def is_back(before: HostView, now: HostView) -> bool:
    """Tell whether the host was heard of under another boot."""
    return now.facts.boot_id != before.facts.boot_id
