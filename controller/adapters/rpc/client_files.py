"""The three files that an operator calls with: checked before a connection is made, renewed while they are valid."""

import datetime
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from controller.adapters.local.named_files import read_file
from controller.domain.errors import Permanent
from controller.domain.printable import printable

AUTHORITY_FILE = "ca.pem"
CERTIFICATE_FILE = "operator.pem"
KEY_FILE = "operator-key.pem"
_MOST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientFiles:
    """What is in them, as PEM."""

    directory: Path
    authority: bytes
    certificate: bytes
    key: bytes = field(repr=False)


def read_client_files(directory: Path) -> ClientFiles:
    """Return the files' content; raises Permanent that names the one that is missing or damaged."""
    parts = {name: _content(directory / name) for name in (AUTHORITY_FILE, CERTIFICATE_FILE, KEY_FILE)}
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for name in (AUTHORITY_FILE, CERTIFICATE_FILE):
        try:
            context.load_verify_locations(cadata=parts[name].decode("ascii"))
        except (ssl.SSLError, ValueError) as error:
            raise _damaged(directory / name, "certificate", error) from error
    try:
        # An encrypted key would ask the terminal for its password.
        context.load_cert_chain(directory / CERTIFICATE_FILE, directory / KEY_FILE, password="")
    except (ssl.SSLError, ValueError) as error:
        if "MISMATCH" in str(error):
            raise Permanent(
                f"{directory / KEY_FILE} is not the key of {CERTIFICATE_FILE} beside it; set --client-dir, or copy "
                "both from the controller's client directory again"
            ) from error
        raise _damaged(directory / KEY_FILE, "private key without a password", error) from error
    return ClientFiles(
        directory=directory, authority=parts[AUTHORITY_FILE], certificate=parts[CERTIFICATE_FILE], key=parts[KEY_FILE]
    )


def _content(path: Path) -> bytes:
    try:
        content = read_file(path, _MOST_BYTES)
    except OSError as error:
        raise Permanent(f"{path}: cannot be read: {error.strerror}; set --client-dir") from error
    if b"-----BEGIN" not in content:
        raise Permanent(f"{path}: is not a PEM file; set --client-dir")
    return content


def _damaged(path: Path, what: str, error: Exception) -> Permanent:
    why = printable(str(error).partition(" (_ssl")[0], 120)
    return Permanent(
        f"{path} is damaged, or not a {what} in PEM ({why}); set --client-dir, or copy it from "
        "the controller's client directory again"
    )


def expired(files: ClientFiles, now: float) -> str:
    """Say that the certificate has expired and what to do; empty while it is valid."""
    # Only when a connection has failed.
    from cryptography import x509  # noqa: PLC0415 -- it takes longer to load than most calls

    from controller.adapters.pki.certificates import UNREADABLE  # noqa: PLC0415 -- it takes longer to load than most calls

    moment = datetime.datetime.fromtimestamp(now, datetime.UTC)
    for name, content in ((CERTIFICATE_FILE, files.certificate), (AUTHORITY_FILE, files.authority)):
        try:
            end = x509.load_pem_x509_certificate(content).not_valid_after_utc
        except UNREADABLE as error:
            raise _damaged(files.directory / name, "certificate", error) from error
        if end <= moment:
            return (
                f"{files.directory / name} expired on {end:%Y-%m-%d}: copy the files from the controller's client "
                "directory (DIR/client of its --state-dir) again, where the running controller keeps them fresh; "
                "`kernroll controller renew` renews a certificate while it is valid"
            )
    return ""


def signing_request(files: ClientFiles) -> bytes:
    """Return a request for a newer certificate of the same key, PEM."""
    from cryptography import x509  # noqa: PLC0415 -- it takes longer to load than most calls
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415 -- it takes longer to load than most calls

    from controller.adapters.pki.certificates import UNREADABLE  # noqa: PLC0415 -- it takes longer to load than most calls

    try:
        key = serialization.load_pem_private_key(files.key, password=None)
        subject = x509.load_pem_x509_certificate(files.certificate).subject
    except UNREADABLE as error:
        raise _damaged(files.directory, "certificate with its key", error) from error
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    request = builder.sign(key, hashes.SHA256())  # type: ignore[arg-type]  # of a kind that the controller gave out
    return request.public_bytes(serialization.Encoding.PEM)


def write_renewed(files: ClientFiles, certificate: bytes, authority: bytes) -> None:
    """Put a newer certificate in the place of the present one; raises Permanent when it does not fit the key."""
    from cryptography import x509  # noqa: PLC0415 -- it takes longer to load than most calls
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 -- it takes longer to load than most calls

    from controller.adapters.pki.certificates import UNREADABLE, write_private  # noqa: PLC0415 -- it takes longer to load than most calls

    try:
        found = x509.load_pem_x509_certificate(certificate).public_key()
    except UNREADABLE as error:
        raise Permanent(f"the controller answered with an unreadable certificate: {error}") from error
    if found != serialization.load_pem_private_key(files.key, password=None).public_key():
        raise Permanent("the controller answered with a certificate for another key; the present one was kept")
    write_private(files.directory / AUTHORITY_FILE, authority)
    write_private(files.directory / CERTIFICATE_FILE, certificate)
