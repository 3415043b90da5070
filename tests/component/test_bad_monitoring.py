"""Monitoring servers that answer as no server should: each try ends early and small, and others are still asked."""

import asyncio
import contextlib
import json
import math
import os
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import bad_web_servers as bad
import pytest
from checking_controller import Checking, baked
from engine_parts import TEXT
from patience import PATIENCE_S

from controller.adapters.checks.checker import NetworkChecker
from controller.adapters.local.bounded_http import Limits
from controller.domain.errors import KernrollError, Permanent, Temporary
from controller.domain.record.checks import Answer, Check, CheckKind, Outcome, Question
from controller.domain.state.rollout import State

QUESTION = Question(
    id="u1", check="c", rollout="r", wave=1, waves=1, hosts=("a",), kernels={}, verdict="promote", sentence="PROMOTE."
)
SHORT = Limits(total_s=1.0)
KINDS = (CheckKind.PROMETHEUS, CheckKind.ALERTS, CheckKind.WEBHOOK)


@pytest.fixture
def checker() -> Iterator[NetworkChecker]:
    checker = NetworkChecker(SHORT)
    yield checker
    checker.close()


@pytest.fixture
def patient() -> Iterator[NetworkChecker]:
    """A checker that waits for whoever answers, however busy the machine is."""
    checker = NetworkChecker(Limits(total_s=PATIENCE_S))
    yield checker
    checker.close()


def check_of(kind: CheckKind, url: str, **fields: Any) -> Check:
    bound = {"query": "up", "at_most": 1.0} if kind is CheckKind.PROMETHEUS else {}
    return Check(name="c", kind=kind, url=url, every_s=1.0, deadline_s=60.0, **{**bound, **fields})


async def ask(checker: NetworkChecker, kind: CheckKind, url: str, **fields: Any) -> Answer:
    async with asyncio.timeout(PATIENCE_S):
        return await checker.ask(check_of(kind, url, **fields), QUESTION)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("talk", [bad.dripping_header, bad.dripping_body, bad.dripping_chunks, bad.silent])
async def test_a_server_that_comes_to_no_end_is_given_up(
    checker: NetworkChecker, talk: bad.Talk, kind: CheckKind
) -> None:
    with bad.serving(talk) as server, pytest.raises(Temporary, match=r"not to the end, within 1 s"):
        await ask(checker, kind, f"http://{server}")


@pytest.mark.parametrize("talk", [bad.silent, bad.dripping_header])
async def test_a_handshake_that_comes_to_no_end_is_given_up(checker: NetworkChecker, talk: bad.Talk) -> None:
    with bad.serving(talk, reads=False) as server, pytest.raises(KernrollError):
        await ask(checker, CheckKind.PROMETHEUS, f"https://{server}")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "talk",
    [
        bad.endless_chunks,
        bad.endless_body,
        bad.endless_chunk_size,
        bad.endless_headers,
        bad.continuing,
        bad.gzip_bomb,
        bad.bomb_in_redirect,
    ],
)
async def test_a_server_without_measure_costs_little(checker: NetworkChecker, talk: bad.Talk, kind: CheckKind) -> None:
    with bad.serving(talk) as server:
        tracemalloc.start()
        try:
            with pytest.raises(KernrollError):
                await ask(checker, kind, f"http://{server}")
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    # The server's own sending buffers among it.
    assert peak < 48 * 2**20


