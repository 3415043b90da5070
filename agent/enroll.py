"""The enroll verb: a short-lived process of its own, because its libraries are large."""

from agent.adapters import credentials
from agent.adapters.durable import replace_file
from agent.adapters.enrollment import enroll as exchange
from agent.adapters.enrollment import new_key_pem
from agent.domain.errors import ConfigError
from agent.serve import controller_addresses, open_state, wall_clock
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
    # The key is kept before it is used: an answer that gets lost is then asked for again with the same key.
    pending = settings.state_dir / "pending.key"
    key_pem = pending.read_bytes() if pending.exists() else new_key_pem()
    replace_file(pending, key_pem, mode=0o600)
    async with controller_addresses(settings, settings.enroll_port, (settings.enroll,)) as addresses:
        held = await exchange(
            address=addresses[0],
            server_name=settings.server_name,
            host=settings.host,
            token=token,
            key_pem=key_pem,
        )
    credentials.store(settings.state_dir, held)
    pending.unlink()
    days = (held.not_after - wall_clock()) / 86400
    return f"{settings.host} is enrolled; the certificate is valid for {days:.0f} days"
