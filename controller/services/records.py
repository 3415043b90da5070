"""What the store port takes and gives."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from controller.domain.hosts.host import Host
from controller.domain.record.effects import Effect
from controller.domain.record.events import Event
from controller.gate.ledger import Boot, Judgement

# A stratum's ledger is read for this many hosts that were measured last, and of each metric for this many of their
# newest boots: an A/A rollout and what followed it. More would tell no more about the noise.
MOST_LEDGER_HOSTS = 500
MOST_LEDGER_BOOTS = 6
# Beyond this it is cut off whatever it is.
MOST_LEDGER_ROWS = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """One event of the log."""

    # Counts up over the whole log.
    number: int
    # "rollout/UID", "attempt/UID/HOST" or "fleet".
    stream: str
    # Counts from 1 within the stream.
    revision: int
    event: Event


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """What one decision or one observation writes."""

    stream: str
    # The stream's revision before: compare-and-swap.
    expected_revision: int
    events: tuple[Event, ...]
    # None leaves the stream's outstanding effects; a tuple replaces them.
    effects: tuple[Effect, ...] | None = None
    # Set when an agent's report is being recorded: the same report is never recorded twice.
    report_id: str = ""
    # What this teaches the gate about the noise of measurements.
    boots: tuple[Boot, ...] = ()
    judgements: tuple[Judgement, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """Everything a controller needs to continue."""

    events: tuple[Logged, ...] = ()
    hosts: Mapping[str, Host] = field(default_factory=dict)
    effects: tuple[Effect, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenGrant:
    """A join token as it is kept."""

    # sha256 of the secret, in hex.
    secret_digest: str
    uses: int
    # Seconds since the Unix epoch.
    expires_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    """A host's identity as it is kept."""

    host: str
    # sha256 of the public key (SubjectPublicKeyInfo, DER), in hex.
    key_digest: str
    serial: str
    not_after: float


def unusable_token() -> str:
    """Say that a join token does not let anybody in."""
    return "the join token is unknown, used up or expired: make one with `kernroll controller token create`"


def taken(host: str) -> str:
    """Say that a name belongs to another key."""
    return (
        f"{host} is enrolled with another key; two machines cannot share a name. When it is this machine, made anew: "
        f"`kernroll hosts forget {host}`, then enroll again"
    )


def not_enrolled(host: str) -> str:
    """Say that a certificate is not welcome any more."""
    return (
        f"{host} is not enrolled with this key: it was forgotten, or its name belongs to another machine by now; "
        "enroll it again with a new join token (`kernroll controller token create`)"
    )
