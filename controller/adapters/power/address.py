"""Where a host's management controller is, and how it is spoken to."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

from controller.domain.errors import InvalidInput
from controller.domain.printable import printable

REDFISH: Final = "redfish"
IPMI: Final = "ipmi"
_PORTS: Final = {REDFISH: 443, IPMI: 623}
_EXAMPLES: Final = "redfish://bmc.example/redfish/v1/Systems/1 or ipmi://bmc.example"
# Names, IPv4 and IPv6 addresses; none begins like an option of a program.
_HOST: Final = re.compile(r"[A-Za-z0-9:]([-A-Za-z0-9.:]{0,252})")
_PATH: Final = re.compile(r"/redfish/v1/Systems/[-A-Za-z0-9._~%]{1,200}/?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A management controller's place."""

    # `REDFISH` or `IPMI`.
    kind: str
    host: str
    port: int
    # Of the host's system, by Redfish alone.
    path: str

    @property
    def shown(self) -> str:
        """The address as people write it."""
        port = "" if self.port == _PORTS[self.kind] else f":{self.port}"
        return f"{self.kind}://{self.authority_host}{port}{self.path}"

    @property
    def authority_host(self) -> str:
        """The host as it stands in a URL."""
        return f"[{self.host}]" if ":" in self.host else self.host


@dataclass(frozen=True, slots=True, kw_only=True)
class Managed:
    """How a host's management controller is reached. Its text never shows the password."""

    address: Address
    user: str
    password: str = field(repr=False)
    # Redfish alone: whose certificates are trusted, None: public authorities; and whether they are looked at.
    ca_file: Path | None = None
    verify: bool = True


def parse_address(text: str) -> Address:
    """Return what an address says. Raises InvalidInput with what is wrong, without what may be a secret."""
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError as error:
        raise InvalidInput(f"is no address: {error}; write one like {_EXAMPLES}") from error
    if url.scheme not in _PORTS:
        scheme = printable(url.scheme, 20)
        raise InvalidInput(f"must begin with redfish:// or ipmi:// (got {scheme!r}); write one like {_EXAMPLES}")
    if url.username is not None or url.password is not None:
        raise InvalidInput(
            "must not hold a user or a password; write them as kernroll_power_user and kernroll_power_password_file"
        )
    if not _HOST.fullmatch(url.hostname or ""):
        raise InvalidInput(f"names no host; write one like {_EXAMPLES}")
    if url.query or url.fragment:
        raise InvalidInput("must end with its path, without ? and #")
    path = _path(url)
    return Address(kind=url.scheme, host=url.hostname or "", port=port or _PORTS[url.scheme], path=path)


def _path(url: SplitResult) -> str:
    if url.scheme == IPMI:
        if url.path not in ("", "/"):
            raise InvalidInput("has a path, which IPMI does not know; write ipmi://HOST or ipmi://HOST:PORT")
        return ""
    if not _PATH.fullmatch(url.path):
        raise InvalidInput("must name the host's system, as in redfish://bmc.example/redfish/v1/Systems/1")
    return url.path.rstrip("/")
