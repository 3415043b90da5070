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

from controller.adapters.checks.bounded_http import Limits
from controller.adapters.checks.web import one_line, refuse_status, session_for
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
# VictoriaMetrics says so of an answer that lacks what some of its storage nodes have.
_PARTIAL = ("isPartial", "partial", "partialResponse")
# A remark about the query that is no doubt about its answer; later servers tell it as one of "infos".
_REMARK = "PromQL info:"
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
        response = session.get(f"{check.url}/api/v1/rules", params={"type": "alert"})
        groups = response.json()["data"]["groups"]
        return [_rule(rule) for group in groups for rule in group["rules"] if rule["type"] != "recording"]


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
    if isinstance(said, dict) and (why := _incomplete(said)):
        raise Temporary(f"{check.url} gives an incomplete answer: {one_line(why)}")


def _incomplete(said: dict[str, Any]) -> Any:
    """Return why an answer is none of the whole; None when nothing says so."""
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
    words = str(state).lower().split()
    word = words[0] if words else ""
    return True if word in _FIRES else False if word in _DOES_NOT_FIRE else None


def _labels(said: Any) -> dict[str, str]:
    return {_text(name): _text(value) for name, value in dict(said).items()}


def _text(said: Any) -> str:
    if not isinstance(said, str):
        raise TypeError(f"{said!r} is no text")
    return said
