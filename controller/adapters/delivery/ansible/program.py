"""How a host's kernroll-boot is asked: through its agent where that is connected, else by playbooks."""

import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import structlog

from controller.adapters.delivery.ansible.telling import NOBODY_HEARS, told, told_agent
from controller.adapters.plays.outcomes import HostOutcome
from controller.adapters.plays.runner import Plays
from controller.domain import bounds
from controller.domain.errors import Permanent, Temporary
from controller.domain.kernels import Kernel
from controller.services.agents.boot_requests import BootRequests, Unanswered
from controller.services.ports import WorkLog
from controller.words import duration_text

_log = structlog.get_logger("delivery")

# A verb takes a second on a host; the rest is Ansible's, also on an emulated processor.
ASK_TIMEOUT_S: Final = 180.0
# Copying, unpacking and making an initial RAM disk, on a slow line to a slow host, behind another package manager.
STAGE_TIMEOUT_S: Final = 1800.0
_UNREACHABLE_RETRY_S: Final = 10.0
# A host that is to be staged is up and heard. One that ssh has not reached for so long is not reached by more tries.
_UNREACHABLE_S: Final = 300.0
_BUSY_RETRY_S: Final = 3.0
_BUSY: Final = "busy"
# A verb takes a second, and a minute where a configuration is made anew on an emulated processor.
AGENT_TIMEOUT_S: Final = 60.0
# As agents say that nothing was heard of the program.
_UNANSWERED: Final = "unanswered"
_COMMAND: Final = "--command-id="
_AWAY_RETRY_S: Final = 10.0
# No answer may be larger; agents send none that is.
_MOST_CHARACTERS: Final = 256 << 10


class BootProgram(Protocol):
    """A host's kernroll-boot.

    Raises Temporary (not reached, or not now) or Permanent (refused; the text is the program's own sentence).
    """

    async def ask(self, host: str, *arguments: str) -> Mapping[str, Any]:
        """Run it with these arguments and return the document that it prints."""

    async def stage(self, host: str, command_id: str, kernel: Kernel) -> Mapping[str, Any]:
        """Pin the running kernel, install the packages, name the kernel; return what kernroll-boot says then."""


class Unreachable(Temporary):
    """Ssh does not reach the host."""


