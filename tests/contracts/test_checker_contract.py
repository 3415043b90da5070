"""The port of checks: the fake's servers and real ones (Prometheus, a web server) keep the same promises."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from fake_checker import FakeChecker, FakeServers
from patience import PATIENCE_S
from real_prometheus import free_port, prometheus

from controller.adapters.checks.checker import NetworkChecker
from controller.domain.errors import Permanent, Temporary
from controller.domain.record.checks import AlertRule, Answer, Check, CheckKind, Outcome, Question, Sample
from controller.services.ports import Checker

# Queries whose answer every Prometheus knows, and that answer.
SAMPLES: dict[str, list[Sample]] = {
    "vector(0.5)": [Sample(value=0.5)],
    "scalar(vector(3))": [Sample(value=3.0)],
    "vector(1) > 2": [],
    "vector(0) / 0": [Sample(value=float("nan"))],
    "vector(1) / 0": [Sample(value=float("inf"))],
    'label_replace(vector(1), "zone", "a", "", "") or label_replace(vector(5), "zone", "b", "", "")': [
        Sample(labels={"zone": "a"}, value=1.0),
        Sample(labels={"zone": "b"}, value=5.0),
    ],
}
TWO_ZONES = list(SAMPLES)[-1]
FAKE_RULES = [
    AlertRule(
        name="AlwaysFiring",
        labels={"severity": "page"},
        firing=({"alertname": "AlwaysFiring", "severity": "page"},),
    ),
    AlertRule(name="NeverFiring", labels={"severity": "ticket"}),
    AlertRule(name="SeverityPerAlert", labels={"severity": "{{ $labels.severity }}", "team": "storage"}),
]
QUESTION = Question(
    id="u1//check-1.1.orders",
    check="orders",
    rollout="swap-table",
    wave=1,
    waves=2,
    hosts=("a", "b"),
    kernels={"x86_64": "7.1.13"},
    verdict="promote",
    sentence="PROMOTE: every host lives.",
)


class Program(BaseHTTPRequestHandler):
    """Answers by its path, and keeps what it was sent."""

    replies: ClassVar[dict[str, tuple[int, Any]]] = {
        "/pass": (200, {"state": "pass", "detail": "queue is short"}),
        "/fail": (200, {"state": "fail", "detail": "orders are lost"}),
        "/wait": (200, {"state": "wait"}),
        "/odd": (200, {"state": "ok"}),
        "/list": (200, ["pass"]),
        "/text": (200, "pass"),
        "/busy": (503, {"state": "pass"}),
        "/secret": (401, {"state": "pass"}),
        "/moved": (302, {"state": "pass"}),
        "/large": (200, {"state": "pass", "detail": "x" * 100_000}),
        "/api/v1/query": (200, {"hello": "world"}),
    }
    received: ClassVar[list[tuple[str, dict[str, str], Any]]] = []

    def do_POST(self) -> None:
        """Take the question."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.received.append((self.path, dict(self.headers), json.loads(body)))
        self.do_GET()

    def do_GET(self) -> None:
        """Send the answer that belongs to the path."""
        status, reply = self.replies[self.path.partition("?")[0]]
        content = reply.encode() if self.path == "/text" else json.dumps(reply).encode()
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/pass")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_arguments: object) -> None:
        """Keep the tests' output clean."""


