"""The certificate authority: what it signs, what it refuses, and what it does with damaged files."""

import datetime
import stat
from pathlib import Path
from urllib.parse import unquote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from controller.adapters.pki.certificates import (
    Authority,
    kept_agent_key,
    open_authority,
    operator_is_stale,
    write_operator,
)
from controller.domain.errors import InvalidInput, Permanent
from controller.main import user_name

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
    for pem in (b"", b"no PEM", b"\xff" * 2000, good.replace(b"MI", b"XX", 1), forged_pem, request("h2")):
        with pytest.raises(InvalidInput, match="h1"):
            authority.sign_agent(pem, "h1", NOW)


def test_keys_are_their_owners_alone(tmp_path: Path, authority: Authority) -> None:
    write_operator(tmp_path / "client", authority.operator("op", NOW))
    keys = (tmp_path / "authority" / "ca-key.pem", tmp_path / "client" / "operator-key.pem")
    assert all(stat.S_IMODE(key.stat().st_mode) == 0o600 for key in keys)
    assert stat.S_IMODE((tmp_path / "authority").stat().st_mode) == 0o700


def test_an_authority_is_made_once(tmp_path: Path, authority: Authority) -> None:
    assert open_authority(tmp_path / "authority", NOW + DAY_S).certificate_pem == authority.certificate_pem


def test_a_first_start_that_died_half_way_is_made_up_for(tmp_path: Path) -> None:
    partial = tmp_path / "authority.partial"
    partial.mkdir()
    (partial / "ca-key.pem").write_bytes(b"half")
    made = open_authority(tmp_path / "authority", NOW)
    assert open_authority(tmp_path / "authority", NOW).certificate_pem == made.certificate_pem
    assert not partial.exists()


@pytest.mark.parametrize("name", ["ca.pem", "ca-key.pem"])
def test_half_an_authority_is_not_overwritten(tmp_path: Path, authority: Authority, name: str) -> None:
    assert authority.certificate_pem
    other = tmp_path / "authority" / {"ca.pem": "ca-key.pem", "ca-key.pem": "ca.pem"}[name]
    kept = other.read_bytes()
    (tmp_path / "authority" / name).unlink()
    with pytest.raises(Permanent, match=rf"authority/{name} is missing: restore .* from a backup, or move it away"):
        open_authority(tmp_path / "authority", NOW)
    assert other.read_bytes() == kept
    assert not (tmp_path / "authority" / name).exists()


def test_no_authority_is_made_where_none_may_be(tmp_path: Path) -> None:
    with pytest.raises(Permanent, match=r"knows enrolled hosts.*--new-authority"):
        open_authority(tmp_path / "authority", NOW, may_create=False)
    assert not (tmp_path / "authority").exists()


def test_an_authority_beyond_its_time_is_told(tmp_path: Path, authority: Authority) -> None:
    assert authority.certificate_pem
    with pytest.raises(Permanent, match=r"ca\.pem expired on 2035-12-29"):
        open_authority(tmp_path / "authority", NOW + 3650 * DAY_S)
    with pytest.raises(Permanent, match=r"not valid before 2025-12-31.*clock"):
        open_authority(tmp_path / "authority", NOW - DAY_S)


def test_nothing_outlives_its_authority(tmp_path: Path) -> None:
    authority = open_authority(tmp_path / "authority", NOW)
    late = open_authority(tmp_path / "authority", NOW + 3600 * DAY_S)
    ends = x509.load_pem_x509_certificate(authority.certificate_pem).not_valid_after_utc.timestamp()
    assert late.sign_agent(request("h1"), "h1", NOW + 3600 * DAY_S).not_after == ends


def test_what_is_no_authority_is_told(tmp_path: Path, authority: Authority) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = authority.sign_agent(request("h1", key), "h1", NOW).certificate_pem
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (tmp_path / "authority" / "ca.pem").write_bytes(leaf)
    (tmp_path / "authority" / "ca-key.pem").write_bytes(pem)
    with pytest.raises(Permanent, match=r"ca\.pem is not the certificate of an authority"):
        open_authority(tmp_path / "authority", NOW)


KEYS = {
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "RSA 2048": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
}
WEAK_KEYS = {
    "P-192": lambda: ec.generate_private_key(ec.SECP192R1()),
    "P-224": lambda: ec.generate_private_key(ec.SECP224R1()),
    "secp256k1": lambda: ec.generate_private_key(ec.SECP256K1()),
    # gRPC's TLS library would refuse them in every handshake.
    "P-521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "RSA 1024": lambda: rsa.generate_private_key(public_exponent=65537, key_size=1024),
    "RSA 2040": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2040),
}


@pytest.mark.parametrize("kind", KEYS)
def test_keys_that_tls_takes_are_signed(authority: Authority, kind: str) -> None:
    assert authority.sign_agent(request("h1", KEYS[kind]()), "h1", NOW).certificate_pem


@pytest.mark.parametrize("kind", WEAK_KEYS)
def test_other_keys_are_refused_with_those_that_are_taken(authority: Authority, kind: str) -> None:
    with pytest.raises(InvalidInput, match=r"h1: a key of kind .* is not taken: use P-256, P-384, or RSA"):
        authority.sign_agent(request("h1", WEAK_KEYS[kind]()), "h1", NOW)


def test_a_key_of_another_algorithm_is_refused(authority: Authority) -> None:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "h1")])
    asked = x509.CertificateSigningRequestBuilder().subject_name(name).sign(ed25519.Ed25519PrivateKey.generate(), None)
    with pytest.raises(InvalidInput, match=r"h1: a key of kind Ed25519 is not taken"):
        authority.sign_agent(asked.public_bytes(serialization.Encoding.PEM), "h1", NOW)


@pytest.mark.parametrize("name", ["jürgen", "Ольга", "山田", "a b/c?d#e%41", "x" * 64, "\udcff", "o'neil@corp"])
def test_an_operator_of_any_name_gets_a_certificate(authority: Authority, name: str) -> None:
    made = authority.operator(user_name({"USER": name}), NOW)
    (uri,) = names_in(made.certificate_pem)
    assert uri.isascii()
    if name != "\udcff":
        assert unquote(uri) == f"kernroll://operator/{name}"


def test_who_runs_the_controller_has_a_name_of_one_line() -> None:
    assert user_name({"USER": "root", "SUDO_USER": "olga"}) == "olga"
    assert user_name({}) == user_name({"USER": ""}) == "operator"
    assert len(user_name({"USER": "ü" * 1000})) == 64
    assert user_name({"USER": "a\nb\x1b[2J"}) == "a b\\x1b[2J"


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
