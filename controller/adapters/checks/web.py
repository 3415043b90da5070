"""Calls over HTTP for checks: a session with deadlines and limits, and its failures in words."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
import urllib3

from controller.adapters.local.bounded_http import BoundedAdapter, Limits, TooLarge, innermost, within
from controller.domain.errors import KernrollError, Permanent, Temporary
from controller.domain.printable import printable
from controller.domain.record.checks import Check

_MOST_REDIRECTS = 3
# Of what another server says of itself.
_LONGEST_REMARK = 300
_MOST_TOKEN_BYTES = 64 * 2**10
_MOST_AUTHORITY_BYTES = 4 * 2**20
# Worth asking again although the server refused.
_PASSING_STATUSES = frozenset({408, 425, 429})


@contextmanager
def session_for(check: Check, limits: Limits) -> Iterator[requests.Session]:
    """Yield a session for one try, with the check's token and authority.

    What fails in it is raised as Temporary or Permanent, also what is wrong with an answer that is parsed in it.
    """
    session = requests.Session()
    session.max_redirects = _MOST_REDIRECTS
    adapter = BoundedAdapter(limits)
    for scheme in ("http://", "https://"):
        session.mount(scheme, adapter)
    session.headers.update({"User-Agent": "kernroll", "Connection": "close"})
    if check.token_file:
        session.headers["Authorization"] = f"Bearer {_token(check)}"
    if check.ca_file:
        authority = Path(check.ca_file)
        if not authority.is_file():
            raise Permanent(f"check {check.name}: ca_file {check.ca_file} is not there")
        if authority.stat().st_size > _MOST_AUTHORITY_BYTES:
            raise Permanent(f"check {check.name}: ca_file {check.ca_file} is too large for certificates")
        session.verify = check.ca_file
    try:
        yield session
    except requests.RequestException as error:
        raise _translated(check, error, limits) from error
    except (ValueError, RecursionError) as error:
        # JSON that is nested too deeply, or holds a number of thousands of digits.
        raise Permanent(f"{check.url} answers with what cannot be read: {one_line(error)}") from error
    except urllib3.exceptions.HTTPError as error:
        raise Permanent(f"{check.url} cannot be asked: {one_line(error)}") from error
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
    return printable(str(text), _LONGEST_REMARK)


def _token(check: Check) -> str:
    try:
        # Never waits for a pipe's other end.
        with open(os.open(check.token_file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError("it is no regular file")
            content = file.read(_MOST_TOKEN_BYTES + 1)
        token = content.decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Permanent(f"check {check.name}: token_file {check.token_file} cannot be read: {error}") from error
    if not token or not token.isprintable() or len(content) > _MOST_TOKEN_BYTES:
        raise Permanent(f"check {check.name}: token_file {check.token_file} does not hold one line with a token")
    return token


def _translated(check: Check, error: requests.RequestException, limits: Limits) -> KernrollError:
    # The library tells what it was interrupted by as an error of the connection.
    if large := within(error, TooLarge):
        return Permanent(f"{check.url} answers with {large}, more than an answer may have")
    if within(error, (TimeoutError, requests.Timeout, urllib3.exceptions.ReadTimeoutError)):
        return Temporary(f"{check.url} does not answer, or not to the end, within {limits.total_s:g} s")
    match error:
        case requests.exceptions.SSLError():
            why = one_line(innermost(error))
            return Permanent(f"the certificate of {check.url} is not trusted: name its authority as ca_file ({why})")
        case requests.exceptions.JSONDecodeError():
            return Permanent(f"{check.url} does not answer with JSON: is it the right address?")
        case requests.TooManyRedirects():
            return Permanent(f"{check.url} redirects more than {_MOST_REDIRECTS} times")
        case requests.ConnectionError():
            return Temporary(f"{check.url} cannot be reached: {one_line(innermost(error))}")
        case _:
            return Permanent(f"{check.url} cannot be asked: {one_line(error)}")
