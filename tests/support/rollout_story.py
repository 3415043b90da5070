"""A finished rollout with the evidence that real agents send, for tests of what operators read."""

from collections.abc import Mapping
from dataclasses import replace

from simulated_fleet import UID, Simulation
from simulated_host import OLD_RELEASE

from controller.domain.record.events import Event, RunReported
from controller.domain.record.names import Key, attempt_stream, rollout_stream
from controller.domain.state.attempt import Attempt

_FREE = """\
               total        used        free      shared  buff/cache   available
Mem:            1454{used:>12}{free:>12}           0          21{free:>12}
Swap:        {swap:>7}           0{swap:>12}
"""


def free_text(used: int, *, mounted: bool) -> str:
    """Return what `free -m` prints."""
    swap = 1048575 if mounted else 0
    return _FREE.format(used=used, free=1454 - used - 21, swap=swap)


def telling(event: Event) -> Event:
    """Return a run with everything that an agent tells of it."""
    if not isinstance(event, RunReported):
        return event
    cost = event.values["swap_mount.cost"]
    old = event.release == OLD_RELEASE
    values = {
        **event.values,
        "swap_mount.used_before": 36.0,
        "swap_mount.used_after": 36.0 + cost,
        "swap_mount.swapon_time": 11.5 if old else 7.25,
        "swap_mount.device_size": 2.0**20,
    }
    evidence = {
        "free_before": free_text(36, mounted=False),
        "free_after": free_text(36 + int(cost), mounted=True),
    }
    return replace(event, values=values, evidence=evidence)


class Story(Simulation):
    """A simulation whose runs carry evidence."""

    def record(self, key: Key, event: Event) -> None:
        """Record the event with its evidence."""
        super().record(key, telling(event))

    @property
    def attempts(self) -> Mapping[str, Attempt]:
        """The hosts of the rollout."""
        return self.world.attempts[UID]

    @property
    def events(self) -> list[tuple[str, Event]]:
        """The log as the store gives it."""
        return [(attempt_stream(UID, key.host) if key.host else rollout_stream(UID), event) for key, event in self.log]
