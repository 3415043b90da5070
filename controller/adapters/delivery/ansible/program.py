"""How a host's kernroll-boot is asked: by whoever can reach it."""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from controller.adapters.plays.outcomes import HostOutcome
from controller.adapters.plays.runner import Plays
from controller.domain.errors import Permanent, Temporary
from controller.domain.kernels import Kernel

# A verb takes a second on a host; the rest is Ansible's, also on an emulated processor.
ASK_TIMEOUT_S: Final = 180.0
# Copying, unpacking and making an initial RAM disk, on a slow line to a slow host, behind another package manager.
STAGE_TIMEOUT_S: Final = 1800.0
_UNREACHABLE_RETRY_S: Final = 10.0
_BUSY_RETRY_S: Final = 3.0
_BUSY: Final = "busy"


class BootProgram(Protocol):
    """A host's kernroll-boot.

    Raises Temporary (not reached, or not now) or Permanent (refused; the text is the program's own sentence).
    """

    async def ask(self, host: str, *arguments: str) -> Mapping[str, Any]:
        """Run it with these arguments and return the document that it prints."""

    async def stage(self, host: str, command_id: str, kernel: Kernel) -> Mapping[str, Any]:
        """Pin the running kernel, install the packages, name the kernel; return what kernroll-boot says then."""


class PlayedProgram:
    """See BootProgram: by playbooks, over ssh."""

    def __init__(self, plays: Plays) -> None:
        self._plays = plays

    async def ask(self, host: str, *arguments: str) -> Mapping[str, Any]:
        """See BootProgram."""
        return await self._play("boot.yml", host, {"kernroll_arguments": list(arguments)}, ASK_TIMEOUT_S)

    async def stage(self, host: str, command_id: str, kernel: Kernel) -> Mapping[str, Any]:
        """See BootProgram."""
        variables = {
            "kernroll_command_id": command_id,
            "kernroll_kernel": kernel.digest,
            "kernroll_release": kernel.release,
            "kernroll_packages": await asyncio.to_thread(_described, kernel.packages),
        }
        return await self._play("stage.yml", host, variables, STAGE_TIMEOUT_S)

    async def _play(
        self, playbook: str, host: str, variables: Mapping[str, Any], timeout_s: float
    ) -> Mapping[str, Any]:
        found = await self._plays.run(playbook, [host], variables, timeout_s=timeout_s)
        return _answer(found[host])


def _answer(outcome: HostOutcome) -> Mapping[str, Any]:
    if outcome.done:
        return outcome.answer
    told = f"{outcome.host}: {outcome.sentence}"
    if outcome.unreachable:
        raise Temporary(told, retry_after_s=_UNREACHABLE_RETRY_S)
    if outcome.answer.get("code") == _BUSY:
        raise Temporary(told, retry_after_s=_BUSY_RETRY_S)
    raise Permanent(told)


def _described(packages: Sequence[str]) -> list[dict[str, str]]:
    return [{"path": one, "name": Path(one).name, "sha256": _sha256(Path(one))} for one in packages]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
