"""What Redfish controllers answer that the emulator does not: logs, refusals, and answers that never come."""

import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from controller.adapters.local.bounded_http import Limits
from controller.adapters.local.clock import SystemClock
from controller.adapters.pki.certificates import open_authority
from controller.adapters.power.address import Managed, parse_address
from controller.adapters.power.redfish import Redfish
from controller.domain.errors import OutcomeUnknown, Permanent, Temporary
from controller.domain.record.actions.power_cycles import MOST_SAYINGS, SAYING_CHARACTERS

SYSTEM = "/redfish/v1/Systems/1"
RESET = f"{SYSTEM}/Actions/ComputerSystem.Reset"
LIMITS = Limits(connect_s=5.0, read_s=1.0, total_s=10.0, most_bytes=64 << 10)


class Bmc:
    """A management controller whose every answer a test may choose."""

    def __init__(self) -> None:
        self.action: dict[str, Any] = {"target": RESET, "ResetType@Redfish.AllowableValues": ["On", "ForceRestart"]}
        self.system: dict[str, Any] = {"PowerState": "On", "Actions": {"#ComputerSystem.Reset": self.action}}
        self.documents: dict[str, Any] = {SYSTEM: self.system}
        # Status and body of the answer to an order; None: the connection ends without one.
        self.to_order: tuple[int, Mapping[str, Any]] | None = (204, {})
        self.orders: list[str] = []
        # By path, in the place of 200.
        self.statuses: dict[str, int] = {}
        self.redfish: Redfish


def handler(bmc: Bmc) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            code = self._authorized() or bmc.statuses.get(self.path) or (200 if self.path in bmc.documents else 404)
            self._send(code, bmc.documents.get(self.path, {}))

        def do_POST(self) -> None:
            bmc.orders.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["ResetType"])
            if bmc.to_order is not None:
                self._send(*bmc.to_order)

        def _authorized(self) -> int:
            # admin:s€cret
            return 0 if self.headers["Authorization"] == "Basic YWRtaW46c+KCrGNyZXQ=" else 401

        def _send(self, code: int, document: Any) -> None:
            body = document if isinstance(document, bytes) else json.dumps(document).encode()
            self.send_response(code)
            self.send_header("Content-Length", "0" if code == 204 else str(len(body)))
            self.end_headers()
            self.wfile.write(b"" if code == 204 else body)

        def log_message(self, *_words: object) -> None:
            """Say nothing."""

    return Handler


@pytest.fixture
def bmc(tmp_path: Path) -> Iterator[Bmc]:
    now = SystemClock().now()
    authority = open_authority(tmp_path, now)
    pair = authority.server(("localhost",), now)
    (tmp_path / "pair").write_bytes(pair.key_pem + pair.certificate_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "pair")
    one = Bmc()
    with ThreadingHTTPServer(("127.0.0.1", 0), handler(one)) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        address = parse_address(f"redfish://localhost:{server.server_port}{SYSTEM}")
        reached = Managed(address=address, user="admin", password="s€cret", ca_file=tmp_path / "ca.pem")
        one.redfish = Redfish(reached, limits=LIMITS)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield one
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("state", "allowed", "order"),
    [
        ("On", ["On", "ForceRestart", "PowerCycle"], "PowerCycle"),
        ("On", ["GracefulRestart", "ForceRestart"], "ForceRestart"),
        (None, ["ForceRestart"], "ForceRestart"),
        ("On", None, "ForceRestart"),
        ("Off", ["On", "ForceOn", "PowerCycle"], "On"),
        ("Off", ["ForceOn"], "ForceOn"),
    ],
)
def test_the_order_is_one_that_the_controller_allows(bmc: Bmc, state: str, allowed: list[str], order: str) -> None:
    bmc.system["PowerState"] = state
    bmc.action["ResetType@Redfish.AllowableValues"] = allowed
    bmc.redfish.cycle()
    assert bmc.orders == [order]


