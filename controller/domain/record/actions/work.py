"""What is done on a host to carry out a delivery command, as it is told while it is done.

The log shows it to operators. Nothing is decided by it but when the step's deadline is.
"""

from dataclasses import dataclass
from enum import StrEnum


class WorkKind(StrEnum):
    """What a line tells."""

    WAITS = "waits"  # for the turn of others: nothing is done on the host yet
    BEGAN = "began"
    RUNNING = "running"  # a task that takes long is still at it
    CHANGED = "changed"  # a task has changed something
    FAILED = "failed"  # a task has failed, or the host was not reached
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkLine:
    """One line of a host's work."""

    at: float
    kind: WorkKind
    # The task, the playbook, or the verb of kernroll-boot.
    what: str
    seconds: float = 0.0
    # Why it failed, or what is waited for; empty where there is nothing to say.
    sentence: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkTold:
    """Lines of one command's work that came soon after each other."""

    at: float
    command_id: str
    # "agent" or "ssh".
    way: str
    lines: tuple[WorkLine, ...]
    # Whether the command's step has another deadline from here on: none while others' turn is waited for.
    moves_deadline: bool = False
    deadline: float | None = None

    def deadline_of(self, command_id: str, present: float | None) -> float | None:
        """Return the deadline of a step that waits for this command and had the present one until now."""
        return self.deadline if self.moves_deadline and command_id == self.command_id else present
