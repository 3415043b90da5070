"""Prometheus through prometheus-api-client: the values of a query, and the alerting rules with what fires.

The library is synchronous: call these from a thread. It takes any answer of status 200 for whole, brings retries that
would hide errors that are to be counted, and has no limits of its own; all are changed here.
"""

import functools
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import requests
from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException

from controller.adapters.checks.web import one_line, refuse_status, session_for
from controller.adapters.local.bounded_http import Limits
from controller.domain.errors import Permanent, Temporary
from controller.domain.record.checks import AlertRule, Check, Sample

# Of the server's own work; it gives up before we do.
_QUERY_TIMEOUT_S = 10
# A bound over more series than this is a mistake in the query. Servers that know the parameter cut off and say so.
_MOST_SERIES = 10_000
# As its protocol writes them; Python would read more, as the digits of other scripts.
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
# What other makes of server call an alert's or a rule's state, by its first word: Grafana's "Alerting (NoData)".
# An alert that recovers still fires. Of any other word nobody knows.
_FIRES = frozenset({"firing", "alerting", "recovering"})
_DOES_NOT_FIRE = frozenset({"inactive", "pending", "normal", "ok"})
# Why an alert is in its state, in brackets. With others ("Normal (Error)") it was told not to fire although nothing
# was learnt.
_HARMLESS_REASONS = frozenset({"missingseries", "updated", "ruledeleted"})
# What Grafana says of a rule that nobody evaluates for now.
_PAUSED = ("isPaused", "is_paused", "paused")
# How a time that never was is written.
_NEVER = ("0001-01-01", "1970-01-01T00:00:00")
# What says that more groups of rules follow, and how many answers are asked for at most.
_NEXT_PAGE = ("groupNextToken", "group_next_token")
_MOST_PAGES = 100
# VictoriaMetrics says so of an answer that lacks what some of its storage nodes have.
_PARTIAL = ("isPartial", "partial", "partialResponse")
# M3 says so beside the answer, with the limit that cut it off.
_LIMITED = "M3-Results-Limited"
# With one number per series.
_RESULT_TYPES = ("vector", "scalar")
# A remark about the query that is no doubt about its answer; later servers tell it as one of "infos".
_REMARK = "PromQL info:"
_WORDS = re.compile(r"[^\s(),]+")
_OTHER_NUMBERS = {"NaN": math.nan, "Inf": math.inf, "+Inf": math.inf, "-Inf": -math.inf}


def query_samples(check: Check, limits: Limits) -> list[Sample]:
    """Return the values that the check's query has now. Raises Temporary or Permanent."""
    with _connected(check, limits) as (prometheus, _):
        result = prometheus.custom_query(
            check.query,
            params={
                "timeout": f"{_QUERY_TIMEOUT_S}s",
                "limit": _MOST_SERIES,
                # Of servers that gather from several: a part is not the answer.
                "partial_response": "false",
                "deny_partial_response": "1",
            },
        )
        samples = list(_samples(check, result))
    if len(samples) > _MOST_SERIES:
        raise Permanent(f"the query has {len(samples)} series, at most {_MOST_SERIES} are judged: {check.query}")
    return samples


def alert_rules(check: Check, limits: Limits) -> list[AlertRule]:
    """Return the alerting rules of the server with what fires now. Raises Temporary or Permanent."""
    # The library knows no rules; its session, with its deadlines, asks for them.
    with _connected(check, limits) as (_, session):
        groups = _groups(check, session)
        return [_rule(rule) for group in groups for rule in group["rules"] if rule["type"] != "recording"]


def _groups(check: Check, session: requests.Session) -> Iterator[dict[str, Any]]:
    """Yield the groups of rules, of every page where the server gives them in pages."""
    params: dict[str, str] = {"type": "alert"}
    for _ in range(_MOST_PAGES):
        data = session.get(f"{check.url}/api/v1/rules", params=params).json()["data"]
        yield from data["groups"]
        token = next((data[word] for word in _NEXT_PAGE if data.get(word)), None)
        if token is None:
            return
        if _text(token) == params.get("group_next_token"):
            raise Temporary(f"{check.url} gives the same page of its rules again and again")
        # A token alone is refused; a page is as large as the server's own first one.
        params = {"group_limit": str(max(1, len(data["groups"])))} | params | {"group_next_token": token}
    raise Temporary(f"{check.url} gives its rules in more than {_MOST_PAGES} pages")


@contextmanager
def _connected(check: Check, limits: Limits) -> Iterator[tuple[Any, requests.Session]]:
    with session_for(check, limits) as session:
        session.hooks["response"].append(functools.partial(_refuse, check))
        # The library has no types.
        connect: Any = PrometheusConnect
        try:
            prometheus = connect(url=check.url, session=session)
            # It has put its own way to send requests before ours.
            session.mount(check.url, session.get_adapter("http://"))
            yield prometheus, session
        except PrometheusApiClientException as error:
            raise Temporary(f"{check.url} refuses: {one_line(error)}") from error
        except (LookupError, TypeError, AttributeError) as error:
            raise Permanent(
                f"what answers at {check.url} does not speak Prometheus' protocol: {one_line(repr(error))}"
            ) from error


