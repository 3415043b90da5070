"""Who is calling: the URI names of the client certificate, checked by gRPC against our authority."""

import hashlib
from typing import Any
from urllib.parse import unquote

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from controller.domain.caller import Caller
from controller.domain.errors import Permanent

_ROLES = ("agent", "operator")


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
