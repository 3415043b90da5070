"""Join tokens and enrollment: a secret that is kept only as its digest, exchanged for a certificate."""

import hashlib
import re
import secrets
from typing import Protocol

from controller.domain.errors import InvalidInput
from controller.services.ports import Clock, Store
from controller.services.records import Enrolled, TokenGrant

_MOST_USES = 10_000
_LONGEST_S = 30 * 86_400.0
# A certificate's common name holds 64 characters.
_HOST_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,62}[A-Za-z0-9])?")


class Signed(Protocol):
    """A signed agent certificate."""

    @property
    def certificate_pem(self) -> bytes: ...
    @property
    def key_digest(self) -> str: ...
    @property
    def serial(self) -> str: ...
    @property
    def not_after(self) -> float: ...


class Signer(Protocol):
    """What enrollment needs of the certificate authority."""

    @property
    def certificate_pem(self) -> bytes: ...

    def sign_agent(self, request_pem: bytes, host: str, now: float) -> Signed:
        """Sign an agent's request; raises InvalidInput for a bad one."""

    def token(self, secret: str) -> str:
        """Return the token that carries the secret and pins the authority."""


class Enrollment:
    """Grants tokens and redeems them."""

    def __init__(self, store: Store, signer: Signer, clock: Clock) -> None:
        self._store = store
        self._signer = signer
        self._clock = clock

    async def create_token(self, uses: int, valid_s: float) -> str:
        """Return a new join token for `uses` hosts, valid for `valid_s` seconds."""
        if not 1 <= uses <= _MOST_USES:
            raise InvalidInput(f"a join token is good for 1 to {_MOST_USES} hosts (got {uses})")
        if not 0 < valid_s <= _LONGEST_S:
            raise InvalidInput(f"a join token is valid for at most {_LONGEST_S:.0f} s (got {valid_s:g})")
        secret = secrets.token_urlsafe(24)
        grant = TokenGrant(secret_digest=_digest(secret), uses=uses, expires_at=self._clock.now() + valid_s)
        await self._store.create_token(grant)
        return self._signer.token(secret)

    async def enroll(self, secret: str, host: str, request_pem: bytes) -> Signed:
        """Return the host's certificate; the token is used up by one only if everything succeeds."""
        check_host_name(host)
        now = self._clock.now()
        signed = self._signer.sign_agent(request_pem, host, now)
        enrolled = Enrolled(host=host, key_digest=signed.key_digest, serial=signed.serial, not_after=signed.not_after)
        await self._store.redeem_token(_digest(secret), enrolled, now)
        return signed

    @property
    def authority_pem(self) -> bytes:
        """The certificate that agents verify this controller by."""
        return self._signer.certificate_pem


def check_host_name(host: str) -> None:
    """Raise InvalidInput for a name that cannot stand in a certificate, a command id and a file name."""
    if not _HOST_NAME.fullmatch(host):
        raise InvalidInput(
            f"{host[:80]!r} is no host name: 1 to 64 letters, digits, dots, dashes and underscores, "
            "a letter or digit first and last"
        )


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