class PlayedProgram:
    """See BootProgram: by playbooks, over ssh."""

    def __init__(
        self, plays: Plays, works: WorkLog = NOBODY_HEARS, *, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._plays = plays
        self._works = works
        self._monotonic_s = monotonic_s
        # By command: since when its host is not reached, and is to be staged.
        self._unreached: dict[str, float] = {}

    async def ask(self, host: str, *arguments: str) -> Mapping[str, Any]:
        """See BootProgram."""
        variables = {"kernroll_arguments": list(arguments)}
        return await self._play("boot.yml", host, variables, named=(arguments[0], command_of(arguments)))

    async def stage(self, host: str, command_id: str, kernel: Kernel) -> Mapping[str, Any]:
        """See BootProgram."""
        variables = {
            "kernroll_command_id": command_id,
            "kernroll_kernel": kernel.digest,
            "kernroll_release": kernel.release,
            "kernroll_packages": await asyncio.to_thread(_described, kernel.packages),
        }
        try:
            found = await self._play(
                "stage.yml", host, variables, named=("stage", command_id), timeout_s=STAGE_TIMEOUT_S
            )
        except Unreachable as error:
            now = self._monotonic_s()
            if now - self._unreached.setdefault(command_id, now) < _UNREACHABLE_S:
                raise
            del self._unreached[command_id]
            raise Permanent(f"{error} (tried for {duration_text(_UNREACHABLE_S)})") from error
        self._unreached.pop(command_id, None)
        return found

    async def _play(
        self,
        playbook: str,
        host: str,
        variables: Mapping[str, Any],
        *,
        named: tuple[str, str],
        timeout_s: float = ASK_TIMEOUT_S,
    ) -> Mapping[str, Any]:
        """Play; `named` is the verb, and the command that it carries out, empty where it carries out none."""
        verb, command_id = named
        with told(self._works, host, command_id, verb) as heard:
            found = await self._plays.run(playbook, [host], variables, timeout_s=timeout_s, heard=heard)
            return _answer(found[host])


class AgentProgram:
    """Asks through the host's agent. What is to be installed is not brought there this way."""

    def __init__(self, requests: BootRequests, *, timeout_s: float = AGENT_TIMEOUT_S) -> None:
        self._requests = requests
        self._timeout_s = timeout_s

    def reaches(self, host: str) -> bool:
        """Return whether the host's agent is connected and passes requests on."""
        return self._requests.reach(host)

    async def ask(self, host: str, *arguments: str) -> Mapping[str, Any]:
        """See BootProgram. Raises Unanswered when nothing was heard of the program itself."""
        text = await self._requests.ask(host, arguments, timeout_s=self._timeout_s)
        try:
            found = json.loads(text) if len(text) <= _MOST_CHARACTERS else None
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise Unanswered(f"{host}: what its agent passed on from kernroll-boot cannot be read")
        if (error := found.get("error")) is None:
            return found
        told, code = f"{host}: {bounds.sentence(str(error))}", found.get("code")
        if code == _UNANSWERED:
            raise Unanswered(told)
        if code == _BUSY:
            raise Temporary(told, retry_after_s=_BUSY_RETRY_S)
        raise Permanent(told)


class EitherProgram:
    """See BootProgram: verbs through the agent, which costs little, and by playbooks what it cannot or does not do.

    Asked in both ways a verb is done once: kernroll-boot knows it by its command id, and lets nobody in beside it.
    """

    def __init__(self, agent: AgentProgram, played: BootProgram | None, works: WorkLog = NOBODY_HEARS) -> None:
        """`played` is None where no inventory says how hosts are reached over ssh."""
        self._agent = agent
        self._played = played
        self._works = works

    async def ask(self, host: str, *arguments: str) -> Mapping[str, Any]:
        """See BootProgram."""
        why = f"{host}: no agent is connected there that passes requests to kernroll-boot on"
        if self._agent.reaches(host):
            try:
                with told_agent(self._works, host, command_of(arguments), arguments[0]):
                    return await self._agent.ask(host, *arguments)
            except Unanswered as error:
                why = str(error)
        if self._played is None:
            raise Temporary(
                f"{why}; it is asked again when one is, and over ssh by a controller with --inventory",
                retry_after_s=_AWAY_RETRY_S,
            )
        _log.info("asked_over_ssh", host=host, verb=arguments[0], why=why)
        return await self._played.ask(host, *arguments)

    async def stage(self, host: str, command_id: str, kernel: Kernel) -> Mapping[str, Any]:
        """See BootProgram."""
        if self._played is None:
            raise Permanent(
                f"{host}: kernel {kernel.release} is installed by playbooks, which need an inventory: "
                "start the controller with --inventory"
            )
        return await self._played.stage(host, command_id, kernel)


def command_of(arguments: Sequence[str]) -> str:
    """Return the command that a verb carries out, empty where it carries out none."""
    found = (one.removeprefix(_COMMAND) for one in arguments if one.startswith(_COMMAND))
    return next(found, "")


def _answer(outcome: HostOutcome) -> Mapping[str, Any]:
    if outcome.done:
        return outcome.answer
    told = f"{outcome.host}: {outcome.sentence}"
    if outcome.unreachable:
        raise Unreachable(told, retry_after_s=_UNREACHABLE_RETRY_S)
    if outcome.answer.get("code") == _BUSY:
        raise Temporary(told, retry_after_s=_BUSY_RETRY_S)
    raise Permanent(told)


def _described(packages: Sequence[str]) -> list[dict[str, str]]:
    return [{"path": one, "name": Path(one).name, "sha256": _sha256(Path(one))} for one in packages]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
