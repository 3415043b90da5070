"""The enroll verb: a short-lived process of its own, because its libraries are large."""

from dataclasses import replace

from agent.adapters.network.enrollment import enroll as exchange
from agent.adapters.network.enrollment import new_key_pem, signing_request
from agent.adapters.state import credentials
from agent.adapters.state.durable import replace_file
from agent.domain.errors import ConfigError, EnrollmentError
from agent.resident.serve import controller_addresses, open_state, wall_clock
from agent.settings import Settings, Transport


async def enroll(settings: Settings) -> str:
    """Get a certificate and store it; return a sentence. Raises ConfigError, EnrollmentError, Unreachable, RigError."""
    if settings.insecure:
        raise ConfigError("insecure: there is nothing to enroll for; remove it and set join_token")
    if not settings.join_token:
        raise ConfigError("join_token: none is set; make one on the controller (kernroll controller token create)")
    if settings.transport is Transport.TCP and not settings.enroll:
        raise ConfigError("enroll: give the address of the controller's enrollment port")
    token = credentials.parse_join_token(settings.join_token)
    open_state(settings.state_dir)
    # The key outlives its certificates: with it the controller knows the host again.
    key_pem = credentials.kept_key(settings.state_dir) or new_key_pem()
    request = signing_request(settings.host, key_pem, settings.state_dir)
    credentials.keep_key(settings.state_dir, key_pem)
    async with controller_addresses(settings, settings.enroll_port, (settings.enroll,)) as addresses:
        held = await exchange(
            address=addresses[0],
            server_name=settings.server_name,
            host=settings.host,
            token=token,
            keys=(key_pem, request),
        )
    replace_file(settings.state_dir / credentials.REQUEST, request)
    credentials.store(settings.state_dir, replace(held, token_digest=credentials.digest_of(settings.join_token)))
    days = (held.not_after - wall_clock()) / 86400
    return f"{settings.host} is enrolled; the certificate is valid for {days:.0f} days"


def make_request(settings: Settings) -> str:
    """Write what renewing the certificate needs, for an agent that has none of it yet. Raises EnrollmentError."""
    key_pem = credentials.kept_key(settings.state_dir)
    if key_pem is None:
        raise EnrollmentError(f"{settings.state_dir} holds no key; run kernroll-agent enroll")
    request = signing_request(settings.host, key_pem, settings.state_dir)
    replace_file(settings.state_dir / credentials.REQUEST, request)
    return f"{settings.state_dir / credentials.REQUEST} is written"
