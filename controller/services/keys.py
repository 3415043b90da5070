"""What an event is about: a rollout, one host's attempt in it, or the fleet."""

from dataclasses import dataclass

from controller.services.records import FLEET_STREAM, attempt_stream, rollout_stream


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
