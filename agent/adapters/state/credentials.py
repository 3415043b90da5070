"""The join token, and the client certificate that enrollment left in the state directory."""

import base64
import hashlib
import json
import ssl
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from agent.adapters.state.durable import replace_file
from agent.adapters.state.state_files import read_regular
from agent.domain.errors import ConfigError, EnrollmentError
from agent.domain.tagged import Unreadable

_PREFIX = "kr1."
_KEY, _CERTIFICATE, _AUTHORITY, _RECORD = "client.key", "client.crt", "ca.crt", "enrollment.json"
# Made by enrollment before the key is used for the first time; where a lab puts the key of a machine made anew.
_PENDING = "pending.key"
# Asks for a certificate of this key: what renewing needs, and no cryptography library with it.
REQUEST = "client.csr"
# Of an agent that enrolled before its record said when to renew.
_LAST_THIRD_S = 30 * 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinToken:
    """What an operator hands to a host: a secret, and the authority it must find at the other end."""

    secret: str = field(repr=False)
    authority_der: bytes

    @property
    def authority_pem(self) -> bytes:
        """Return the pinned authority as PEM."""
        body = base64.encodebytes(self.authority_der).decode().replace("\n", "")
        lines = [body[start : start + 64] for start in range(0, len(body), 64)]
        return "\n".join(["-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""]).encode()


def parse_join_token(text: str) -> JoinToken:
    """Parse `kr1.` and base64url of a JSON object. Raises ConfigError, never repeating the token."""
    if not text.startswith(_PREFIX):
        raise ConfigError(
            f"join_token: does not begin with {_PREFIX!r}; copy the whole token that the controller printed"
        )
    body = text[len(_PREFIX) :]
    try:
        document = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        secret, authority = document["secret"], base64.b64decode(document["ca"], validate=True)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigError("join_token: damaged; copy the whole token that the controller printed") from error
    if not isinstance(secret, str) or not secret or not authority:
        raise ConfigError("join_token: damaged; copy the whole token that the controller printed")
    return JoinToken(secret=secret, authority_der=authority)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """A client certificate with its key, and the authority that the controller's certificate must come from."""

    host: str
    key_pem: bytes = field(repr=False)
    certificate_pem: bytes
    authority_pem: bytes
    # Seconds since the Unix epoch.
    not_after: float
    # When to ask for the next one.
    renew_at: float = 0.0
    # Of the join token it was made for; empty where that is not known.
    token_digest: str = ""


def digest_of(join_token: str) -> str:
    """Return what a join token is known by afterwards; empty without one."""
    return hashlib.sha256(join_token.encode()).hexdigest() if join_token else ""


def renewal_time(now: float, not_after: float) -> float:
    """Return when two thirds of the life of a certificate made now are over."""
    return now + (not_after - now) * 2 / 3


def kept_key(state_dir: Path) -> bytes | None:
    """Return the key that this host has had, whether its enrollment still counts or not; None when it has none.

    Raises EnrollmentError when it cannot be read.
    """
    for name in (_PENDING, _KEY):
        try:
            with suppress(FileNotFoundError):
                return _read(state_dir / name)
        except (OSError, Unreadable) as error:
            raise EnrollmentError(
                f"{state_dir / name}: the kept key is unreadable ({error}): put the file in its place, or remove it, "
                "let an operator run `kernroll hosts forget` for this host, and enroll again"
            ) from error
    return None


def _read(path: Path) -> bytes:
    """Return a file's content. Raises FileNotFoundError, OSError, or Unreadable for what is no file."""
    content = read_regular(path)
    if content is None:
        raise FileNotFoundError(path)
    return content


def keep_key(state_dir: Path, key_pem: bytes) -> None:
    """Keep a key before it is used: an answer that gets lost is asked for again with the same key."""
    replace_file(state_dir / _PENDING, key_pem, mode=0o600)


def verify(state_dir: Path, credentials: Credentials) -> None:
    """Raise EnrollmentError for what no connection can be made with; nothing that is stored changes."""
    with tempfile.TemporaryDirectory(dir=state_dir, prefix=".check-") as folder:
        store(Path(folder), credentials)
        check_files(Path(folder), "the controller's answer")


def store(state_dir: Path, credentials: Credentials) -> None:
    """Write all of it; the record comes last, and only with it do the others count."""
    replace_file(state_dir / _KEY, credentials.key_pem, mode=0o600)
    replace_file(state_dir / _CERTIFICATE, credentials.certificate_pem)
    replace_file(state_dir / _AUTHORITY, credentials.authority_pem)
    record = {"host": credentials.host, "not_after": credentials.not_after, "renew_at": credentials.renew_at}
    if credentials.token_digest:
        record["token_digest"] = credentials.token_digest
    replace_file(state_dir / _RECORD, json.dumps(record).encode())
    (state_dir / _PENDING).unlink(missing_ok=True)


def load(state_dir: Path) -> Credentials | None:
    """Return what enrollment left; None when this host is not enrolled. Raises EnrollmentError when it is damaged."""
    try:
        record = json.loads(_read(state_dir / _RECORD))
        not_after = float(record["not_after"])
        return Credentials(
            host=record["host"],
            key_pem=_read(state_dir / _KEY),
            certificate_pem=_read(state_dir / _CERTIFICATE),
            authority_pem=_read(state_dir / _AUTHORITY),
            not_after=not_after,
            renew_at=float(record.get("renew_at", not_after - _LAST_THIRD_S)),
            token_digest=str(record.get("token_digest", "")),
        )
    except FileNotFoundError:
        return None
    except (
        *(OSError, Unreadable, ValueError, LookupError, TypeError, AttributeError),
        *(OverflowError, RecursionError),
    ) as error:
        raise EnrollmentError(
            f"{state_dir}: the stored certificate is unreadable ({error}); {_again(state_dir)}"
        ) from error


def check(credentials: Credentials, *, host: str, now: float, state_dir: Path) -> None:
    """Raise EnrollmentError when the certificate is for another host or has expired."""
    if credentials.host != host:
        raise EnrollmentError(
            f"the certificate in {state_dir} is for host {credentials.host!r}, the configuration says {host!r}; "
            f"{_again(state_dir)}"
        )
    if credentials.not_after <= now:
        days = (now - credentials.not_after) / 86400
        raise EnrollmentError(
            f"the client certificate expired {days:.1f} days ago; enroll again with a new join token: set join_token "
            "(`kernroll controller token create` prints one) and start the agent again. The host keeps its key and name"
        )


def check_files(folder: Path, where: str) -> None:
    """Raise EnrollmentError that names the file of an enrollment that TLS cannot use."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for name in (_AUTHORITY, _CERTIFICATE):
        try:
            context.load_verify_locations(cadata=(folder / name).read_text("ascii"))
        except (ssl.SSLError, ValueError) as error:
            raise EnrollmentError(f"{where}: {name} is damaged ({_said(error)}); {_again(folder)}") from error
    try:
        # An encrypted key would ask the terminal for its password.
        context.load_cert_chain(folder / _CERTIFICATE, folder / _KEY, password="")
    except (ssl.SSLError, ValueError) as error:
        why = "is not the key of the certificate" if "MISMATCH" in str(error) else f"is damaged ({_said(error)})"
        raise EnrollmentError(
            f"{where}: {_KEY} {why}; restore it from a backup; or remove it and {_RECORD}, let an operator run "
            "`kernroll hosts forget` for this host, and enroll again with a new join token"
        ) from error


def _said(error: Exception) -> str:
    return str(error).partition(" (_ssl")[0]


def _again(state_dir: Path) -> str:
    return f"remove {state_dir / _RECORD} and enroll again with a new join token; the key stays"
