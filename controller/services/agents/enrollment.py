"""Join tokens and enrollment: a secret that is kept only as its digest, exchanged for a certificate."""

import hashlib
import secrets
from typing import Protocol

from controller.domain.errors import InvalidInput, Temporary
from controller.domain.fleet.limits import LONGEST_TOKEN_S, MOST_TOKEN_USES
from controller.domain.hosts.host import check_host_name
from controller.services.agents.identity import Identities
from controller.services.ports import Clock, Store
from controller.services.records import Enrolled, TokenGrant

# A host that asks again and again costs no more than this.
_LEAST_RENEWAL_S = 60.0


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

    def sign_operator(self, request_pem: bytes, name: str, now: float) -> Signed:
        """Sign an operator's request; raises InvalidInput for a bad one."""

    def token(self, secret: str) -> str:
        """Return the token that carries the secret and pins the authority."""


class Enrollment:
    """Grants tokens and redeems them, and renews certificates while they live."""

    def __init__(self, store: Store, signer: Signer, clock: Clock) -> None:
        self._store = store
        self._signer = signer
        self._clock = clock
        self.identities = Identities()

    async def load(self) -> None:
        """Know who is enrolled."""
        await self.identities.load(self._store)

    async def create_token(self, uses: int, valid_s: float) -> str:
        """Return a new join token for `uses` hosts, valid for `valid_s` seconds."""
        if not 1 <= uses <= MOST_TOKEN_USES:
            raise InvalidInput(f"a join token is good for 1 to {MOST_TOKEN_USES} hosts (got {uses})")
        if not 0 < valid_s <= LONGEST_TOKEN_S:
            raise InvalidInput(f"a join token is valid for at most {LONGEST_TOKEN_S:.0f} s (got {valid_s:g})")
        secret = secrets.token_urlsafe(24)
        grant = TokenGrant(secret_digest=_digest(secret), uses=uses, expires_at=self._clock.now() + valid_s)
        await self._store.create_token(grant)
        return self._signer.token(secret)

    async def enroll(self, secret: str, host: str, request_pem: bytes) -> Signed:
        """Return the host's certificate; the token is used up by one only if everything succeeds."""
        check_host_name(host)
        now = self._clock.now()
        signed = self._signer.sign_agent(request_pem, host, now)
        enrolled = _enrolled(host, signed)
        await self._store.redeem_token(_digest(secret), enrolled, now)
        self.identities.note(enrolled)
        return signed

    async def renew(self, host: str, key_digest: str, request_pem: bytes) -> Signed:
        """Return a newer certificate for an enrolled host that has proved its key. The key stays as it is."""
        known = self.identities.check(host, key_digest)
        signed = _with_key(self._signer.sign_agent(request_pem, host, self._clock.now()), key_digest, host)
        enrolled = _enrolled(host, signed)
        if enrolled.not_after - known.not_after < _LEAST_RENEWAL_S:
            raise Temporary(f"{host}: renewed less than {_LEAST_RENEWAL_S:.0f} s ago", retry_after_s=_LEAST_RENEWAL_S)
        await self._store.renewed(enrolled)
        self.identities.note(enrolled)
        return signed

    def renew_operator(self, name: str, key_digest: str, request_pem: bytes) -> Signed:
        """Return a newer certificate for an operator who has proved this key. Name and key stay as they are."""
        return _with_key(self._signer.sign_operator(request_pem, name, self._clock.now()), key_digest, name)

    @property
    def authority_pem(self) -> bytes:
        """The certificate that agents verify this controller by."""
        return self._signer.certificate_pem


def _enrolled(host: str, signed: Signed) -> Enrolled:
    return Enrolled(host=host, key_digest=signed.key_digest, serial=signed.serial, not_after=signed.not_after)


def _with_key(signed: Signed, key_digest: str, name: str) -> Signed:
    if signed.key_digest != key_digest:
        raise InvalidInput(
            f"{name}: a renewal is for the key of the present certificate; another key needs a new join token"
        )
    return signed


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
