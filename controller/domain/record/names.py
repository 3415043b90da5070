"""The names that the log and the wire know: streams, the aggregates they are of, and commands. They never change.

A stream is "fleet", "rollout/UID" or "attempt/UID/HOST". A command is "UID/HOST/[rROUND.][d.]LEG.STEP[-TASK].TRIES"
for a host's step, "UID/HOST/power-cycle" for the one time that its power is cut, and "UID//check-WAVE.NUMBER.NAME" for
a check: whoever makes a decision again makes the same name.
"""

from dataclasses import dataclass

from controller.domain.record.journey import Step

FLEET_STREAM = "fleet"
_UNCORDON = ".uncordon"


def rollout_stream(uid: str) -> str:
    """Name a rollout's own stream."""
    return f"rollout/{uid}"


def attempt_stream(uid: str, host: str) -> str:
    """Name the stream of one host's attempt."""
    return f"attempt/{uid}/{host}"


@dataclass(frozen=True, slots=True)
class Key:
    """Names one aggregate: a rollout (host empty), one host's attempt in it, or the fleet (both empty)."""

    uid: str = ""
    host: str = ""

    @property
    def stream(self) -> str:
        """The aggregate's stream in the event log."""
        if not self.uid:
            return FLEET_STREAM
        return attempt_stream(self.uid, self.host) if self.host else rollout_stream(self.uid)


FLEET = Key()


def key_of_stream(stream: str) -> Key:
    """Return the aggregate a stream belongs to."""
    if stream == FLEET_STREAM:
        return FLEET
    kind, _, rest = stream.partition("/")
    uid, _, host = rest.partition("/")
    assert kind in ("rollout", "attempt"), stream
    return Key(uid, host)


def key_of_command(command_id: str) -> Key:
    """Return the aggregate that decided a command; of a name that is none, one that does not exist."""
    uid, _, rest = command_id.partition("/")
    return Key(uid, rest.partition("/")[0])


def step_command(
    key: Key, step: Step, leg: int, tries: int, *, task: int = 0, of_round: int = 0, drill: bool = False
) -> str:
    """Name a host's step: of a measured leg, the task's number from 0, of rounds after the first and after a drill."""
    of_task = f"{step}-{task + 1}" if task else str(step)
    later = f"r{of_round + 1}." if of_round else ""
    after_drill = "d." if drill else ""
    return f"{key.uid}/{key.host}/{later}{after_drill}{leg}.{of_task}.{tries}"


def check_command(uid: str, wave: int, number: int, check: str) -> str:
    """Name the asking of a check, of a wave counted from 0."""
    return f"{uid}//check-{wave + 1}.{number}.{check}"


def leg_of_command(command_id: str) -> str:
    """Return what a step's name shares with all of its leg: all but the step and its number."""
    return command_id.rsplit(".", 2)[0]


def cancelling(command_id: str) -> str:
    """Name the command that takes another one back."""
    return f"{command_id}.cancel"


def uncordoning(command_id: str) -> str:
    """Name the command that puts a host back into service, by the one that took it out."""
    return f"{command_id}{_UNCORDON}"


def power_cycling(key: Key) -> str:
    """Name the one command of an attempt that cuts the host's power."""
    return f"{key.uid}/{key.host}/power-cycle"


def is_uncordoning(command_id: str) -> bool:
    """Whether a command puts a host back into service."""
    return command_id.endswith(_UNCORDON)


def acknowledging(command_id: str) -> str:
    """Name the command that tells a host its boot was seen, at its verification."""
    return f"{command_id}.acknowledge"
