"""The controller's settings: from the command line and the environment, checked once, then fixed."""

import os
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from controller.domain.bounds import digits
from controller.domain.errors import InvalidInput


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where a controller keeps things and listens."""

    # Database, certificate authority, the first operator's credentials.
    state_dir: Path
    # host:port for agents and operators.
    listen: str = "127.0.0.1:7443"
    # host:port for enrollment, without client certificates.
    enroll_listen: str = "127.0.0.1:7444"
    # Directory of direct-boot VMs; None when the fleet has none.
    fleet_dir: Path | None = None
    # Ansible's inventory of the hosts that start from their own disk; None when kernels are brought to none.
    inventory: Path | None = None
    # Playbooks that run at one time, each in processes of its own.
    most_plays: int = 8
    # The kernel store's cache; None takes the user's.
    cache_dir: Path | None = None
    # No TLS and no identities; only on loopback.
    insecure_plaintext: bool = False
    heartbeat_interval_s: float = 10.0
    # An empty database is made although an authority is there, whose hosts another database knew.
    new_database: bool = False
    # A new authority is made although the database knows hosts, which trust another one.
    new_authority: bool = False

    def __post_init__(self) -> None:
        """Raise InvalidInput for settings that cannot work or would be unsafe."""
        if self.state_dir == Path():
            raise InvalidInput("--state-dir: is empty; name a directory")
        for name, address in (("--listen", self.listen), ("--enroll-listen", self.enroll_listen)):
            host, _, port = address.rpartition(":")
            number = digits(port)
            if not host or number is None or number > 65535:
                raise InvalidInput(f"{name}: {address!r} is not HOST:PORT")
            if self.insecure_plaintext and not _is_loopback(host):
                raise InvalidInput(f"{name}: plain text is allowed on a loopback address only (got {host})")
        if self.inventory is not None and not self.inventory.exists():
            raise InvalidInput(f"--inventory: {self.inventory}: no such file or directory")
        if not 2 <= self.most_plays <= 500:
            raise InvalidInput(f"--plays: must be 2 to 500 (got {self.most_plays})")
        if not 0.5 <= self.heartbeat_interval_s <= 3600:
            raise InvalidInput(f"--heartbeat: must be 0.5 s to 3600 s (got {self.heartbeat_interval_s:g})")

    @property
    def client_dir(self) -> Path:
        """Where the first operator's credentials are written."""
        return self.state_dir / "client"


def default_state_dir() -> Path:
    """Return where a controller keeps its state unless told otherwise."""
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "kernroll"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
