"""The controller's own certificate authority: made on first start, signs servers, operators and agents.

Identities are URI names inside the certificates: kernroll://agent/HOST and kernroll://operator/NAME.
"""

import base64
import datetime
import hashlib
import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from controller.adapters.local.named_files import read_file
from controller.domain.errors import InvalidInput, Permanent
from controller.domain.printable import printable

# What agents and operators verify the controller as, whatever address they reach it by.
SERVER_NAME = "kernroll-controller"
TOKEN_PREFIX = "kr1."

_AUTHORITY_DAYS = 3650
_LEAF_DAYS = 90
# Made anew at every start and never written down; a controller may run for long.
_SERVER_DAYS = 825
# A certificate's common name holds this many characters.
_LONGEST_NAME = 64
_MOST_PEM_BYTES = 1 << 20
# What gRPC's TLS library takes from a client. It refuses P-521 and Ed25519 in the handshake.
_CURVES = (ec.SECP256R1, ec.SECP384R1)
_LEAST_RSA_BITS, _MOST_RSA_BITS = 2048, 8192
_TAKEN = "P-256, P-384, or RSA of 2048 to 8192 bits"
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
# What the library raises for bytes that are no key, certificate or request that it knows.
UNREADABLE: Final = (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion)
# Clocks of hosts may be behind.
_BACKDATED = datetime.timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """A key with its certificate and the authority's, all PEM."""

    key_pem: bytes
    certificate_pem: bytes
    authority_pem: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A client's new certificate and what to remember of it."""

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
        return self._leaf(name, [_identity("operator", name)], ExtendedKeyUsageOID.CLIENT_AUTH, now)

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

    def sign_agent(self, request_pem: bytes, host: str, now: float) -> Signed:
        """Sign an agent's request; raises InvalidInput when it is not a valid request for this host."""
        return self._signed("agent", request_pem, host, now)

    def sign_operator(self, request_pem: bytes, name: str, now: float) -> Signed:
        """Sign an operator's request; raises InvalidInput when it is not a valid request for this name."""
        return self._signed("operator", request_pem, name, now)

    def _signed(self, role: str, request_pem: bytes, name: str, now: float) -> Signed:
        try:
            request = x509.load_pem_x509_csr(request_pem)
            asked = [str(one.value) for one in request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
            public_key, signed = request.public_key(), request.is_signature_valid
        except UNREADABLE as error:
            raise InvalidInput(f"{name}: the certificate signing request cannot be read: {error}") from error
        if not signed:
            raise InvalidInput(f"{name}: the certificate signing request is not signed by its own key")
        if role == "agent" and [one.lower() for one in asked] != [name.lower()]:
            names = ", ".join(printable(one, 80) for one in asked[:3])
            raise InvalidInput(f"{name}: the certificate signing request is for {names or 'nobody'}")
        key = usable_key(public_key, name)
        certificate = self._sign(name, key, [_identity(role, name)], ExtendedKeyUsageOID.CLIENT_AUTH, now)
        spki = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        return Signed(
            certificate_pem=certificate.public_bytes(serialization.Encoding.PEM),
            key_digest=hashlib.sha256(spki).hexdigest(),
            serial=f"{certificate.serial_number:x}",
            not_after=certificate.not_valid_after_utc.timestamp(),
        )

    def _sign(
        self,
        common_name: str,
        public_key: PublicKey,
        names: list[x509.GeneralName],
        usage: x509.ObjectIdentifier,
        now: float,
        *,
        days: int = _LEAF_DAYS,
    ) -> x509.Certificate:
        begin = datetime.datetime.fromtimestamp(now, datetime.UTC) - _BACKDATED
        # Nothing outlives the authority: who verifies would refuse the one for the other's sake.
        end = min(begin + datetime.timedelta(days=days), self._certificate.not_valid_after_utc)
        return (
            x509.CertificateBuilder()
            .subject_name(_name(common_name))
            .issuer_name(self._certificate.subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(end)
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


def is_authority(directory: Path) -> bool:
    """Whether anything of an authority is there."""
    return any((directory / name).exists() for name in ("ca-key.pem", "ca.pem"))


def open_authority(directory: Path, now: float, *, may_create: bool = True) -> Authority:
    """Return the authority kept in `directory`, making it on first use. The key is readable by its owner only.

    Raises Permanent when half of it is missing, when it cannot be used, and when there is none and none may be made.
    """
    key_path, certificate_path = directory / "ca-key.pem", directory / "ca.pem"
    missing = [path for path in (key_path, certificate_path) if not path.exists()]
    if not missing:
        return _load_authority(key_path, certificate_path, now)
    if len(missing) == 1:
        raise Permanent(
            f"{missing[0]} is missing: {_advice(directory)}; a new authority knows no host and no operator, all of "
            "them must enroll again"
        )
    if not may_create:
        raise Permanent(
            f"there is no authority in {directory}, but the database beside it knows enrolled hosts, which trust the "
            "one that was there: restore it from a backup; or begin with a new one with --new-authority: every host "
            "and every operator must enroll again then"
        )
    return _new_authority(directory, now)


def _new_authority(directory: Path, now: float) -> Authority:
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
    # Both files appear together: one without the other is a loss, never a start that was cut short.
    partial = directory.with_name(f"{directory.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o700, parents=True)
    write_private(partial / "ca-key.pem", _key_pem(key))
    write_private(partial / "ca.pem", certificate.public_bytes(serialization.Encoding.PEM))
    try:
        partial.rename(directory)
    except OSError as error:
        raise Permanent(
            f"an authority cannot be made in {directory}: {error.strerror}; is something else in it? Move it away"
        ) from error
    return Authority(key, certificate)


def _load_authority(key_path: Path, certificate_path: Path, now: float) -> Authority:
    advice = _advice(key_path.parent)
    try:
        key = serialization.load_pem_private_key(read_file(key_path, _MOST_PEM_BYTES), password=None)
    except (OSError, *UNREADABLE) as error:
        raise Permanent(f"{key_path} cannot be read as a private key: {said(error)}; {advice}") from error
    try:
        certificate = x509.load_pem_x509_certificate(read_file(certificate_path, _MOST_PEM_BYTES))
        authority = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        authority = False
    except (OSError, *UNREADABLE) as error:
        raise Permanent(f"{certificate_path} cannot be read as a certificate: {said(error)}; {advice}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, _CURVES):
        raise Permanent(f"{key_path} is not an elliptic-curve key that gRPC takes ({_TAKEN}): {advice}")
    if not authority:
        raise Permanent(f"{certificate_path} is not the certificate of an authority: {advice}")
    if certificate.public_key() != key.public_key():
        raise Permanent(f"{certificate_path} and {key_path.name} do not belong together: {advice}")
    moment = datetime.datetime.fromtimestamp(now, datetime.UTC)
    if moment < certificate.not_valid_before_utc:
        begin = certificate.not_valid_before_utc
        raise Permanent(f"{certificate_path} is not valid before {begin:%Y-%m-%d %H:%M} UTC: set this machine's clock")
    if moment >= certificate.not_valid_after_utc:
        raise Permanent(
            f"{certificate_path} expired on {certificate.not_valid_after_utc:%Y-%m-%d}: move {key_path.parent} away to "
            "let a new authority be made; every host and every operator must enroll again then"
        )
    return Authority(key, certificate)


def _advice(directory: Path) -> str:
    return f"restore {directory} from a backup, or move it away to let a new authority be made (--new-authority)"


def said(error: Exception) -> str:
    """Return what a library says of a file in one line, without its address and codes."""
    text = error.strerror if isinstance(error, OSError) else str(error)
    return printable((text or type(error).__name__).partition(" See https://")[0], 160)


def usable_key(key: object, name: str) -> PublicKey:
    """Return the key if gRPC's TLS takes certificates with it; raises InvalidInput otherwise."""
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, _CURVES):
        return key
    if isinstance(key, rsa.RSAPublicKey) and _LEAST_RSA_BITS <= key.key_size <= _MOST_RSA_BITS:
        return key
    found = type(key).__name__.removesuffix("PublicKey")
    detail = key.curve.name if isinstance(key, ec.EllipticCurvePublicKey) else getattr(key, "key_size", "")
    raise InvalidInput(f"{name}: a key of kind {f'{found} {detail}'.strip()} is not taken: use {_TAKEN}")


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
        certificate = x509.load_pem_x509_certificate(read_file(directory / "operator.pem", _MOST_PEM_BYTES))
        authority_pem = read_file(directory / "ca.pem", _MOST_PEM_BYTES)
        key = serialization.load_pem_private_key(
            read_file(directory / "operator-key.pem", _MOST_PEM_BYTES), password=None
        )
        belongs = authority_pem == authority.certificate_pem and certificate.public_key() == key.public_key()
    except (OSError, InvalidInput, *UNREADABLE):
        return True
    return not belongs or certificate.not_valid_after_utc.timestamp() < moment


def _name(common_name: str) -> x509.Name:
    # It is for people; what counts is the URI.
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, printable(common_name, _LONGEST_NAME))])


def _identity(role: str, name: str) -> x509.GeneralName:
    # A URI is ASCII: of other letters it carries the codes.
    return x509.UniformResourceIdentifier(f"kernroll://{role}/{quote(name, safe='', errors='replace')}")


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _is_address(text: str) -> bool:
    return re.fullmatch(r"[0-9.]+", text) is not None or ":" in text
