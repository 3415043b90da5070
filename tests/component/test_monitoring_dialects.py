"""Servers that speak Prometheus' protocol in their own ways: an unknown word never means that all is well."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, ClassVar

import pytest

from controller.adapters.checks.checker import NetworkChecker
from controller.domain.errors import Permanent, Temporary
from controller.domain.record.checks import Answer, Check, CheckKind, Outcome, Question

QUESTION = Question(
    id="u1", check="c", rollout="r", wave=1, waves=1, hosts=("a",), kernels={}, verdict="promote", sentence="PROMOTE."
)


class Server(BaseHTTPRequestHandler):
    """Answers everything with the same document."""

    document: ClassVar[dict[str, Any]] = {}
    asked: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        """Answer a query."""
        self.do_GET()

    def do_GET(self) -> None:
        """Answer."""
        self.asked.append(self.path)
        content = json.dumps(self.document).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_arguments: object) -> None:
        """Keep the tests' output clean."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


async def ask(url: str, document: dict[str, Any], kind: CheckKind, **fields: Any) -> Answer:
    Server.document = document
    checker = NetworkChecker()
    try:
        check = Check(name="c", kind=kind, url=url, every_s=1.0, deadline_s=60.0, **fields)
        return await checker.ask(check, QUESTION)
    finally:
        checker.close()


async def query(url: str, **beside: Any) -> Answer:
    data = {"resultType": "vector", "result": [{"metric": {}, "value": [1, "0.5"]}]}
    document = {"status": "success", "data": data | beside.pop("data", {}), **beside}
    return await ask(url, document, CheckKind.PROMETHEUS, query="up", at_most=1.0)


LABELS = {"severity": "page"}


def rule(**changes: Any) -> dict[str, Any]:
    base = {"type": "alerting", "name": "Down", "labels": LABELS, "health": "ok", "state": "inactive", "alerts": []}
    return {key: value for key, value in (base | changes).items() if value != "left out"}


async def alerts(url: str, *rules: dict[str, Any], **match: str) -> Answer:
    document = {"status": "success", "data": {"groups": [{"name": "g", "rules": list(rules)}]}}
    return await ask(url, document, CheckKind.ALERTS, match=match)


def alert(state: Any, **labels: str) -> dict[str, Any]:
    return {"state": state, "labels": {"alertname": "Down", **LABELS, **labels}}


@pytest.mark.parametrize(
    "beside",
    [
        {"isPartial": True},
        {"partial": True},
        {"partialResponse": True},
        {"data": {"isPartial": True}},
        {"warnings": ["a store is away"]},
        {"warnings": ["PromQL info: metric might not be a counter", "a store is away"]},
        {"warnings": ["PromQL warning: bucket label is missing"]},
        {"warnings": "a store is away"},
        {"warnings": {"store": "away"}},
    ],
)
async def test_a_partial_answer_is_an_error(url: str, beside: dict[str, Any]) -> None:
    with pytest.raises(Temporary, match="gives an incomplete answer: "):
        await query(url, **beside)


@pytest.mark.parametrize(
    "beside",
    [
        {},
        {"isPartial": False},
        {"warnings": []},
        {"warnings": None},
        {"warnings": ["PromQL info: metric might not be a counter"]},
        {"infos": ["PromQL info: metric might not be a counter"]},
        {"trace": {}, "stats": {"seriesFetched": "1"}},
    ],
)
async def test_a_remark_and_what_other_makes_tell_beside_are_none(url: str, beside: dict[str, Any]) -> None:
    assert (await query(url, **beside)).outcome is Outcome.PASS


async def test_servers_that_gather_from_several_are_asked_for_the_whole(url: str) -> None:
    await query(url)
    assert "partial_response=false" in Server.asked[-1]
    assert "deny_partial_response=1" in Server.asked[-1]


@pytest.mark.parametrize(
    "fires",
    [
        rule(state="firing", alerts=[alert("firing")]),
        rule(state="firing", alerts=[alert("Alerting")]),
        rule(state="firing", alerts=[alert("Alerting (NoData)")]),
        rule(state="firing", alerts=[alert("Recovering")]),
        rule(state="inactive", alerts=[alert("Normal"), alert("Alerting")]),
        rule(state="firing", alerts=[]),
        rule(state="firing", alerts=None),
        rule(state="firing", alerts="left out"),
        rule(state="Alerting", alerts="left out"),
        rule(state="firing", alerts=[alert("pending")]),
        rule(state="left out", alerts=[alert("firing")]),
        rule(state="firing", alerts=[{"state": "Alerting", "labels": LABELS}]),
        # It fires in a state that is known, whatever the others are in.
        rule(state="firing", alerts=[alert("Odd"), alert("firing")]),
        rule(type="grafana", state="firing"),
        rule(state="firing", alerts=[alert("NoData")]),
    ],
)
@pytest.mark.parametrize("match", [{}, {"severity": "page"}, {"alertname": "Down"}])
async def test_a_rule_that_fires_in_other_words_fails(url: str, fires: dict[str, Any], match: dict[str, str]) -> None:
    answer = await alerts(url, rule(name="Other"), fires, **match)
    assert (answer.outcome, answer.detail) == (Outcome.FAIL, "firing: Down")


@pytest.mark.parametrize(
    ("unclear", "why"),
    [
        (rule(alerts=[alert("NoData")]), "whether the state 'NoData' fires is not known"),
        (rule(alerts=[alert("Error")]), "whether the state 'Error' fires is not known"),
        (rule(alerts=[alert(None)]), "whether the state None fires is not known"),
        (rule(state="unknown"), "whether the state 'unknown' fires is not known"),
        (rule(state=""), "whether the state '' fires is not known"),
        (rule(state="left out", alerts="left out"), "whether the state None fires is not known"),
        (rule(health="nodata"), "its health is nodata"),
        (rule(health="error", lastError="away"), "away"),
        (rule(health="unknown"), "not yet, since the server began"),
        # It fires, and which of its alerts nobody says.
        (rule(state="firing", labels={"severity": "{{ $labels.severity }}"}), "does not list its alerts"),
    ],
)
async def test_a_state_that_nobody_knows_never_means_that_nothing_fires(
    url: str, unclear: dict[str, Any], why: str
) -> None:
    with pytest.raises(Temporary, match=why):
        await alerts(url, rule(name="Other"), unclear, severity="page")


@pytest.mark.parametrize(
    "quiet",
    [
        rule(),
        rule(alerts=[alert("pending")], state="pending"),
        rule(alerts=[alert("Normal"), alert("Normal (Updated)"), alert("Pending")]),
        rule(state="left out"),
        rule(alerts="left out"),
        # What fires does not match.
        rule(name="Up", state="firing", alerts=[alert("Alerting", severity="ticket", alertname="Up")]),
    ],
)
async def test_what_does_not_fire_passes(url: str, quiet: dict[str, Any]) -> None:
    recording = {"type": "recording", "name": "sum", "health": "ok"}
    assert (await alerts(url, recording, quiet, severity="page")).outcome is Outcome.PASS


async def test_what_lists_no_rules_does_not_speak_the_protocol(url: str) -> None:
    with pytest.raises(Permanent, match="does not speak Prometheus' protocol"):
        await ask(url, {"status": "success", "data": {}}, CheckKind.ALERTS)
