"""Servers that speak Prometheus' protocol in their own ways: an unknown word never means that all is well."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest

from controller.adapters.checks.checker import NetworkChecker
from controller.domain.errors import Permanent, Temporary
from controller.domain.record.checks import Answer, Check, CheckKind, Outcome, Question

QUESTION = Question(
    id="u1", check="c", rollout="r", wave=1, waves=1, hosts=("a",), kernels={}, verdict="promote", sentence="PROMOTE."
)


class Server(BaseHTTPRequestHandler):
    """Answers everything with the same document."""

    document: ClassVar[Any] = {}
    # What comes after it, by the token that asks for it.
    pages: ClassVar[dict[str, dict[str, Any]]] = {}
    headers_beside: ClassVar[dict[str, str]] = {}
    asked: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        """Answer a query."""
        self.do_GET()

    def do_GET(self) -> None:
        """Answer."""
        self.asked.append(self.path)
        token = parse_qs(urlsplit(self.path).query).get("group_next_token", [""])[0]
        content = json.dumps(self.pages.get(token, self.document)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        for name, value in self.headers_beside.items():
            self.send_header(name, value)
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


async def ask(url: str, document: Any, kind: CheckKind, **fields: Any) -> Answer:
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
        (rule(alerts=[alert("Normal (Error)")]), r"whether the state 'Normal \(Error\)' fires is not known"),
        (rule(alerts=[alert("Normal (NoData, KeepLast)")]), "fires is not known"),
        (rule(alerts=[alert("Normal(NoData)")]), "fires is not known"),
        (rule(alerts=[alert("Pending (Error)")]), "fires is not known"),
        (rule(alerts=[alert("Normal (Paused)")]), "fires is not known"),
        (rule(alerts=[alert(None)]), "whether the state None fires is not known"),
        (rule(state="unknown"), "whether the state 'unknown' fires is not known"),
        (rule(state=""), "whether the state '' fires is not known"),
        (rule(state="left out", alerts="left out"), "whether the state None fires is not known"),
        (rule(health="nodata"), "its health is nodata"),
        (rule(health="error", lastError="away"), "away"),
        (rule(health="unknown"), "not yet, since the server began"),
        (rule(lastEvaluation="0001-01-01T00:00:00Z"), "not yet, since the server began"),
        (rule(isPaused=True), "it is paused"),
        (rule(is_paused=True), "it is paused"),
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
        rule(alerts=[alert("Normal"), alert("Normal (Updated)"), alert("Normal (MissingSeries)"), alert("Pending")]),
        rule(isPaused=False, lastEvaluation="2026-03-02T10:11:12Z"),
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


async def test_an_answer_of_which_the_server_itself_says_that_it_is_cut_off_is_an_error(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Server, "headers_beside", {"M3-Results-Limited": "max_fetch_series_limit_applied"})
    with pytest.raises(Temporary, match="incomplete answer: M3-Results-Limited is max_fetch_series_limit_applied"):
        await query(url)


@pytest.mark.parametrize("kind", [CheckKind.PROMETHEUS, CheckKind.ALERTS])
@pytest.mark.parametrize(
    ("status", "error", "why"),
    [
        ({"status": "error", "error": ""}, Temporary, "answers with the status 'error', and does not say why"),
        ({"status": "pending"}, Temporary, "answers with the status 'pending'"),
        ({}, Permanent, "does not speak Prometheus' protocol: it tells no status"),
    ],
)
async def test_only_an_answer_that_says_that_it_is_one_counts(
    url: str, kind: CheckKind, status: dict[str, str], error: type[Exception], why: str
) -> None:
    result = {"resultType": "vector", "result": [{"metric": {}, "value": [1, "0.5"]}]}
    document = {"data": {"groups": [{"name": "g", "rules": [rule()]}], **result}, **status}
    with pytest.raises(error, match=why):
        await ask(url, document, kind, query="up" if kind is CheckKind.PROMETHEUS else "", at_most=1.0)


@pytest.mark.parametrize("kind", ["string", "matrix", None])
async def test_an_answer_that_is_no_number_per_series_is_no_answer(url: str, kind: str | None) -> None:
    with pytest.raises(Permanent, match="one number per series"):
        await query(url, data={"resultType": kind, "result": [1, "1"]})


def page(*rules: dict[str, Any], **more: str) -> dict[str, Any]:
    return {"status": "success", "data": {"groups": [{"name": "g", "rules": list(rules)}], **more}}


@pytest.mark.parametrize("word", ["groupNextToken", "group_next_token"])
async def test_rules_in_pages_are_read_to_their_end(url: str, word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fires = page(rule(state="firing", alerts=[alert("firing")]))
    monkeypatch.setattr(Server, "pages", {"two": page(rule(name="Up"), **{word: "three"}), "three": fires})
    answer = await ask(url, page(rule(name="Other"), **{word: "two"}), CheckKind.ALERTS)
    assert (answer.outcome, answer.detail) == (Outcome.FAIL, "firing: Down")
    # A token is taken only together with a size.
    assert "group_limit=1" in Server.asked[-1]


async def test_pages_without_end_are_an_error(url: str) -> None:
    with pytest.raises(Temporary, match="the same page of its rules again and again"):
        await ask(url, page(rule(), groupNextToken="two"), CheckKind.ALERTS)