def _refuse(check: Check, response: requests.Response, **_named: Any) -> None:
    """Raise for what is no whole answer, with the server's own words."""
    if response.is_redirect:
        return
    try:
        said = response.json()
    except requests.exceptions.JSONDecodeError:
        said = None
    if isinstance(said, dict) and said.get("error"):
        what = f"{check.url} refuses the query {check.query}" if check.query else f"{check.url} refuses"
        text = f"{what}: {one_line(said['error'])}"
        # A query that it cannot read stays one.
        raise Permanent(text) if said.get("errorType") == "bad_data" else Temporary(text)
    refuse_status(check, response)
    if not isinstance(said, dict):
        return
    _refuse_other_answers(check, said)
    if why := _incomplete(said, response.headers.get(_LIMITED)):
        raise Temporary(f"{check.url} gives an incomplete answer: {one_line(why)}")


def _refuse_other_answers(check: Check, said: dict[str, Any]) -> None:
    """Raise for an answer that does not say that it is one, or is of a kind that no bound can judge."""
    if "status" not in said:
        raise Permanent(f"what answers at {check.url} does not speak Prometheus' protocol: it tells no status")
    if said["status"] != "success":
        raise Temporary(f"{check.url} answers with the status {one_line(repr(said['status']))}, and does not say why")
    data = said.get("data")
    if check.query and isinstance(data, dict) and data.get("resultType") not in _RESULT_TYPES:
        kind = one_line(repr(data.get("resultType")))
        raise Permanent(f"the query does not answer with one number per series now, but with a {kind}: {check.query}")


def _incomplete(said: dict[str, Any], limited: str | None) -> Any:
    """Return why an answer is none of the whole; None when nothing says so."""
    if limited:
        return f"{_LIMITED} is {limited}"
    data = said.get("data")
    for part in (said, data if isinstance(data, dict) else {}):
        if word := next((word for word in _PARTIAL if part.get(word)), None):
            return f"{word} is {part[word]}"
    warnings = said.get("warnings") or ()
    told = warnings if isinstance(warnings, list) else (warnings,) if warnings else ()
    return next((each for each in told if not str(each).startswith(_REMARK)), None)


def _samples(check: Check, result: Any) -> Iterator[Sample]:
    """Yield the values of a vector or a scalar."""
    if len(result) == 2 and isinstance(result[1], str):
        yield Sample(value=_number(check, result[1]))
        return
    for one in result:
        if "value" not in one:
            raise Permanent(f"the query does not answer with one number per series now: {check.query}")
        yield Sample(labels=_labels(one["metric"]), value=_number(check, one["value"][1]))


def _number(check: Check, text: str) -> float:
    if _NUMBER.fullmatch(text):
        return float(text)
    if text not in _OTHER_NUMBERS:
        raise Permanent(f"the query answers with {one_line(text)!r}, which is no number: {check.query}")
    return _OTHER_NUMBERS[text]


def _rule(rule: dict[str, Any]) -> AlertRule:
    error = ""
    if rule["health"] != "ok":
        # A rule is "unknown" until the server has evaluated it for the first time.
        what = "not yet, since the server began" if rule["health"] == "unknown" else f"its health is {rule['health']}"
        error = one_line(rule.get("lastError") or what)
    elif any(rule.get(word) is True for word in _PAUSED):
        error = "it is paused"
    elif str(rule.get("lastEvaluation")).startswith(_NEVER):
        error = "not yet, since the server began"
    name, labels = _text(rule["name"]), _labels(rule.get("labels") or {})
    alerts = [(_fires(alert["state"]), alert) for alert in rule.get("alerts") or ()]
    firing = [{"alertname": name, **_labels(alert["labels"])} for fires, alert in alerts if fires]
    # A server that lists alerts need not tell the state beside them.
    of_rule = False if "state" not in rule and "alerts" in rule else _fires(rule.get("state"))
    if of_rule and not firing:
        # It does not list its alerts. What they fill in of their labels, and what they bring along, is not known.
        firing = [{"alertname": name} | {key: value for key, value in labels.items() if "{{" not in value}]
        error = error or "it fires, and the server does not list its alerts"
    strange = [alert["state"] for fires, alert in alerts if fires is None] + [rule.get("state")] * (of_rule is None)
    if strange:
        error = error or one_line(f"whether the state {strange[0]!r} fires is not known here")
    return AlertRule(name=name, labels=labels, error=error, firing=tuple(firing))


def _fires(state: Any) -> bool | None:
    """Return whether a state is one in which an alert fires; None for a word that nobody knows."""
    word, *reasons = _WORDS.findall(str(state).lower()) or [""]
    if word in _FIRES:
        return True
    return False if word in _DOES_NOT_FIRE and _HARMLESS_REASONS.issuperset(reasons) else None


def _labels(said: Any) -> dict[str, str]:
    return {_text(name): _text(value) for name, value in dict(said).items()}


def _text(said: Any) -> str:
    if not isinstance(said, str):
        raise TypeError(f"{said!r} is no text")
    return said
