"""Power by Redfish, as DSP0266 and the schema ComputerSystem have it: a few requests, each tried once.

A client library would try again by itself, and an order to cut a host's power must not be given twice.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import requests
import urllib3
from requests.auth import HTTPBasicAuth

from controller.adapters.local.bounded_http import BoundedAdapter, Limits, TooLarge, innermost, within
from controller.adapters.power.address import Managed
from controller.domain.errors import KernrollError, OutcomeUnknown, Permanent, Temporary
from controller.domain.printable import printable
from controller.domain.record.actions.power_cycles import MOST_SAYINGS, SAYING_CHARACTERS, PowerSeen

_RESET: Final = "#ComputerSystem.Reset"
_ALLOWED: Final = "ResetType@Redfish.AllowableValues"
_LINK: Final = "@odata.id"
# What cuts the power of a host that has some, best first; the other switches on one that has none.
_CYCLES: Final = ("PowerCycle", "ForceRestart")
_SWITCHES_ON: Final = ("On", "ForceOn")
# Controllers that are slow to read take some seconds for a system; ten times that is none that works.
_LIMITS: Final = Limits(connect_s=10.0, read_s=30.0, total_s=45.0, most_bytes=4 << 20)
_MOST_LOGS: Final = 4

# The controller's log says of which host's management controller no certificate is checked.
urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)


class Redfish:
    """One host's management controller that speaks Redfish."""

    def __init__(self, managed: Managed, *, limits: Limits = _LIMITS) -> None:
        self._managed = managed
        self._limits = limits
        address = managed.address
        self._origin = f"https://{address.authority_host}:{address.port}"

    def look(self) -> PowerSeen:
        """See Power."""
        with self._session() as session:
            system = self._get(session, self._managed.address.path)
            said = [*_health(system), *self._entries(session, system)]
        on = {"On": True, "Off": False}.get(str(system.get("PowerState")))
        says = tuple(printable(one, SAYING_CHARACTERS) for one in said[-MOST_SAYINGS:])
        return PowerSeen(controller=self._managed.address.shown, on=on, says=says)

    def cycle(self) -> None:
        """See Power."""
        with self._session() as session:
            system = self._get(session, self._managed.address.path)
            target, kind = self._order(system)
            self._post(session, target, {"ResetType": kind})

    def _order(self, system: Mapping[str, Any]) -> tuple[str, str]:
        """Return where the order goes to and what it says. Raises Permanent when there is none that helps."""
        action = _mapping(_mapping(system.get("Actions")).get(_RESET))
        target = self._path(action.get("target"))
        if not target:
            raise Permanent(f"{self._managed.address.shown} offers no {_RESET[1:]}: its power cannot be cut from here")
        wanted = _SWITCHES_ON if system.get("PowerState") == "Off" else _CYCLES
        # Where it does not say what it allows, it is to take what every controller knows.
        allowed = action.get(_ALLOWED)
        kinds = [kind for kind in wanted if kind in allowed] if isinstance(allowed, list) else list(wanted[-1:])
        if not kinds:
            raise Permanent(f"{self._managed.address.shown} allows none of {', '.join(wanted)}")
        return target, kinds[0]

    def _entries(self, session: requests.Session, system: Mapping[str, Any]) -> Sequence[str]:
        """Return the newest entries of the system's logs, oldest first; why not, where they cannot be read."""
        found: list[tuple[str, str]] = []
        try:
            services = self._members(session, system.get("LogServices"))
            for path in [path for one in services if (path := self._path(one.get(_LINK)))][:_MOST_LOGS]:
                log = self._get(session, path)
                for entry in self._members(session, log.get("Entries")):
                    if entry.get("Message"):
                        created = str(entry.get("Created", ""))
                        found.append((created, f"{created} {entry.get('Severity', '')} {entry['Message']}"))
        except KernrollError as error:
            return [f"its log cannot be read: {error}"]
        return [text for _, text in sorted(found, key=lambda one: one[0])[-MOST_SAYINGS:]]

    def _members(self, session: requests.Session, link: Any) -> list[Mapping[str, Any]]:
        path = self._path(_mapping(link).get(_LINK))
        members = self._get(session, path).get("Members") if path else None
        return [one for one in members if isinstance(one, dict)] if isinstance(members, list) else []

    def _path(self, link: Any) -> str:
        """Return a link as a path; empty for one that leads elsewhere, where our password has no business."""
        text = link.removeprefix(self._origin) if isinstance(link, str) else ""
        return text if text.startswith("/redfish/") else ""

    @contextlib.contextmanager
    def _session(self) -> Iterator[requests.Session]:
        session = requests.Session()
        # Neither a proxy nor another password of whoever runs the controller.
        session.trust_env = False
        session.max_redirects = 2
        session.mount("https://", BoundedAdapter(self._limits))
        session.auth = HTTPBasicAuth(self._managed.user.encode(), self._managed.password.encode())
        session.headers.update({"User-Agent": "kernroll", "Accept": "application/json", "Connection": "close"})
        session.verify = str(self._managed.ca_file) if self._managed.ca_file else self._managed.verify
        with session:
            yield session

    def _get(self, session: requests.Session, path: str) -> Mapping[str, Any]:
        try:
            response = session.get(f"{self._origin}{path}")
            self._refuse(response)
            return _mapping(response.json())
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise self._translated(error) from error
        except (ValueError, RecursionError) as error:
            raise Permanent(f"{self._shown} answers with JSON that cannot be read: {printable(str(error))}") from error

    def _post(self, session: requests.Session, path: str, body: Mapping[str, str]) -> None:
        try:
            response = session.post(f"{self._origin}{path}", json=body, allow_redirects=False)
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            if _never_sent(error):
                raise self._translated(error) from error
            why = _last_words(error)
            raise OutcomeUnknown(f"{self._shown} was given the order and did not answer: {why}") from error
        if response.status_code >= 500:
            raise OutcomeUnknown(f"{self._shown} answers {response.status_code} to the order: {_told(response)}")
        self._refuse(response)
        if not 200 <= response.status_code < 300:
            raise Permanent(f"{self._shown} answers {response.status_code} to the order: {_told(response)}")

    @property
    def _shown(self) -> str:
        return self._managed.address.shown

    def _refuse(self, response: requests.Response) -> None:
        """Raise for an answer that is none."""
        code = response.status_code
        if response.ok:
            return
        if code in (401, 403):
            raise Permanent(
                f"{self._shown} answers {code}: it does not take user {self._managed.user!r} with this password; "
                "correct kernroll_power_user or the password"
            )
        if code == 404:
            raise Permanent(f"{self._shown} answers 404: it has no such system; correct kernroll_power")
        error = Temporary if code >= 500 or code in (408, 425, 429) else Permanent
        raise error(f"{self._shown} answers {code}: {_told(response)}")

    def _translated(self, error: Exception) -> KernrollError:
        if large := within(error, TooLarge):
            return Permanent(f"{self._shown} answers with {large}, more than an answer may have")
        match error:
            case requests.exceptions.JSONDecodeError():
                return Permanent(f"{self._shown} does not answer with JSON: is it the right address?")
            case requests.exceptions.SSLError():
                return Permanent(
                    f"the certificate of {self._shown} is not trusted: name its authority as kernroll_power_ca_file, "
                    f"or set kernroll_power_verify to false ({_last_words(error)})"
                )
            case requests.Timeout():
                return Temporary(f"{self._shown} does not answer within {self._limits.total_s:g} s")
            case requests.ConnectionError():
                return Temporary(f"{self._shown} cannot be reached: {_last_words(error)}")
            case _:
                return Permanent(f"{self._shown} cannot be asked: {_last_words(error)}")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _health(system: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the system says of itself, where that says anything."""
    status = _mapping(system.get("Status"))
    for name, value in (("health", status.get("HealthRollup") or status.get("Health")), ("state", status.get("State"))):
        if value:
            yield f"{name}: {value}"
    if last := _mapping(system.get("BootProgress")).get("LastState"):
        yield f"boot progress: {last}"


def _told(response: requests.Response) -> str:
    """Return what a controller says of a refusal, as Redfish has it; the reason of HTTP where it does not."""
    try:
        error = _mapping(_mapping(response.json()).get("error"))
    except (ValueError, RecursionError):
        error = {}
    more = error.get("@Message.ExtendedInfo")
    messages = [one.get("Message") for one in more if isinstance(one, dict)] if isinstance(more, list) else []
    words = next((one for one in (*messages, error.get("message"), response.reason) if one), "no reason given")
    return printable(str(words), SAYING_CHARACTERS)


def _never_sent(error: Exception) -> bool:
    """Whether a request failed before anything of it can have arrived."""
    if isinstance(error, requests.ConnectTimeout):
        return True
    within = error.args[0] if error.args else None
    reason = getattr(within, "reason", within)
    return isinstance(reason, urllib3.exceptions.NewConnectionError | urllib3.exceptions.ConnectTimeoutError)


def _last_words(error: BaseException) -> str:
    return printable(str(innermost(error)), SAYING_CHARACTERS)