class Rig:
    """A checker and where its servers are."""

    def __init__(self, checker: Checker, prometheus: str, program: str, nowhere: str) -> None:
        self.checker = checker
        self.prometheus = prometheus
        self.program = program
        self.nowhere = nowhere

    async def ask(self, kind: CheckKind, **fields: Any) -> Answer:
        """Ask a check of this kind at its usual server."""
        url = fields.pop("url", self.program if kind is CheckKind.WEBHOOK else self.prometheus)
        check = Check(name="orders", kind=kind, url=url, every_s=1.0, deadline_s=60.0, **fields)
        return await self.checker.ask(check, QUESTION)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Run Prometheus and the program."""
    web = ThreadingHTTPServer(("127.0.0.1", 0), Program)
    thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        with prometheus(tmp_path_factory.mktemp("prometheus")) as url:
            yield url, f"http://127.0.0.1:{web.server_address[1]}"
    finally:
        web.shutdown()
        thread.join(timeout=PATIENCE_S)
        web.server_close()


def fake(_servers: Callable[[], tuple[str, str]]) -> Rig:
    replies = {
        "http://hook/pass": Answer(outcome=Outcome.PASS, detail="queue is short"),
        "http://hook/fail": Answer(outcome=Outcome.FAIL, detail="orders are lost"),
        "http://hook/wait": Answer(outcome=Outcome.WAIT),
        "http://hook/busy": Temporary("busy"),
        **{f"http://hook/{name}": Permanent(name) for name in ("odd", "list", "text", "secret", "moved", "large")},
    }
    made = FakeServers(
        samples=dict(SAMPLES),
        rules=FAKE_RULES,
        replies={url: [reply] for url, reply in replies.items()},
        away={"http://nowhere"},
    )
    return Rig(FakeChecker(made), "http://prom", "http://hook", "http://nowhere")


def real(servers: Callable[[], tuple[str, str]]) -> Rig:
    url, program = servers()
    return Rig(NetworkChecker(), url, program, f"http://127.0.0.1:{free_port()}")


@pytest.fixture(params=[fake, real], ids=["fake", "network"])
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    make: Callable[[Callable[[], tuple[str, str]]], Rig] = request.param
    made = make(lambda: request.getfixturevalue("servers"))
    yield made
    if isinstance(made.checker, NetworkChecker):
        made.checker.close()


@pytest.mark.parametrize(
    ("query", "bounds", "outcome", "value"),
    [
        ("vector(0.5)", {"at_most": 0.5}, Outcome.PASS, 0.5),
        ("vector(0.5)", {"at_most": 0.4}, Outcome.FAIL, 0.5),
        ("vector(0.5)", {"at_least": 0.5}, Outcome.PASS, 0.5),
        ("vector(0.5)", {"at_least": 0.6}, Outcome.FAIL, 0.5),
        ("vector(0.5)", {"at_least": 0.1, "at_most": 0.9}, Outcome.PASS, 0.5),
        ("scalar(vector(3))", {"at_most": 2.0}, Outcome.FAIL, 3.0),
        ("vector(1) / 0", {"at_most": 2.0}, Outcome.FAIL, None),
        (TWO_ZONES, {"at_most": 5.0}, Outcome.PASS, 5.0),
        (TWO_ZONES, {"at_most": 4.0}, Outcome.FAIL, 5.0),
        (TWO_ZONES, {"at_least": 2.0}, Outcome.FAIL, 1.0),
    ],
)
async def test_every_value_of_a_query_must_keep_the_bounds(
    rig: Rig, query: str, bounds: dict[str, float], outcome: Outcome, value: float | None
) -> None:
    answer = await rig.ask(CheckKind.PROMETHEUS, query=query, **bounds)
    assert (answer.outcome, answer.value) == (outcome, value)


async def test_a_failure_names_the_series_that_is_furthest_off(rig: Rig) -> None:
    answer = await rig.ask(CheckKind.PROMETHEUS, query=TWO_ZONES, at_most=0.5)
    assert answer.detail == "{zone=b} is 5, must be at most 0.5 (2 of 2 series)"


@pytest.mark.parametrize(
    ("query", "error", "words"),
    [
        ("vector(1) > 2", Temporary, "empty answer"),
        ("vector(0) / 0", Temporary, "no number"),
        ("sum(", Permanent, "refuses the query"),
    ],
)
async def test_an_answer_that_is_none_is_an_error_and_never_a_pass(
    rig: Rig, query: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        await rig.ask(CheckKind.PROMETHEUS, query=query, at_most=1e9)


async def test_infinity_inside_a_bound_is_no_pass(rig: Rig) -> None:
    with pytest.raises(Temporary, match="no number"):
        await rig.ask(CheckKind.PROMETHEUS, query="vector(1) / 0", at_least=1.0)


@pytest.mark.parametrize("kind", [CheckKind.PROMETHEUS, CheckKind.ALERTS, CheckKind.WEBHOOK])
async def test_a_server_that_is_away_is_an_error(rig: Rig, kind: CheckKind) -> None:
    with pytest.raises(Temporary, match=rf"{rig.nowhere}\S* cannot be reached"):
        await rig.ask(kind, url=rig.nowhere, query="vector(1)", at_most=1.0)


async def test_an_alert_that_matches_and_fires_fails(rig: Rig) -> None:
    for match in ({}, {"severity": "page"}, {"alertname": "AlwaysFiring", "severity": "page"}):
        answer = await rig.ask(CheckKind.ALERTS, match=match)
        assert (answer.outcome, answer.detail) == (Outcome.FAIL, "firing: AlwaysFiring")


@pytest.mark.parametrize("match", [{"severity": "ticket"}, {"team": "storage"}, {"alertname": "NeverFiring"}])
async def test_no_alert_that_matches_passes(rig: Rig, match: dict[str, str]) -> None:
    answer = await rig.ask(CheckKind.ALERTS, match=match)
    assert answer.outcome is Outcome.PASS


@pytest.mark.parametrize("match", [{"alertname": "NoSuchAlert"}, {"alertname": "NeverFiring", "severity": "page"}])
async def test_alerts_that_no_rule_could_fire_mean_nothing(rig: Rig, match: dict[str, str]) -> None:
    with pytest.raises(Temporary, match="no alerting rule that could match"):
        await rig.ask(CheckKind.ALERTS, match=match)


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/pass", Answer(outcome=Outcome.PASS, detail="queue is short")),
        ("/fail", Answer(outcome=Outcome.FAIL, detail="orders are lost")),
        ("/wait", Answer(outcome=Outcome.WAIT)),
    ],
)
async def test_a_program_has_its_say(rig: Rig, path: str, answer: Answer) -> None:
    assert await rig.ask(CheckKind.WEBHOOK, url=f"{rig.program}{path}") == answer


@pytest.mark.parametrize("path", ["/odd", "/list", "/text", "/secret", "/moved", "/large"])
async def test_whatever_a_program_says_that_is_not_clear_is_no_pass(rig: Rig, path: str) -> None:
    with pytest.raises(Permanent):
        await rig.ask(CheckKind.WEBHOOK, url=f"{rig.program}{path}")


async def test_a_program_that_has_no_time_is_asked_again(rig: Rig) -> None:
    with pytest.raises(Temporary):
        await rig.ask(CheckKind.WEBHOOK, url=f"{rig.program}/busy")


async def test_a_person_is_not_asked_here(rig: Rig) -> None:
    with pytest.raises(Permanent, match="reported by a person"):
        await rig.ask(CheckKind.MANUAL, url="")


# --- of the network alone ---


@pytest.fixture
def network(servers: tuple[str, str]) -> Iterator[Rig]:
    rig = real(lambda: servers)
    yield rig
    assert isinstance(rig.checker, NetworkChecker)
    rig.checker.close()


async def test_a_program_is_told_of_the_wave_and_who_asks(network: Rig, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    Program.received.clear()
    await network.ask(CheckKind.WEBHOOK, url=f"{network.program}/pass", token_file=str(token))
    ((_, headers, body),) = Program.received
    assert headers["Authorization"] == "Bearer s3cret"
    assert body == {
        "id": "u1//check-1.1.orders",
        "check": "orders",
        "rollout": "swap-table",
        "wave": 1,
        "waves": 2,
        "hosts": ["a", "b"],
        "kernels": {"x86_64": "7.1.13"},
        "verdict": "promote",
        "sentence": "PROMOTE: every host lives.",
    }


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"token_file": "no-such-token"}, "token_file no-such-token cannot be read"),
        ({"ca_file": "no-such-authority"}, "ca_file no-such-authority is not there"),
    ],
)
async def test_a_file_that_is_missing_is_named(network: Rig, fields: dict[str, str], words: str) -> None:
    with pytest.raises(Permanent, match=words):
        await network.ask(CheckKind.WEBHOOK, url=f"{network.program}/pass", **fields)


async def test_what_does_not_speak_prometheus_is_called_so(network: Rig) -> None:
    with pytest.raises(Permanent, match="does not speak Prometheus' protocol"):
        await network.ask(CheckKind.PROMETHEUS, url=network.program, query="up", at_most=1.0)


async def test_a_range_of_values_is_no_answer_to_a_bound(network: Rig) -> None:
    with pytest.raises(Permanent, match="one number per series"):
        await network.ask(CheckKind.PROMETHEUS, query="prometheus_build_info[1m]", at_most=1.0)


async def test_a_real_series_of_prometheus_itself(network: Rig) -> None:
    answer = await network.ask(CheckKind.PROMETHEUS, query='up{job="itself"}', at_least=1.0)
    assert (answer.outcome, answer.value) == (Outcome.PASS, 1.0)
