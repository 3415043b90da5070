"""Whose fault a silence is: this host's network, or a controller that is away.

Whoever answers a connection, be it by refusing it, proves that packets come and go. So the machine of a controller that
is down but up itself, a name server and any witness that is named count; a host that reaches none of them has no
network of its own.
"""

import errno
import re
import socket
import tomllib
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Final

from agent.boot.host import Host

_AGENT_SETTINGS: Final = "/etc/kernroll/agent.toml"
# `witnesses = ["10.0.0.9:22", …]`: what else to knock at.
_SETTINGS: Final = "/etc/kernroll/boot.toml"
_NAME_SERVER: Final = re.compile(r"^[ \t]*nameserver[ \t]+(\S+)", re.MULTILINE)
_PORT: Final = re.compile(r"[0-9]{1,5}")
_TIMEOUT_S: Final = 5.0
_DNS: Final = 53
_MOST: Final = 16


class Standing(StrEnum):
    """How a host stands to the world."""

    CONTROLLER_THERE = "the controller accepts connections"
    CONTROLLER_AWAY = "the network works and the controller is away"
    NO_NETWORK = "nobody answers: neither the controller nor a witness"


class Knock(StrEnum):
    """What an address does with a connection."""

    OPEN = "accepts"
    REFUSED = "refuses"
    SILENT = "does not answer"


def standing(host: Host) -> Standing:
    """Look around; takes some seconds for each address that does not answer."""
    met = False
    for address in _controllers(host):
        match knock(*address):
            case Knock.OPEN:
                return Standing.CONTROLLER_THERE
            case Knock.REFUSED:
                met = True
            case Knock.SILENT:
                pass
    met = met or any(knock(*one) is not Knock.SILENT for one in _witnesses(host))
    return Standing.CONTROLLER_AWAY if met else Standing.NO_NETWORK


def knock(name: str, port: int, timeout_s: float = _TIMEOUT_S) -> Knock:
    """Connect, and hang up."""
    try:
        with socket.create_connection((name, port), timeout=timeout_s):
            return Knock.OPEN
    except OSError as error:
        # Of this machine itself nobody learns anything about its network.
        return Knock.REFUSED if error.errno == errno.ECONNREFUSED and not _is_here(name) else Knock.SILENT


def _is_here(name: str) -> bool:
    return name in ("localhost", "::1") or name.startswith("127.")


def _controllers(host: Host) -> Iterator[tuple[str, int]]:
    found = _toml(host, _AGENT_SETTINGS).get("controller", [])
    yield from _addresses([found] if isinstance(found, str) else found)


def _witnesses(host: Host) -> Iterator[tuple[str, int]]:
    yield from _addresses(_toml(host, _SETTINGS).get("witnesses", []))
    for server in _NAME_SERVER.findall(host.text("/etc/resolv.conf") or "")[:_MOST]:
        if not _is_here(server):
            yield server, _DNS


def _addresses(texts: object) -> Iterator[tuple[str, int]]:
    for text in list(texts)[:_MOST] if isinstance(texts, Iterable) and not isinstance(texts, str) else []:
        name, _, port = str(text).rpartition(":")
        if name and _PORT.fullmatch(port):
            yield name.strip("[]"), int(port)


def _toml(host: Host, name: str) -> dict[str, object]:
    try:
        return tomllib.loads(host.text(name) or "")
    except ValueError:
        return {}
