"""The controller's own certificate authority: made on first start, signs servers, operators and agents.

Identities are URI names inside the certificates: kernroll://agent/HOST and kernroll://operator/NAME.
"""

import base64
import datetime
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from controller.domain.errors import InvalidInput, Permanent

# What agents and operators verify the controller as, whatever address they reach it by.
SERVER_NAME = "kernroll-controller"
TOKEN_PREFIX = "kr1."

_AUTHORITY_DAYS = 3650
_LEAF_DAYS = 90
# Made anew at every start and never written down; a controller may run for long.
_SERVER_DAYS = 825
# Clocks of hosts may be behind.
_BACKDATED = datetime.timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """A key with its certificate and the authority's, all PEM."""

    key_pem: bytes
    certificate_pem: bytes
    authority_pem: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedAgent:
    """An agent's new certificate and what to remember of it."""

    certificate_pem: bytes
    key_digest: str
    serial: str
    not_after: float


class Authority:
    """Signs certificates with a key kept in one directory."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self._key = key
        self._certificate = certificate

    @property
    def certificate_pem(self) -> bytes:
        """The authority's certificate."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def server(self, addresses: tuple[str, ...], now: float) -> Credentials:
        """Return credentials for the controller's listeners."""
        names: list[x509.GeneralName] = [x509.DNSName(SERVER_NAME), x509.DNSName("localhost")]
        names += [x509.DNSName(address) for address in addresses if not _is_address(address)]
        return self._leaf(SERVER_NAME, names, ExtendedKeyUsageOID.SERVER_AUTH, now, days=_SERVER_DAYS)

    def operator(self, name: str, now: float) -> Credentials:
        """Return credentials for an operator."""
        uri = x509.UniformResourceIdentifier(f"kernroll://operator/{name}")
        return self._leaf(name, [uri], ExtendedKeyUsageOID.CLIENT_AUTH, now)

    def _leaf(
        self,
        name: str,
        names: list[x509.GeneralName],
        usage: x509.ObjectIdentifier,
        now: float,
        *,
        days: int = _LEAF_DAYS,
    ) -> Credentials:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(name, key.public_key(), names, usage, now, days=days)
        return Credentials(
            key_pem=_key_pem(key),
            certificate_pem=certificate.public_bytes(serialization.Encoding.PEM),
            authority_pem=self.certificate_pem,
        )

    def sign_agent(self, request_pem: bytes, host: str, now: float) -> SignedAgent:
        """Sign an agent's request; raises InvalidInput when it is not a valid request for this host."""
        try:
            request = x509.load_pem_x509_csr(request_pem)
            names = [str(name.value) for name in request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
            public_key, signed = request.public_key(), request.is_signature_valid
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise InvalidInput(f"{host}: the certificate signing request cannot be read: {error}") from error
        if not signed or names != [host]:
            raise InvalidInput(f"{host}: the certificate signing request is for {names or 'nobody'}")
        if not isinstance(public_key, ec.EllipticCurvePublicKey):
            raise InvalidInput(f"{host}: the certificate signing request must carry an elliptic-curve key")
        uri = x509.UniformResourceIdentifier(f"kernroll://agent/{host}")
        certificate = self._sign(host, public_key, [uri], ExtendedKeyUsageOID.CLIENT_AUTH, now)
        spki = public_key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        return SignedAgent(
            certificate_pem=certificate.public_bytes(serialization.Encoding.PEM),
            key_digest=hashlib.sha256(spki).hexdigest(),
            serial=f"{certificate.serial_number:x}",
            not_after=certificate.not_valid_after_utc.timestamp(),
        )

    def _sign(
        self,
        common_name: str,
        public_key: ec.EllipticCurvePublicKey,
        names: list[x509.GeneralName],
        usage: x509.ObjectIdentifier,
        now: float,
        *,
        days: int = _LEAF_DAYS,
    ) -> x509.Certificate:
        begin = datetime.datetime.fromtimestamp(now, datetime.UTC) - _BACKDATED
        return (
            x509.CertificateBuilder()
            .subject_name(_name(common_name))
            .issuer_name(self._certificate.subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(begin + datetime.timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def token(self, secret: str) -> str:
        """Return the join token that carries the secret and pins this authority by carrying its certificate."""
        der = self._certificate.public_bytes(serialization.Encoding.DER)
        payload = json.dumps({"secret": secret, "ca": base64.b64encode(der).decode()}, separators=(",", ":"))
        return TOKEN_PREFIX + base64.urlsafe_b64encode(payload.encode()).rstrip(b"=").decode()


def open_authority(directory: Path, now: float) -> Authority:
    """Return the authority kept in `directory`, making it on first use. The key is readable by its owner only."""
    key_path, certificate_path = directory / "ca-key.pem", directory / "ca.pem"
    if key_path.exists() and certificate_path.exists():
        return _load_authority(key_path, certificate_path)
    key = ec.generate_private_key(ec.SECP256R1())
    begin = datetime.datetime.fromtimestamp(now, datetime.UTC) - _BACKDATED
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_name("kernroll authority"))
        .issuer_name(_name("kernroll authority"))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + datetime.timedelta(days=_AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(key_path, _key_pem(key))
    # Last and in one piece: an authority whose certificate is there is whole.
    write_private(certificate_path, certificate.public_bytes(serialization.Encoding.PEM))
    return Authority(key, certificate)


def _load_authority(key_path: Path, certificate_path: Path) -> Authority:
    advice = f"restore {key_path.parent} from a backup, or move it away to let a new authority be made"
    try:
        key = serialization.load_pem_private_key(key_path.read_bytes(), password=None)
        certificate = x509.load_pem_x509_certificate(certificate_path.read_bytes())
    except (OSError, ValueError, TypeError) as error:
        raise Permanent(f"the authority in {key_path.parent} cannot be read: {error}; {advice}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Permanent(f"{key_path} is not an elliptic-curve key: {advice}")
    if certificate.public_key() != key.public_key():
        raise Permanent(f"{certificate_path} and {key_path.name} do not belong together: {advice}")
    return Authority(key, certificate)


def kept_agent_key(path: Path) -> bytes:
    """Return the private key of an agent, made and written to `path` (readable by its owner only) on first use."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_private(path, _key_pem(ec.generate_private_key(ec.SECP256R1())))
    return path.read_bytes()


def write_operator(directory: Path, credentials: Credentials) -> None:
    """Write an operator's credentials where the command line finds them."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(directory / "operator-key.pem", credentials.key_pem)
    write_private(directory / "ca.pem", credentials.authority_pem)
    # Last: whoever finds the certificate finds everything that belongs to it.
    write_private(directory / "operator.pem", credentials.certificate_pem)


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read, never readable by others in between."""
    partial = path.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)


def operator_is_stale(directory: Path, authority: Authority, moment: float) -> bool:
    """Whether the operator's credentials in `directory` are missing, damaged, of another authority or end too soon."""
    try:
        certificate = x509.load_pem_x509_certificate((directory / "operator.pem").read_bytes())
        authority_pem = (directory / "ca.pem").read_bytes()
        key = serialization.load_pem_private_key((directory / "operator-key.pem").read_bytes(), password=None)
    except (OSError, ValueError, TypeError):
        return True
    belongs = authority_pem == authority.certificate_pem and certificate.public_key() == key.public_key()
    return not belongs or certificate.not_valid_after_utc.timestamp() < moment


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _is_address(text: str) -> bool:
    return text.replace(".", "").isdigit() or ":" in text
