"""What stands where a key or certificate is kept, and is no file: told in a sentence, never waited for."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.adapters.state import credentials
from agent.domain.errors import EnrollmentError
from controller.adapters.pki.certificates import open_authority, operator_is_stale, write_operator
from controller.adapters.rpc.client_files import read_client_files
from controller.domain.errors import KernrollError

KINDS = ("fifo", "folder", "device", "huge")


@pytest.fixture(autouse=True)
def at_most_seconds() -> Iterator[None]:
    """End a test that waits."""
    signal.alarm(20)
    yield
    signal.alarm(0)


def put(path: Path, kind: str) -> None:
    """Put something else in a file's place."""
    path.unlink()
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "device":
            path.symlink_to("/dev/full")
        case _:
            path.touch()
            os.truncate(path, 1 << 40)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["ca.pem", "ca-key.pem"])
def test_an_authority_is_read_from_files(tmp_path: Path, name: str, kind: str) -> None:
    open_authority(tmp_path / "authority", 0.0)
    put(tmp_path / "authority" / name, kind)
    with pytest.raises(KernrollError, match=name):
        open_authority(tmp_path / "authority", 0.0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["ca.pem", "operator.pem", "operator-key.pem"])
def test_an_operators_credentials_are_read_from_files(tmp_path: Path, name: str, kind: str) -> None:
    authority = open_authority(tmp_path / "authority", 0.0)
    write_operator(tmp_path / "client", authority.operator("olga", 0.0))
    put(tmp_path / "client" / name, kind)
    with pytest.raises(KernrollError, match=name):
        read_client_files(tmp_path / "client")
    assert operator_is_stale(tmp_path / "client", authority, 0.0)


@pytest.mark.parametrize("kind", [*KINDS, "deep"])
@pytest.mark.parametrize("name", ["enrollment.json", "client.key", "client.crt", "ca.crt"])
def test_an_agents_credentials_are_read_from_files(tmp_path: Path, name: str, kind: str) -> None:
    held = credentials.Credentials(host="h", key_pem=b"k", certificate_pem=b"c", authority_pem=b"a", not_after=9.0)
    credentials.store(tmp_path, held)
    if kind == "deep":
        (tmp_path / "enrollment.json").write_text("[" * 200_000)
    else:
        put(tmp_path / name, kind)
    with pytest.raises(EnrollmentError, match="unreadable"):
        credentials.load(tmp_path)
    if name == "client.key" and kind != "deep":
        with pytest.raises(EnrollmentError, match=r"client\.key"):
            credentials.kept_key(tmp_path)
