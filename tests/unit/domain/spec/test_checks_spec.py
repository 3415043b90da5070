"""How a rollout file writes checks, and what is said of wrong ones: line, field, and what to write instead."""

import pytest
from spec_texts import BODY, HEAD, refusal

from controller.domain.record.checks import Check, CheckKind, asked_text, bound_text
from controller.domain.spec.parse import parse_spec

CHECKS = """\
  checks:
    - name: api-errors
      prometheus:
        url: http://127.0.0.1:9090/
        query: sum(rate(http_requests_total{code=~"5.."}[5m]))
        max: 0.5
      every: 10s
      deadline: 10m
      on_fail: revert
    - name: no-pages
      alerts: {url: "https://prom.example:9090", match: {severity: page}, ca_file: /etc/kernroll/prom.pem}
      dry_run: true
    - name: orders
      webhook: {url: "https://orders.example/gate?team=shop", token_file: /etc/kernroll/orders}
      on_timeout: revert
    - name: database-team
      manual: true
"""


def checks(text: str) -> tuple[Check, ...]:
    return tuple(one.check for one in parse_spec(f"{HEAD}{BODY}{text}", "rollout.yaml").checks)


def wrong(entry: str) -> list[str]:
    """Return what is said of one check; it stands in line 11."""
    return refusal(f"{HEAD}{BODY}  checks:\n    - {entry}\n")


def test_all_four_kinds_are_read() -> None:
    errors, pages, orders, person = checks(CHECKS)
    assert (errors.kind, errors.url, errors.at_most, errors.at_least) == (
        CheckKind.PROMETHEUS,
        "http://127.0.0.1:9090",
        0.5,
        None,
    )
    assert (errors.every_s, errors.deadline_s, errors.on_fail, errors.on_timeout) == (10.0, 600.0, "revert", "pause")
    assert (pages.kind, pages.match, pages.dry_run, pages.ca_file) == (
        CheckKind.ALERTS,
        {"severity": "page"},
        True,
        "/etc/kernroll/prom.pem",
    )
    assert (orders.kind, orders.token_file, orders.on_timeout) == (CheckKind.WEBHOOK, "/etc/kernroll/orders", "revert")
    assert orders.url == "https://orders.example/gate?team=shop"
    assert (orders.every_s, orders.deadline_s, orders.on_fail) == (30.0, 1800.0, "pause")
    assert (person.kind, person.deadline_s) == (CheckKind.MANUAL, 86_400.0)


def test_without_checks_there_are_none() -> None:
    assert checks("") == ()


def test_what_is_asked_is_told_in_words() -> None:
    told = [asked_text(check) for check in checks(CHECKS)]
    assert told[0].endswith("at http://127.0.0.1:9090 must be at most 0.5")
    assert told[1] == "no alert with severity=page may fire at https://prom.example:9090"
    assert told[3] == "a person must report that it passes"
    assert bound_text(checks(CHECKS)[0]) == "at most 0.5"


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("{name: a}", "needs one of prometheus, alerts, webhook or manual"),
        ("{name: a, manual: true, webhook: {url: 'http://h'}}", "takes only one of prometheus"),
        ("{name: a, prometheus: {url: 'http://p', query: up}}", "spec.checks[0].prometheus: needs max or min"),
        ("{name: a, prometheus: {url: 'http://p', query: up, min: 2, max: 1}}", "min 2 is more than max 1"),
        ("{name: a, prometheus: {url: 'http://p', max: 1}}", "spec.checks[0].prometheus.query: is missing"),
        ("{name: a, prometheus: {url: 'http://p?x=1', query: up, max: 1}}", "without a question mark"),
        (
            "{name: a, prometheus: {url: prom:9090, query: up, max: 1}}",
            "spec.checks[0].prometheus.url: must be an address",
        ),
        ("{name: a, webhook: {url: 'ftp://h'}}", "must be an address such as"),
        ("{name: a, webhook: {url: 'http://h:99999'}}", "must be an address such as"),
        ("{name: a, webhook: {url: 'http://me:secret@h'}}", "must not hold a password"),
        ("{name: a, webhook: {url: 'http://h', token_file: here}}", "absolute path on the controller's machine"),
        ("{name: a, webhook: {url: 'http://h'}, every: 100ms}", "must be at least 1"),
        ("{name: a, webhook: {url: 'http://h'}, on_timeout: pass}", "on_timeout: must be pause or revert"),
        ("{name: a, webhook: {url: 'http://h'}, deadline: 0s}", "must be more than 0"),
        ("{name: a, manual: false}", "manual: must be true"),
        ("{name: a, manual: true, every: 10s}", "leave `every` out"),
        ("{name: a, manual: true, dry_run: true}", "leave one of them out"),
        ("{name: A b, manual: true}", "lower-case letters"),
        ("{name: a, promethus: {url: 'http://p', query: up, max: 1}}", "did you mean prometheus?"),
    ],
)
def test_what_is_wrong_is_said_with_its_line_and_field(entry: str, said: str) -> None:
    lines = wrong(entry)
    assert any(said in line for line in lines), lines
    assert all(line.startswith("rollout.yaml:11: spec.checks[0]") for line in lines), lines


def test_two_checks_of_one_name_are_refused() -> None:
    text = f"{HEAD}{BODY}  checks:\n    - {{name: a, manual: true}}\n    - {{name: a, manual: true}}\n"
    (line,) = refusal(text)
    assert (
        line == "rollout.yaml:12: spec.checks[1].name: is the name of an earlier check (a); every check needs its own"
    )