@pytest.mark.parametrize("kind", KINDS[:2])
async def test_redirections_end(patient: NetworkChecker, kind: CheckKind) -> None:
    with bad.serving(bad.redirecting) as server, pytest.raises(Permanent, match="redirects more than 3 times"):
        await ask(patient, kind, f"http://{server}")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "body",
    [
        b"[" * 200_000,
        b'{"data":' * 200_000,
        b"[" * 60_000 + b"]" * 60_000,
        b'{"state": ' + b"9" * 10_000 + b"}",
        b'{"state": "pass", "detail": ' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"data": {"result": [' + b"{}," * 600_000 + b"{}]}}",
        b'{"data": {"result": [[], [], []], "groups": [[]]}}',
        b'{"data": {"result": [{"metric": {}, "value": []}], "groups": [{"rules": [{"type": "alerting"}]}]}}',
        b'{"data": {"result": [{"metric": [1], "value": [1, "1"]}], "groups": 7}}',
        b'{"data": {"result": [{"metric": {"a": {}}, "value": [1, "1"]}], "groups": null}}',
        b'{"data": {"result": [{"metric": {}, "value": [1, {}]}], "groups": {"a": 1}}}',
        b'{"data": {"result": 5, "groups": [1]}}',
        b'{"data": {"result": null, "groups": "abc"}}',
        b"\xff\xfe\x00",
        b"NaN",
        b"",
    ],
    ids=range(16),
)
async def test_json_that_is_none_is_an_error_of_the_server(
    checker: NetworkChecker, body: bytes, kind: CheckKind
) -> None:
    with bad.serving(bad.saying(body)) as server:
        try:
            answer = await ask(checker, kind, f"http://{server}")
        except KernrollError as error:
            assert len(str(error)) < 1000
            assert str(error).isprintable()
        else:
            # What a program says besides its word is cut, not judged.
            assert kind is CheckKind.WEBHOOK
            assert b'"pass"' in body
            assert len(answer.detail) <= 300


@pytest.mark.parametrize("value", ["1_0", " 1", "1 ", "١", "²", "0x1", "infinity", "nan", "1e", "", "--1", "1,5"])
async def test_only_numbers_as_the_protocol_writes_them_are_numbers(patient: NetworkChecker, value: str) -> None:
    with bad.serving(bad.saying(bad.vector(value))) as server, pytest.raises(Permanent, match="no number"):
        await ask(patient, CheckKind.PROMETHEUS, f"http://{server}", at_most=1e9)


@pytest.mark.parametrize(("value", "number"), [("0.5", 0.5), ("-3", -3.0), ("1e+06", 1e6), ("5e-324", 5e-324)])
async def test_numbers_are_numbers(patient: NetworkChecker, value: str, number: float) -> None:
    with bad.serving(bad.saying(bad.vector(value))) as server:
        answer = await ask(patient, CheckKind.PROMETHEUS, f"http://{server}", at_most=1e9)
    assert (answer.outcome, answer.value) == (Outcome.PASS, number)


@pytest.mark.parametrize(("value", "words"), [("+Inf", " infinite,"), ("-Inf", "-infinite,"), ("1e999", " infinite,")])
async def test_what_is_beyond_all_numbers_fails_in_words(patient: NetworkChecker, value: str, words: str) -> None:
    with bad.serving(bad.saying(bad.vector(value, zone="b"))) as server:
        answer = await ask(patient, CheckKind.PROMETHEUS, f"http://{server}", at_most=1.0, at_least=0.0)
    assert (answer.outcome, answer.value) == (Outcome.FAIL, None)
    assert words in answer.detail


async def test_labels_are_told_on_one_line_of_bounded_length(patient: NetworkChecker) -> None:
    labels = {f"l{number}": "\x1b[2J\u202e\n# x: promoted" + "y" * 10_000 for number in range(100)}
    with bad.serving(bad.saying(bad.vector("7", **labels))) as server:
        answer = await ask(patient, CheckKind.PROMETHEUS, f"http://{server}")
    assert answer.outcome is Outcome.FAIL
    assert answer.detail.isprintable()
    assert len(answer.detail) < 1500
    assert "92 more} is 7" in answer.detail


@pytest.mark.parametrize("kind", ["pipe", "device", "directory", "large"])
async def test_a_token_is_read_from_a_small_regular_file(checker: NetworkChecker, tmp_path: Path, kind: str) -> None:
    token = tmp_path / "token"
    match kind:
        case "pipe":
            os.mkfifo(token)
        case "device":
            token = Path("/dev/zero")
        case "directory":
            token.mkdir()
        case _:
            token.write_text("x" * 100_000)
    with pytest.raises(Permanent, match="token_file"):
        await ask(checker, CheckKind.WEBHOOK, "http://127.0.0.1:9", token_file=str(token))


# --- one bad server beside good ones ---


@contextlib.asynccontextmanager
async def _until_promoted(checking: Checking) -> AsyncIterator[None]:
    checking.run()
    try:
        await checking.until(State.PROMOTED)
        yield
    finally:
        await checking.end()


async def test_four_bad_servers_take_nothing_from_the_good_one() -> None:
    asked: list[int] = []
    words = [json.dumps({"state": state}).encode() for state in ("wait", "wait", "pass")]

    def good(connection: Any, over: Any) -> None:
        asked.append(len(asked))
        bad.saying(words[min(len(asked), len(words)) - 1])(connection, over)

    talks = (bad.dripping_header, bad.dripping_body, bad.endless_chunks, bad.silent)
    # A bad server is not given up before this test is.
    checker = NetworkChecker(Limits(total_s=2 * PATIENCE_S))
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(bad.serving(talk)) for talk in talks]
        lines = [
            f"  - {{name: orders, webhook: {{url: 'http://{stack.enter_context(bad.serving(good))}'}}, every: 1s}}"
        ]
        for number in range(24):
            # Only reported, so that they hold nothing back but what they take.
            url = f"http://{servers[number % len(servers)]}"
            asks = f"prometheus: {{url: '{url}', query: up, max: 1}}"
            lines.append(f"  - {{name: bad-{number}, {asks}, every: 1s, dry_run: true}}")
        checking = await baked(checker, f"{TEXT}  checks:\n" + "\n".join(lines) + "\n")
        async with _until_promoted(checking):
            assert len(asked) == 3
        checker.close()


async def test_those_who_wait_for_a_bad_server_are_let_in_as_its_tries_end(checker: NetworkChecker) -> None:
    with bad.serving(bad.silent) as server:
        tries = [asyncio.create_task(ask(checker, CheckKind.WEBHOOK, f"http://{server}")) for _ in range(9)]
        results = await asyncio.gather(*tries, return_exceptions=True)
    assert all(isinstance(each, Temporary) for each in results)


def test_the_deadline_of_a_try_is_below_the_patience_of_those_who_ask() -> None:
    assert Limits().total_s < 30.0
    assert math.isfinite(Limits().total_s)
