"""gRPC channels to the controller."""

import grpc
import grpc.aio

from agent.adapters.state.credentials import Credentials

# Servers hang up on those who ping an idle connection more often than every five minutes. A peer that dies without a
# word is noticed sooner all the same: a heartbeat that nobody acknowledges for the timeout ends the TCP connection.
_KEEPALIVE_S = 310
_KEEPALIVE_TIMEOUT_S = 20
_RECONNECT_LIMIT_S = 2

_OPTIONS: tuple[tuple[str, str | int], ...] = (
    ("grpc.keepalive_time_ms", _KEEPALIVE_S * 1000),
    ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_S * 1000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 500),
    ("grpc.min_reconnect_backoff_ms", _RECONNECT_LIMIT_S * 1000),
    ("grpc.max_reconnect_backoff_ms", _RECONNECT_LIMIT_S * 1000),
    # Every attempt is a connection of its own, whose failure is told at once and with its reason.
    ("grpc.use_local_subchannel_pool", 1),
    # An agent speaks to its controller and to nobody's proxy.
    ("grpc.enable_http_proxy", 0),
)


def plain(address: str) -> grpc.aio.Channel:
    """Return a plain-text channel; settings allow it to loopback addresses only."""
    return grpc.aio.insecure_channel(address, options=_OPTIONS)


def mutual_tls(address: str, credentials: Credentials, *, server_name: str) -> grpc.aio.Channel:
    """Return a channel on which both sides prove who they are."""
    return _secure(
        address,
        grpc.ssl_channel_credentials(
            root_certificates=credentials.authority_pem,
            private_key=credentials.key_pem,
            certificate_chain=credentials.certificate_pem,
        ),
        server_name,
    )


def server_tls(address: str, authority_pem: bytes, *, server_name: str) -> grpc.aio.Channel:
    """Return a channel on which only the controller proves who it is: for enrollment."""
    return _secure(address, grpc.ssl_channel_credentials(root_certificates=authority_pem), server_name)


def _secure(address: str, credentials: grpc.ChannelCredentials, server_name: str) -> grpc.aio.Channel:
    # The certificate names the controller, not the address, relay or tunnel it is reached through.
    options = (*_OPTIONS, ("grpc.ssl_target_name_override", server_name))
    return grpc.aio.secure_channel(address, credentials, options=options)
