"""Renewing the client certificate while it lives, over the channel of the present session.

The request for it was made when the host enrolled, so that the resident process needs no cryptography library.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio
import structlog

from agent.adapters.state import credentials
from agent.adapters.state.credentials import Credentials
from agent.domain.errors import EnrollmentError, Unreachable
from protos.kernroll.v1 import agent_pb2, agent_pb2_grpc

log = structlog.get_logger(__name__)

_CALL_TIMEOUT_S = 30.0
# The wall clock may be set meanwhile.
_LONGEST_SLEEP_S = 3600.0
_RETRY_S = 600.0
# Hosts that enrolled together do not renew together: each draws from this part of what is left.
_SPREAD = 0.1


@dataclass(slots=True, kw_only=True)
class Renewal:
    """Keeps the certificate in a state directory fresh."""

    state_dir: Path
    # Writes the signing request of an agent that enrolled before there was one.
    make_request: Callable[[], Awaitable[None]]
    now: Callable[[], float]
    # Returns the next number in [0, 1).
    jitter: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    # The newest connection; None before the first.
    channel: grpc.aio.Channel | None = None

    async def run(self) -> None:
        """Renew whenever two thirds of a certificate's life are over, until cancelled."""
        while True:
            held = credentials.load(self.state_dir)
            if held is None:
                return
            left_s = max(0.0, held.not_after - held.renew_at)
            due = held.renew_at + self.jitter() * _SPREAD * left_s
            while (ahead_s := due - self.now()) > 0:
                await self.sleep(min(ahead_s, _LONGEST_SLEEP_S))
            try:
                await self.renew(held)
            except (Unreachable, EnrollmentError, OSError) as error:
                log.warning("certificate_not_renewed", error=str(error))
                await self.sleep(_RETRY_S * (1 + self.jitter()))

    async def renew(self, held: Credentials) -> None:
        """Ask for a newer certificate and store it. Raises Unreachable, EnrollmentError: the present one stays."""
        if self.channel is None:
            raise Unreachable("there is no connection to renew the certificate over")
        if not (self.state_dir / credentials.REQUEST).exists():
            await self.make_request()
        request = (self.state_dir / credentials.REQUEST).read_bytes()
        body = agent_pb2.RenewRequest(certificate_signing_request_pem=request)
        try:
            answer = await agent_pb2_grpc.AgentServiceStub(self.channel).Renew(body, timeout=_CALL_TIMEOUT_S)
        except (grpc.aio.AioRpcError, grpc.aio.UsageError) as error:
            raise Unreachable(f"the certificate cannot be renewed: {error}") from error
        not_after = answer.not_after.seconds + answer.not_after.nanos / 1e9
        if not_after <= held.not_after:
            raise EnrollmentError("the controller answered with a certificate that ends no later than the present one")
        fresh = Credentials(
            host=held.host,
            key_pem=held.key_pem,
            certificate_pem=answer.certificate_pem,
            authority_pem=answer.authority_pem,
            not_after=not_after,
            renew_at=credentials.renewal_time(self.now(), not_after),
            token_digest=held.token_digest,
        )
        credentials.verify(self.state_dir, fresh)
        credentials.store(self.state_dir, fresh)
        log.info("certificate_renewed", days=round((not_after - self.now()) / 86400))
