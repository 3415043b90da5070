"""Who is calling: the URI names of the client certificate, checked by gRPC against our authority; who is sent away."""

import hashlib
from collections.abc import Callable
from typing import Any, NoReturn
from urllib.parse import unquote

import grpc
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from controller.domain.caller import Caller
from controller.domain.errors import Permanent

_log = structlog.get_logger("agent_service")

_ROLES = ("agent", "operator")
# The same of the same host is logged once in this time, and of so many hosts: who knocks without end fills no log.
_REFUSAL_PAUSE_S = 60.0
_MOST_REFUSALS = 100


def names_of(context: Any, role: str) -> tuple[str, ...]:
    """Return the caller's names in a role, from its certificate; empty without a certificate."""
    assert role in _ROLES
    prefix = f"kernroll://{role}/".encode()
    entries = context.auth_context().get("x509_subject_alternative_name", ())
    # A name in a URI is ASCII; what is not stands there in percent.
    return tuple(unquote(entry.removeprefix(prefix).decode()) for entry in entries if entry.startswith(prefix))


def key_digest_of(context: Any) -> str:
    """Return the sha256 of the caller's public key (SubjectPublicKeyInfo, DER), in hex; empty without a certificate."""
    for pem in context.auth_context().get("x509_pem_cert", ()):
        key = x509.load_pem_x509_certificate(pem).public_key()
        spki = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        return hashlib.sha256(spki).hexdigest()
    return ""


def operator_of(context: Any, *, plaintext: bool) -> Caller:
    """Return the operator who calls; raises Permanent when the caller is none."""
    if plaintext:
        return Caller("operator")
    names = names_of(context, "operator")
    if not names:
        raise Permanent("this call needs an operator's certificate; agents may not make it")
    return Caller(names[0])


class Refusals:
    """Ends calls of hosts that are not let in, and says so in the log."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        # (host, why) -> when it was logged.
        self._logged: dict[tuple[str, str], float] = {}

    async def refuse(self, context: Any, code: grpc.StatusCode, host: str, why: str) -> NoReturn:
        """Abort the call with a sentence."""
        self.note(host, why)
        await context.abort(code, why)
        raise AssertionError("abort returned")

    def note(self, host: str, why: str) -> None:
        """Log it, unless it was just now or there are too many."""
        now = self._now()
        self._logged = {one: at for one, at in self._logged.items() if now - at < _REFUSAL_PAUSE_S}
        if (host, why) not in self._logged and len(self._logged) < _MOST_REFUSALS:
            self._logged[host, why] = now
            _log.warning("refused", host=host, why=why)
