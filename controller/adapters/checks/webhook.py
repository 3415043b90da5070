"""Another program's say, over HTTP: it is told of the wave and answers with one word.

Synchronous: call it from a thread.
"""

import json
from dataclasses import asdict, replace

from controller.adapters.checks.web import one_line, refuse_status, session_for
from controller.adapters.local.bounded_http import Limits
from controller.domain.errors import Permanent
from controller.domain.record.checks import Answer, Check, Outcome, Question

_MOST_BYTES = 64 * 2**10
_WORDS = {"pass": Outcome.PASS, "fail": Outcome.FAIL, "wait": Outcome.WAIT}


def post(check: Check, question: Question, limits: Limits) -> Answer:
    """Return what the program answers. Raises Temporary or Permanent, and for everything that is not clear."""
    with session_for(check, replace(limits, most_bytes=_MOST_BYTES)) as session:
        # Whoever answers a POST with a redirection would get a GET that says nothing of the wave.
        response = session.post(check.url, json=asdict(question), allow_redirects=False)
        if response.is_redirect:
            raise Permanent(f"{check.url} redirects to another address: write that one")
        refuse_status(check, response)
        return _answer(check, response.content)


def _answer(check: Check, body: bytes) -> Answer:
    wanted = '{"state": "pass", "fail" or "wait", "detail": "…"}'
    try:
        said = json.loads(body)
    except (ValueError, RecursionError) as error:
        begins = one_line(body[:100].decode("utf-8", "replace"))
        raise Permanent(f"{check.url} answers with no JSON ({wanted} is wanted): {begins}") from error
    state = said.get("state") if isinstance(said, dict) else None
    outcome = _WORDS.get(state) if isinstance(state, str) else None
    if outcome is None:
        raise Permanent(f"{check.url} answers with the state {one_line(repr(state))}; {wanted} is wanted")
    return Answer(outcome=outcome, detail=one_line(said.get("detail") or ""))