def test_the_newest_entries_of_its_logs_are_told_in_order(bmc: Bmc) -> None:
    log = f"{SYSTEM}/LogServices/Log1"
    bmc.system |= {
        "Status": {"Health": "Critical"},
        "BootProgress": {"LastState": "OSBootStarted"},
        "LogServices": {"@odata.id": f"{SYSTEM}/LogServices"},
    }
    entries = [{"Created": f"2026-11-30T10:{n:02}:00Z", "Severity": "OK", "Message": f"entry {n}"} for n in range(40)]
    entries[-1]["Message"] = "long " * 200
    bmc.documents |= {
        f"{SYSTEM}/LogServices": {"Members": [{"@odata.id": log}, "odd", {"@odata.id": "https://elsewhere.example/x"}]},
        log: {"Entries": {"@odata.id": f"{log}/Entries"}},
        f"{log}/Entries": {"Members": [*reversed(entries), 5, {"Message": None}]},
    }
    says = bmc.redfish.look().says
    assert len(says) == MOST_SAYINGS
    assert says[0] == "2026-11-30T10:20:00Z OK entry 20"
    assert len(says[-1]) == SAYING_CHARACTERS
    bmc.documents[f"{log}/Entries"]["Members"] = []
    assert bmc.redfish.look().says == ("health: Critical", "boot progress: OSBootStarted")


def test_a_log_that_cannot_be_read_spoils_nothing(bmc: Bmc) -> None:
    bmc.system["LogServices"] = {"@odata.id": f"{SYSTEM}/LogServices"}
    bmc.statuses[f"{SYSTEM}/LogServices"] = 500
    seen = bmc.redfish.look()
    assert seen.on is True
    assert "its log cannot be read: " in seen.says[0]


@pytest.mark.parametrize(
    ("actions", "why"),
    [
        ({}, "offers no ComputerSystem.Reset"),
        (
            {"#ComputerSystem.Reset": {"target": "https://elsewhere.example/redfish/v1"}},
            "offers no ComputerSystem.Reset",
        ),
        (
            {"#ComputerSystem.Reset": {"target": RESET, "ResetType@Redfish.AllowableValues": ["On"]}},
            "allows none of PowerCycle, ForceRestart",
        ),
    ],
)
def test_a_controller_that_cannot_do_it_is_refused(bmc: Bmc, actions: Mapping[str, Any], why: str) -> None:
    bmc.system["Actions"] = actions
    with pytest.raises(Permanent, match=why):
        bmc.redfish.cycle()
    assert bmc.orders == []


@pytest.mark.parametrize(
    ("answer", "error", "why"),
    [
        (None, OutcomeUnknown, "was given the order and did not answer"),
        ((500, {}), OutcomeUnknown, "answers 500 to the order"),
        ((409, {"error": {"message": "the host is updating"}}), Permanent, "answers 409: the host is updating"),
        ((429, {}), Temporary, "answers 429"),
        ((302, {}), Permanent, "answers 302 to the order"),
    ],
)
def test_the_answer_to_the_order_decides_what_is_known(
    bmc: Bmc, answer: tuple[int, Mapping[str, Any]] | None, error: type[Exception], why: str
) -> None:
    bmc.to_order = answer
    with pytest.raises(error, match=why):
        bmc.redfish.cycle()
    assert len(bmc.orders) == 1


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"<html>", "does not answer with JSON"),
        (b"[" * 40_000, "JSON"),
        (b" " * 100_000, "more than an answer may have"),
    ],
)
def test_an_answer_that_is_none_is_said(bmc: Bmc, body: bytes, why: str) -> None:
    bmc.documents[SYSTEM] = body
    for call in (bmc.redfish.look, bmc.redfish.cycle):
        with pytest.raises(Permanent, match=why):
            call()
    assert bmc.orders == []


def test_a_server_that_is_busy_may_be_tried_again(bmc: Bmc) -> None:
    bmc.statuses[SYSTEM] = 503
    calls: tuple[Callable[[], object], ...] = (bmc.redfish.look, bmc.redfish.cycle)
    for call in calls:
        with pytest.raises(Temporary, match="answers 503"):
            call()
