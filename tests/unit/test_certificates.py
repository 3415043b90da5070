"""The certificate authority: what it signs, what it refuses, and what it does with damaged files."""

import datetime
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from controller.adapters.certificates import (
    Authority,
    kept_agent_key,
    open_authority,
    operator_is_stale,
    write_operator,
)
from controller.domain.errors import InvalidInput, Permanent

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC).timestamp()
DAY_S = 86_400.0

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return open_authority(tmp_path / "authority", NOW)


def request(common_name: str, key: Key | None = None, names: tuple[x509.GeneralName, ...] = ()) -> bytes:
    key = key or ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def names_in(certificate_pem: bytes) -> list[str]:
    certificate = x509.load_pem_x509_certificate(certificate_pem)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(name.value) for name in names]


def test_an_agent_gets_the_name_it_enrolls_as_and_no_other(authority: Authority) -> None:
    wish = (x509.UniformResourceIdentifier("kernroll://operator/root"), x509.DNSName("kernroll-controller"))
    signed = authority.sign_agent(request("h1", names=wish), "h1", NOW)
    certificate = x509.load_pem_x509_certificate(signed.certificate_pem)
    assert names_in(signed.certificate_pem) == ["kernroll://agent/h1"]
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    authority_certificate = x509.load_pem_x509_certificate(authority.certificate_pem)
    certificate.verify_directly_issued_by(authority_certificate)
    assert signed.not_after == certificate.not_valid_after_utc.timestamp()


def test_requests_that_are_refused(authority: Authority) -> None:
    good = request("h1")
    der = x509.load_pem_x509_csr(good).public_bytes(serialization.Encoding.DER)
    # The last byte belongs to the signature.
    forged = x509.load_der_x509_csr(der[:-1] + bytes([der[-1] ^ 1]))
    forged_pem = forged.public_bytes(serialization.Encoding.PEM)
    weak = request("h1", rsa.generate_private_key(public_exponent=65537, key_size=2048))
    for pem in (b"", b"no PEM", b"\xff" * 2000, good.replace(b"MI", b"XX", 1), forged_pem, weak, request("h2")):
        with pytest.raises(InvalidInput, match="h1"):
            authority.sign_agent(pem, "h1", NOW)


def test_keys_are_their_owners_alone(tmp_path: Path, authority: Authority) -> None:
    write_operator(tmp_path / "client", authority.operator("op", NOW))
    keys = (tmp_path / "authority" / "ca-key.pem", tmp_path / "client" / "operator-key.pem")
    assert all(stat.S_IMODE(key.stat().st_mode) == 0o600 for key in keys)
    assert stat.S_IMODE((tmp_path / "authority").stat().st_mode) == 0o700


def test_an_authority_is_made_once(tmp_path: Path, authority: Authority) -> None:
    assert open_authority(tmp_path / "authority", NOW + DAY_S).certificate_pem == authority.certificate_pem


def test_a_first_start_that_died_half_way_is_made_up_for(tmp_path: Path, authority: Authority) -> None:
    (tmp_path / "authority" / "ca.pem").unlink()
    again = open_authority(tmp_path / "authority", NOW)
    assert again.certificate_pem != authority.certificate_pem
    assert open_authority(tmp_path / "authority", NOW).certificate_pem == again.certificate_pem


@pytest.mark.parametrize("name", ["ca.pem", "ca-key.pem"])
@pytest.mark.parametrize("content", [b"", b"-----BEGIN CERTIFICATE-----\nMIIB", b"\x00\xff"])
def test_a_damaged_authority_is_not_replaced_behind_everyones_back(
    tmp_path: Path, authority: Authority, name: str, content: bytes
) -> None:
    assert authority.certificate_pem
    (tmp_path / "authority" / name).write_bytes(content)
    with pytest.raises(Permanent, match=r"restore .* from a backup, or move it away"):
        open_authority(tmp_path / "authority", NOW)


def test_a_key_of_another_authority_is_noticed(tmp_path: Path, authority: Authority) -> None:
    assert authority.certificate_pem
    open_authority(tmp_path / "other", NOW)
    (tmp_path / "other" / "ca-key.pem").rename(tmp_path / "authority" / "ca-key.pem")
    with pytest.raises(Permanent, match="do not belong together"):
        open_authority(tmp_path / "authority", NOW)


def test_operators_credentials_are_renewed_when_they_are_no_use(tmp_path: Path, authority: Authority) -> None:
    client = tmp_path / "client"
    assert operator_is_stale(client, authority, NOW)
    write_operator(client, authority.operator("op", NOW))
    assert not operator_is_stale(client, authority, NOW + 30 * DAY_S)
    assert operator_is_stale(client, authority, NOW + 120 * DAY_S)
    assert operator_is_stale(client, open_authority(tmp_path / "other", NOW), NOW)
    (client / "operator-key.pem").write_bytes(b"")
    assert operator_is_stale(client, authority, NOW)


def test_a_servers_certificate_outlasts_its_process(authority: Authority) -> None:
    certificate = x509.load_pem_x509_certificate(authority.server(("ctl.example",), NOW).certificate_pem)
    assert certificate.not_valid_after_utc.timestamp() > NOW + 800 * DAY_S
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    assert names_in(pem) == ["kernroll-controller", "localhost", "ctl.example"]


def test_an_agents_key_is_made_once_and_only_its_owners_to_read(tmp_path: Path) -> None:
    path = tmp_path / ".keys" / "a.pem"
    key = kept_agent_key(path)
    assert kept_agent_key(path) == key == path.read_bytes()
    assert path.stat().st_mode & 0o077 == 0
    assert b"BEGIN PRIVATE KEY" in key
