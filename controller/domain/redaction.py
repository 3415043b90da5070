"""Keeps secrets out of what is told: those that are known by their value, and those that are known by their form."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

HIDDEN: Final = "«hidden»"
# Shorter ones would hide half of every sentence; nobody takes them for secrets.
_SHORTEST: Final = 6
_SECRET_NAMES: Final = re.compile(r"token|passw|secret|private|credential|vault", re.IGNORECASE)
_FORMS: Final = (
    # A private key, its end cut off or not; line breaks may have become spaces or escapes.
    re.compile(
        r"-----BEGIN[A-Z0-9 ]{0,40}PRIVATE KEY-----.*?(?:-----END[A-Z0-9 ]{0,40}PRIVATE KEY-----|\Z)", re.DOTALL
    ),
    # Join tokens.
    re.compile(r"\bkr[0-9]\.[A-Za-z0-9_.~+/=-]{6,}"),
    # What is named a secret: `ansible_become_password: x`, `token = "x y"`, `--password x`, `PASSWORD=x`.
    re.compile(
        r"(?i)(?<![\w-])(?P<name>[\w-]*(?:password|passwd|passphrase|become_pass|secret|token|private_key)[\"']?"
        r"(?:\s*[:=]\s*|(?<=--password) |(?<=--token) ))"
        r"(?:\"[^\"]*\"|'[^']*'|[^\s,;)}\]]+)"
    ),
    # The user's part of an address.
    re.compile(r"(?P<name>\b[a-z][a-z0-9+.-]{0,20}://[^/\s:@]{0,100}:)[^/\s@]{1,200}(?=@)"),
)


def redacted(text: str, secrets: Iterable[str] = ()) -> str:
    """Return the text without these secrets, and without what looks like one."""
    for secret in sorted(set(secrets), key=len, reverse=True):
        if len(secret) >= _SHORTEST:
            text = text.replace(secret, HIDDEN)
    for form in _FORMS:
        text = form.sub(lambda found: f"{found.groupdict().get('name') or ''}{HIDDEN}", text)
    return text


def secrets_of(variables: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the values of variables whose names say that they are secrets."""
    return tuple(
        value for name, value in variables.items() if isinstance(value, str) and value and _SECRET_NAMES.search(name)
    )
