"""The agent's configuration: TOML, parsed once, errors name the file and the key.

host = "canary-1"                  # the name in the client certificate
controller = "10.0.0.5:7443"       # or a list; tried in order
enroll = "10.0.0.5:7444"           # where the join token is exchanged for a certificate
join_token = "kr1.…"               # or join_token_file
transport = "tcp"                  # or "serial": virtio-serial ports (agent_port, enroll_port) instead
allow_active_swap = false          # true: workloads may run although this host swaps elsewhere too
[labels]
zone = "a"
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from typing import TypeVar

from agent.domain.errors import ConfigError
from agent.domain.host.facts import Platform

DEFAULT_STATE_DIR = "/var/lib/kernroll"
DEFAULT_SERVER_NAME = "kernroll-controller"
DEFAULT_AGENT_PORT = "org.kernroll.agent"
DEFAULT_ENROLL_PORT = "org.kernroll.enroll"

# As certificates and controllers take it.
_LONGEST_HOST = 64

_TEXT_KEYS = ("host", "enroll", "server_name", "join_token", "join_token_file", "state_dir", "platform", "transport")
_PORT = re.compile(r"[0-9]{1,5}")
_MOST_LABELS, _LONGEST_LABEL = 64, 253
_KEYS = {*_TEXT_KEYS, "agent_port", "enroll_port", "controller", "insecure", "allow_active_swap", "labels"}


_Word = TypeVar("_Word", bound=StrEnum)


class Transport(StrEnum):
    """How the controller is reached."""

    TCP = "tcp"
    SERIAL = "serial"  # a virtio-serial port that the hypervisor connects to the controller


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that a person may set."""

    host: str
    transport: Transport
    # Empty with the serial transport.
    controllers: tuple[str, ...]
    # Empty when this host is enrolled already, or insecure, or serial.
    enroll: str
    # The name that the controller's certificate carries, whatever address it is reached at.
    server_name: str
    # Empty when there is none.
    join_token: str = field(repr=False)
    state_dir: Path
    # None: told from the kernel's hints.
    platform: Platform | None
    # Names of virtio-serial ports.
    agent_port: str
    enroll_port: str
    # Plain text; only to loopback addresses.
    insecure: bool
    # Workloads may run although the host swaps elsewhere too; so a class of hosts is allowed what others are not.
    allow_active_swap: bool
    labels: Mapping[str, str]


def load(path: Path) -> Settings:
    """Read and check the file. Raises ConfigError."""
    try:
        # Editors on Windows put a mark before it.
        document = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the configuration: {error.strerror}") from error
    # Beside its own error: bytes that are no text, a number of thousands of digits, lists a thousand deep.
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    try:
        return _parse(document, path)
    except _KeyProblem as problem:
        raise ConfigError(f"{path}: {problem}") from None


class _KeyProblem(Exception):
    """Names the key; load() adds the file."""


def _parse(document: Mapping[str, object], path: Path) -> Settings:
    unknown = sorted(set(document) - _KEYS)
    if unknown:
        raise _KeyProblem(f"unknown key {unknown[0]!r}; known are {', '.join(sorted(_KEYS))}")
    host = _text(document, "host")
    if not host or "/" in host or host != host.strip() or len(host) > _LONGEST_HOST:
        raise _KeyProblem(
            f"host: give the name under which the controller knows this host, of {_LONGEST_HOST} letters at most"
        )
    transport = _choice(document, "transport", Transport) or Transport.TCP
    controllers = _addresses(document)
    insecure = _flag(document, "insecure")
    if transport is Transport.TCP and not controllers:
        raise _KeyProblem('controller: give the controller\'s address, for example "10.0.0.5:7443"')
    if insecure and (transport is not Transport.TCP or not all(_is_loopback(address) for address in controllers)):
        raise _KeyProblem("insecure: plain text is allowed to loopback addresses only; remove it and set join_token")
    return Settings(
        host=host,
        transport=transport,
        controllers=controllers,
        enroll=_text(document, "enroll"),
        server_name=_text(document, "server_name", DEFAULT_SERVER_NAME),
        join_token=_join_token(document, path),
        state_dir=Path(_text(document, "state_dir", DEFAULT_STATE_DIR)),
        platform=_choice(document, "platform", Platform),
        agent_port=_text(document, "agent_port", DEFAULT_AGENT_PORT),
        enroll_port=_text(document, "enroll_port", DEFAULT_ENROLL_PORT),
        insecure=insecure,
        allow_active_swap=_flag(document, "allow_active_swap"),
        labels=_labels(document),
    )


def _text(document: Mapping[str, object], key: str, default: str = "") -> str:
    value = document.get(key, default)
    if not isinstance(value, str):
        raise _KeyProblem(f"{key}: must be a text in quotes")
    return value or default


def _flag(document: Mapping[str, object], key: str) -> bool:
    value = document.get(key, False)
    if not isinstance(value, bool):
        raise _KeyProblem(f"{key}: must be true or false")
    return value


def _choice(document: Mapping[str, object], key: str, kind: type[_Word]) -> _Word | None:
    word = _text(document, key)
    if not word:
        return None
    try:
        return kind(word)
    except ValueError:
        raise _KeyProblem(f"{key}: {word!r} is none of {', '.join(kind)}") from None


def _addresses(document: Mapping[str, object]) -> tuple[str, ...]:
    value = document.get("controller", ())
    addresses = (value,) if isinstance(value, str) else value
    if not isinstance(addresses, list | tuple) or not all(isinstance(each, str) for each in addresses):
        raise _KeyProblem("controller: must be one address or a list of addresses")
    for address in addresses:
        host, _, port = address.rpartition(":")
        if not host or not _PORT.fullmatch(port) or not 0 < int(port) < 1 << 16:
            raise _KeyProblem(f"controller: {address!r} is not HOST:PORT")
    return tuple(addresses)


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _join_token(document: Mapping[str, object], path: Path) -> str:
    token, file = _text(document, "join_token"), _text(document, "join_token_file")
    if token and file:
        raise _KeyProblem("join_token: give either join_token or join_token_file")
    if not file:
        return token
    try:
        # A relative path is meant relative to the configuration, not to where the agent was started.
        return (path.parent / file).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise _KeyProblem(f"join_token_file: cannot read {file}: {error}") from None


def _labels(document: Mapping[str, object]) -> Mapping[str, str]:
    labels = document.get("labels", {})
    if not isinstance(labels, dict) or not all(isinstance(value, str) for value in labels.values()):
        raise _KeyProblem("labels: must be a table of texts")
    if len(labels) > _MOST_LABELS:
        raise _KeyProblem(f"labels: has {len(labels)} labels, a controller takes {_MOST_LABELS}")
    for key, value in labels.items():
        if not all(text.isprintable() and len(text) <= _LONGEST_LABEL for text in (key, value)):
            raise _KeyProblem(
                f"labels: {key[:80]!r}: name and value must be one line of at most {_LONGEST_LABEL} characters"
            )
    return labels
