"""Who is calling: the URI names of the client certificate, checked by gRPC against our authority."""

from typing import Any

from controller.domain.errors import Permanent

_ROLES = ("agent", "operator")


def names_of(context: Any, role: str) -> tuple[str, ...]:
    """Return the caller's names in a role, from its certificate; empty without a certificate."""
    assert role in _ROLES
    prefix = f"kernroll://{role}/".encode()
    entries = context.auth_context().get("x509_subject_alternative_name", ())
    return tuple(entry.removeprefix(prefix).decode() for entry in entries if entry.startswith(prefix))


def operator_of(context: Any, *, plaintext: bool) -> str:
    """Return the operator's name; raises Permanent when the caller is none."""
    if plaintext:
        return "operator"
    names = names_of(context, "operator")
    if not names:
        raise Permanent("this call needs an operator's certificate; agents may not make it")
    return names[0]
