"""Calls over HTTP for checks: a session with deadlines and limits, and its failures in words."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from controller.domain.checks import Check
from controller.domain.errors import KernrollError, Permanent, Temporary

# To connect, and between two pieces of an answer.
CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 15.0
_MOST_REDIRECTS = 3
# Of what another server says of itself.
_LONGEST_REMARK = 300
# Worth asking again although the server refused.
_PASSING_STATUSES = frozenset({408, 425, 429})


@contextmanager
def session_for(check: Check) -> Iterator[requests.Session]:
    """Yield a session with the check's token and authority; what fails in it is raised as Temporary or Permanent."""
    session = requests.Session()
    session.max_redirects = _MOST_REDIRECTS
    session.headers["User-Agent"] = "kernroll"
    if check.token_file:
        session.headers["Authorization"] = f"Bearer {_token(check)}"
    if check.ca_file:
        if not Path(check.ca_file).is_file():
            raise Permanent(f"check {check.name}: ca_file {check.ca_file} is not there")
        session.verify = check.ca_file
    try:
        yield session
    except requests.RequestException as error:
        raise _translated(check, error) from error
    finally:
        session.close()


def refuse_status(check: Check, response: requests.Response) -> None:
    """Raise Temporary or Permanent for an answer that is none."""
    if response.ok:
        return
    said = one_line(response.reason or "")
    text = f"{check.url} answers {response.status_code}{f' {said}' if said else ''}"
    if response.status_code >= 500 or response.status_code in _PASSING_STATUSES:
        raise Temporary(text)
    if response.status_code in (401, 403):
        text = f"{text}: it wants to know who asks; name a file with a token as token_file"
    raise Permanent(text)


def one_line(text: Any) -> str:
    """Return what another server said as one line of bounded length."""
    words = " ".join("".join(sign if sign.isprintable() else " " for sign in str(text)).split())
    return words if len(words) <= _LONGEST_REMARK else f"{words[: _LONGEST_REMARK - 1]}…"


def _token(check: Check) -> str:
    try:
        token = Path(check.token_file).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Permanent(f"check {check.name}: token_file {check.token_file} cannot be read: {error}") from error
    if not token or not token.isprintable():
        raise Permanent(f"check {check.name}: token_file {check.token_file} does not hold one line with a token")
    return token


def _translated(check: Check, error: requests.RequestException) -> KernrollError:
    match error:
        case requests.exceptions.SSLError():
            why = one_line(_innermost(error))
            return Permanent(f"the certificate of {check.url} is not trusted: name its authority as ca_file ({why})")
        case requests.exceptions.JSONDecodeError():
            return Permanent(f"{check.url} does not answer with JSON: is it the right address?")
        case requests.Timeout():
            return Temporary(f"{check.url} does not answer within {READ_TIMEOUT_S:g} s")
        case requests.TooManyRedirects():
            return Permanent(f"{check.url} redirects more than {_MOST_REDIRECTS} times")
        case requests.ConnectionError():
            return Temporary(f"{check.url} cannot be reached: {one_line(_innermost(error))}")
        case _:
            return Permanent(f"{check.url} cannot be asked: {one_line(error)}")


def _innermost(error: BaseException) -> BaseException:
    """Return what really went wrong, without the pools and retries around it."""
    while True:
        within = getattr(error, "reason", None) or (error.args[0] if error.args else None)
        if not isinstance(within, BaseException):
            return error.__cause__ if isinstance(error.__cause__, OSError) else error
        error = within
