"""Exchanging the join token for a client certificate. Short-lived: the only module that may import cryptography."""

from pathlib import Path

import grpc.aio
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent.adapters.network import channel
from agent.adapters.state.credentials import Credentials, JoinToken, renewal_time
from agent.domain.errors import EnrollmentError, Unreachable
from protos.kernroll.v1 import agent_pb2, agent_pb2_grpc

_CALL_TIMEOUT_S = 30.0
# What the library raises for bytes that are no key or certificate that it knows.
_UNREADABLE: tuple[type[Exception], ...] = (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion)
_FINAL = {
    grpc.StatusCode.UNAUTHENTICATED: "the join token is unknown, used up or expired; ask for a new one",
    grpc.StatusCode.ALREADY_EXISTS: (
        "a host of this name is enrolled with another key; give this one another name, or, when it is the same host "
        "made anew, let an operator run `kernroll hosts forget` first"
    ),
    grpc.StatusCode.INVALID_ARGUMENT: "the controller does not accept the request",
    grpc.StatusCode.UNIMPLEMENTED: "the address answers, but it is not the controller's enrollment port",
}


def new_key_pem() -> bytes:
    """Return a new private key, unencrypted PKCS#8."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def signing_request(host: str, key_pem: bytes, state_dir: Path) -> bytes:
    """Return a request for a certificate with this key, PEM. Raises EnrollmentError for a key that is none."""
    try:
        key = serialization.load_pem_private_key(key_pem, password=None)
    except _UNREADABLE as error:
        raise EnrollmentError(
            f"{state_dir}: the kept key (client.key or pending.key) is damaged: restore it from a backup; or remove "
            f"it, let an operator run `kernroll hosts forget {host}`, and enroll again"
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise EnrollmentError("the stored client key is not an elliptic-curve key; remove it and enroll again")
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    signed = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM)


async def enroll(
    *, address: str, server_name: str, host: str, token: JoinToken, keys: tuple[bytes, bytes]
) -> Credentials:
    """Exchange the token for a certificate; `keys` are the key and the request for it.

    Raises EnrollmentError (final) or Unreachable (worth trying again).
    """
    key_pem, request = keys
    message = agent_pb2.EnrollRequest(
        token_secret=token.secret,
        host=host,
        certificate_signing_request_pem=request,
    )
    async with channel.server_tls(address, token.authority_pem, server_name=server_name) as connection:
        stub = agent_pb2_grpc.EnrollmentServiceStub(connection)
        try:
            response = await stub.Enroll(message, timeout=_CALL_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            if error.code() in _FINAL:
                raise EnrollmentError(f"{_FINAL[error.code()]} ({error.details()})") from error
            # Worth another try all the same: what answers may be somebody else who holds the address for a while.
            hint = (
                "it is not the controller that made this join token: " if "certificate" in str(error.details()) else ""
            )
            raise Unreachable(f"enrollment at {address}: {hint}{error.code().name}: {error.details()}") from error
    return _credentials(host, key_pem, response)


def _credentials(host: str, key_pem: bytes, response: agent_pb2.EnrollResponse) -> Credentials:
    try:
        certificate = x509.load_pem_x509_certificate(response.certificate_pem)
        x509.load_pem_x509_certificate(response.authority_pem)
        public_key = certificate.public_key()
    except _UNREADABLE as error:
        raise EnrollmentError(f"the controller answered with an unreadable certificate: {error}") from error
    if public_key != serialization.load_pem_private_key(key_pem, password=None).public_key():
        raise EnrollmentError("the controller answered with a certificate for another key")
    begin, end = certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
    return Credentials(
        host=host,
        key_pem=key_pem,
        certificate_pem=response.certificate_pem,
        authority_pem=response.authority_pem,
        not_after=end,
        renew_at=renewal_time(begin, end),
    )
