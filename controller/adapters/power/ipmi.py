"""Power by IPMI 2.0, through the program `ipmitool`, which gets its password from its environment.

A program of its own can be ended at its deadline whatever the network does, and it comes with the distribution.
Every request is sent once: `-R 1`.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from controller.adapters.local.tools import OutOfTime, Tool, missing_tool, tool_environment
from controller.adapters.power.address import Managed
from controller.domain.errors import KernrollError, OutcomeUnknown, Permanent, Temporary
from controller.domain.printable import printable
from controller.domain.record.actions.power_cycles import MOST_SAYINGS, SAYING_CHARACTERS, PowerSeen

PROGRAM: Final = "ipmitool"
_ANSWER_S: Final = 10
# A session takes half a dozen requests, and the log of events one for each.
_TIMEOUT_S: Final = 90.0
_MOST_PRINTED_BYTES: Final = 1 << 20
_POWER: Final = re.compile(r"^System Power\s*: (on|off)$", re.MULTILINE)
# Lines of `chassis status` that say nothing of note.
_QUIET: Final = re.compile(r"^(System Power|Power Restore Policy)\s*:|: *(false|inactive|not allowed|)$")
# What it says before there is a session: nothing has been ordered by then.
_NO_SESSION: Final = "Unable to establish IPMI v2"
_WRONG_PASSWORD: Final = "RAKP 2 HMAC is invalid"
_WRONG_USER: Final = "RAKP 2 message indicates an error"
_NO_NAME: Final = "Address lookup for"
# What it says when the controller has answered, and refused; not with the codes that say nothing of what was done.
_REFUSED: Final = re.compile(
    r"^Set Chassis Power Control to .* failed: (?!Unspecified error|Timeout|Unknown)(.*)$", re.MULTILINE
)


class Ipmi:
    """One host's management controller that speaks IPMI."""

    def __init__(
        self, managed: Managed, *, program: str = PROGRAM, answer_s: int = _ANSWER_S, timeout_s: float = _TIMEOUT_S
    ) -> None:
        """`answer_s` is how long one request is waited for, whole seconds; `timeout_s` all of a call."""
        self._managed = managed
        self._program = program
        self._answer_s = answer_s
        self._timeout_s = timeout_s

    def look(self) -> PowerSeen:
        """See Power."""
        on, status = self._status()
        said = [*_notable(status), *self._log()]
        says = tuple(printable(one, SAYING_CHARACTERS) for one in said[-MOST_SAYINGS:])
        return PowerSeen(controller=self._managed.address.shown, on=on, says=says)

    def cycle(self) -> None:
        """See Power."""
        on, _ = self._status()
        try:
            self._run("chassis", "power", "cycle" if on else "on")
        except OutOfTime as error:
            raise OutcomeUnknown(
                f"{self._shown} was given the order and did not answer within {self._timeout_s:g} s"
            ) from error
        except _Failed as error:
            if error.before_session:
                raise self._translated(error) from error
            if refused := _REFUSED.search(error.said):
                raise Permanent(f"{self._shown} refuses the order: {printable(refused[1])}") from error
            raise OutcomeUnknown(
                f"{self._shown} was given the order and its answer was lost: {error.last_line}"
            ) from error

    def _status(self) -> tuple[bool, str]:
        """Return whether the host has power, and all that was said."""
        said = self._asked("chassis", "status")
        power = _POWER.search(said)
        if power is None:
            raise Permanent(f"{self._shown} does not say whether its host has power")
        return power[1] == "on", said

    def _log(self) -> Sequence[str]:
        """Return the newest entries of its log of events; why not, where it cannot be read."""
        try:
            # In full each entry would be a dozen lines.
            said = self._asked("sel", "list", "last", str(MOST_SAYINGS), explains=False)
            return [_columns(line) for line in said.splitlines()]
        except KernrollError as error:
            return [f"its log cannot be read: {error}"]

    def _asked(self, *words: str, explains: bool = True) -> str:
        """Return what a request that changes nothing gives. Raises Temporary or Permanent."""
        try:
            return self._run(*words, explains=explains)
        except OutOfTime as error:
            raise Temporary(f"{self._shown} does not answer within {self._timeout_s:g} s") from error
        except _Failed as error:
            raise self._translated(error) from error

    def _run(self, *words: str, explains: bool = True) -> str:
        """Return what `ipmitool` prints. Raises _Failed and OutOfTime.

        Unless it explains itself, a wrong password and a controller that is away sound the same.
        """
        address = self._managed.address
        place = ("-H", address.host, "-p", str(address.port), "-U", self._managed.user)
        way = ("-I", "lanplus", *(("-v",) if explains else ()), "-N", str(self._answer_s), "-R", "1")
        # -E: the password from the environment.
        command = [self._program, *way, *place, "-E", *words]
        environment = tool_environment({"IPMI_PASSWORD": self._managed.password})
        try:
            with Tool(command, timeout_s=self._timeout_s, environment=environment) as tool:
                printed = tool.printed(_MOST_PRINTED_BYTES)
                code = 1 if printed is None else tool.code()
                said = tool.said.decode(errors="replace")
        except FileNotFoundError as error:
            raise missing_tool(self._program, f"{self._shown} cannot be asked") from error
        text = (printed or b"").decode(errors="replace")
        if code != 0:
            raise _Failed(f"{text}\n{said}")
        return text

    @property
    def _shown(self) -> str:
        return self._managed.address.shown

    def _translated(self, error: "_Failed") -> KernrollError:
        if _WRONG_PASSWORD in error.said or _WRONG_USER in error.said:
            return Permanent(
                f"{self._shown} does not take user {self._managed.user!r} with this password; correct "
                "kernroll_power_user or the password"
            )
        if _NO_NAME in error.said:
            return Temporary(f"{self._shown} cannot be reached: no address is known for its name")
        if error.before_session:
            return Temporary(f"{self._shown} cannot be reached: it does not answer on UDP {self._managed.address.port}")
        return Permanent(f"{self._shown} cannot be asked: {error.last_line}")


class _Failed(Exception):
    """The program ended with a failure."""

    def __init__(self, said: str) -> None:
        super().__init__(said)
        self.said = said

    @property
    def before_session(self) -> bool:
        """Whether it never came to speak with the controller."""
        return _NO_SESSION in self.said

    @property
    def last_line(self) -> str:
        """The last that it said."""
        lines = [line for line in self.said.splitlines() if line.strip()]
        return printable(lines[-1], SAYING_CHARACTERS) if lines else "it gave no reason"


def _notable(status: str) -> Iterator[str]:
    return (_columns(line, " : ") for line in status.splitlines() if line.strip() and not _QUIET.search(line.strip()))


def _columns(line: str, between: str = " | ") -> str:
    """Return a line of a table without what only lines it up."""
    return between.join(part.strip() for part in line.split(between.strip()))
