"""What `kernroll` says when it cannot talk to its controller."""

import http.server
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from operator_server import operator_server

from controller.adapters.local.clock import SystemClock
from controller.adapters.rpc.operator_client import OperatorClient, TimedOut
from controller.cli.app import run
from controller.cli.session import default_client_dir
from controller.domain.errors import InvalidInput

Captured = pytest.CaptureFixture[str]


@contextmanager
def free_port() -> Iterator[int]:
    """Yield a port that is bound, so that nobody else gets it, and on which nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def test_nobody_there(capsys: Captured) -> None:
    with free_port() as port:
        assert run(["hosts", "list", "--insecure", "--controller", f"127.0.0.1:{port}"]) == 4
        said = capsys.readouterr().err
        assert said == (
            f"kernroll: no controller answers at 127.0.0.1:{port}; start one with `kernroll controller serve` "
            "or set --controller\n"
        )
        assert run(["rollout", "status", "x", "--watch", "--insecure", "--controller", f"127.0.0.1:{port}"]) == 4


def test_an_unknown_host_name(capsys: Captured) -> None:
    assert run(["hosts", "list", "--controller", "nowhere.invalid:7443", "--insecure"]) == 3
    assert "not a loopback address" in capsys.readouterr().err


@pytest.mark.parametrize("address", ["", "localhost", "localhost:", ":7443", "localhost:seven", "localhost:70000"])
def test_an_address_that_is_none(address: str) -> None:
    with pytest.raises(InvalidInput, match="must be host:port"):
        OperatorClient(address, client_dir=None)


def test_without_a_certificate(capsys: Captured, tmp_path: Path) -> None:
    assert run(["hosts", "list", "--client-dir", str(tmp_path)]) == 4
    assert f"no operator certificate: {tmp_path}/ca.pem is not there" in capsys.readouterr().err
    for name in ("ca.pem", "operator.pem", "operator-key.pem"):
        (tmp_path / name).write_text("scribble")
    assert run(["hosts", "list", "--client-dir", str(tmp_path)]) == 1
    assert "is not a PEM file" in capsys.readouterr().err


def test_certificates_of_another_controller(capsys: Captured, tmp_path: Path) -> None:
    now = SystemClock().now()
    with operator_server(tmp_path / "one", now) as one, operator_server(tmp_path / "two", now) as two:
        assert run(["hosts", "list", "--controller", one.address, "--client-dir", str(two.client_dir)]) == 1
        assert "was not made by the authority in ca.pem" in capsys.readouterr().err
        (two.client_dir / "ca.pem").write_bytes((one.client_dir / "ca.pem").read_bytes())
        assert run(["hosts", "list", "--controller", one.address, "--client-dir", str(two.client_dir)]) == 4
        assert "does not accept this certificate" in capsys.readouterr().err
        assert run(["hosts", "list", "--controller", one.address, "--insecure"]) == 4
        assert "only one side speaks plain text" in capsys.readouterr().err


class _Page(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_another_protocol(capsys: Captured, tmp_path: Path) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), _Page) as web:
        thread = threading.Thread(target=web.serve_forever, daemon=True)
        thread.start()
        address = f"127.0.0.1:{web.server_port}"
        assert run(["hosts", "list", "--controller", address, "--insecure"]) == 1
        assert "does not speak kernroll's protocol" in capsys.readouterr().err
        with operator_server(tmp_path, SystemClock().now()) as server:
            assert run(["hosts", "list", "--controller", address, "--client-dir", str(server.client_dir)]) == 1
        assert "does not speak kernroll's protocol" in capsys.readouterr().err
        web.shutdown()
        thread.join(5)


def test_a_controller_that_says_nothing() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with (
            OperatorClient(address, client_dir=None, timeout_s=0.2) as client,
            pytest.raises(TimedOut, match=r"did not answer within 0\.2 s"),
        ):
            client.list_hosts()


def test_the_local_controllers_certificates_are_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("KERNROLL_STATE_DIR", raising=False)
    own, local = tmp_path / "config" / "kernroll" / "client", tmp_path / "state" / "kernroll" / "client"
    assert default_client_dir() == own
    local.mkdir(parents=True)
    assert default_client_dir() == local
    own.mkdir(parents=True)
    assert default_client_dir() == own
