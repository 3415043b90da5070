"""What was asked of this program and done: written down before it acts, so that nothing is done twice."""

import json
from dataclasses import asdict, dataclass
from typing import Final

from agent.boot.host import Host
from agent.boot.values import BootError, BrokenHost

_FILE: Final = "/var/lib/kernroll-boot/journal.json"
_MOST_COMMANDS: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command and how far it came."""

    id: str
    verb: str
    release: str = ""
    done: bool = False


class Journal:
    """The newest commands, in the order in which they were begun."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._commands = self._read()

    def _read(self) -> dict[str, Command]:
        text = self._host.text(_FILE)
        if text is None:
            return {}
        try:
            return {one["id"]: Command(**one) for one in json.loads(text)["commands"]}
        except (ValueError, TypeError, KeyError) as error:
            raise BrokenHost(
                f"{_FILE} cannot be read as a journal ({error}): move it away; commands may then be carried out again"
            ) from error

    def begun(self, command: Command) -> bool:
        """Write down that it begins; return whether it was carried out before, and then write nothing.

        Raises BootError when its id was given to another command.
        """
        known = self._commands.get(command.id)
        if known is not None and (known.verb, known.release) != (command.verb, command.release):
            raise BootError(
                f"command id {command.id} was already used for {known.verb} {known.release}".rstrip()
                + f", so it cannot be used for {command.verb}"
            )
        if known is not None and known.done:
            return True
        self._keep(command)
        return False

    def finished(self, command: Command) -> None:
        """Write down that it was carried out."""
        self._keep(Command(id=command.id, verb=command.verb, release=command.release, done=True))

    def _keep(self, command: Command) -> None:
        self._commands[command.id] = command
        newest = list(self._commands.values())[-_MOST_COMMANDS:]
        self._host.write(_FILE, json.dumps({"commands": [asdict(one) for one in newest]}, indent=1) + "\n")
