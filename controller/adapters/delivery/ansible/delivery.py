"""The Delivery port for hosts that start from their own disk: each verb is one of kernroll-boot's on the host.

What a host boots is known from the answers to verbs and from its agent, which passes on what kernroll-boot has written
down in every session; nobody looks for it over the network.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any, Final

import structlog

from controller.adapters.delivery.ansible.program import AGENT_TIMEOUT_S, ASK_TIMEOUT_S, STAGE_TIMEOUT_S, BootProgram
from controller.adapters.plays.queue import TURN_TIMEOUT_S
from controller.domain.delivery import DeliveryStatus
from controller.domain.errors import NotFound, Permanent
from controller.domain.hosts.host import Host
from controller.domain.hosts.loader_document import read_boot
from controller.domain.kernels import Kernel
from controller.domain.record.effects import DeliveryEffect, StageKernel

_log = structlog.get_logger("delivery")

# Beside what the program itself takes.
_MARGIN_S: Final = 30.0
# How soon a new session's news is seen.
_LOOK_S: Final = 1.0


class AnsibleDelivery:
    """See Delivery."""

    def __init__(
        self,
        program: BootProgram,
        host_named: Callable[[str], Host | None],
        *,
        installs: bool = True,
        look_s: float = _LOOK_S,
    ) -> None:
        """Take how hosts' programs are asked, and what the controller knows of a host by its name.

        Without `installs` nothing can be staged: no plan reaches a host, and rollouts that run are ended all the same.
        """
        self._program = program
        self._host_named = host_named
        self._installs = installs
        self._look_s = look_s
        # By host: what the newest answer said.
        self._answers: dict[str, DeliveryStatus] = {}
        self._answered = asyncio.Event()

    def reaches(self, host: Host) -> bool:
        """Return whether the host has told that it starts from its own disk."""
        return self._installs and host.boot is not None

    def longest_s(self, effect: DeliveryEffect) -> float:
        """Return the limits of a play, of the turn it waits for, and of an agent that was asked before it, and some."""
        asked_s = STAGE_TIMEOUT_S if isinstance(effect, StageKernel) else AGENT_TIMEOUT_S + ASK_TIMEOUT_S
        return TURN_TIMEOUT_S + asked_s + _MARGIN_S

    async def stage(self, host: str, command_id: str, kernel: Kernel) -> None:
        """Install the kernel's packages, after the running kernel was pinned."""
        known = self._known(host)
        if kernel.architecture != known.architecture:
            raise Permanent(
                f"kernel {kernel.release} is for {kernel.architecture}, the host is {known.architecture}: "
                "choose a kernel of the host's architecture"
            )
        if kernel.command_line:
            raise Permanent(
                f"kernel {kernel.release} adds {kernel.command_line!r} to the command line, which is the host's own "
                "where it starts from its own disk: set it there, and leave command_line out of the rollout"
            )
        if not kernel.packages:
            raise Permanent(
                f"kernel {kernel.release} cannot be installed: its source has no complete set of packages. Give a "
                "version that the mirror still has in full, or a directory of packages"
            )
        self._heard(host, await self._program.stage(host, command_id, kernel))

    async def arm(
        self,
        host: str,
        command_id: str,
        kernel: str,
        *,
        boot_timeout_s: float,
        probation_timeout_s: float,
        require_watchdog: bool = False,
    ) -> None:
        """Make a staged kernel the next boot, once."""
        limits = (f"--boot-timeout={boot_timeout_s}", f"--probation-timeout={probation_timeout_s}")
        # Not known to older programs, so that it is said only where it is meant.
        watched = ("--require-watchdog",) if require_watchdog else ()
        await self._ask(host, "arm", kernel, *limits, *watched, command_id=command_id)

    async def reboot(self, host: str, command_id: str) -> None:
        """Restart the host."""
        await self._ask(host, "reboot", command_id=command_id)

    async def acknowledge(self, host: str, command_id: str) -> None:
        """End the boot deadline, start the probation deadline."""
        await self._ask(host, "acknowledge", command_id=command_id)

    async def bless(self, host: str, command_id: str) -> None:
        """Make the running kernel the default."""
        await self._ask(host, "bless", command_id=command_id)

    async def revert(self, host: str, command_id: str, kernel: str) -> None:
        """Return to a kernel that is installed."""
        await self._ask(host, "revert", kernel, "--reboot", command_id=command_id)

    async def status(self, host: str) -> DeliveryStatus:
        """Return what is known; the host is asked when nothing is."""
        self._known(host)
        if (found := self._newest(host)) is not None:
            return found
        self._heard(host, await self._program.ask(host, "status", "--output=json"))
        return self._answers[host]

    async def watch(self, hosts: Sequence[str]) -> AsyncGenerator[DeliveryStatus]:
        """Yield each host's state when it is known, and again after each change."""
        told: dict[str, int] = {}
        while hosts:
            answered = self._answered
            for host in hosts:
                found = self._newest(host)
                if found is not None and told.get(host) != found.revision:
                    told[host] = found.revision
                    yield found
            try:
                async with asyncio.timeout(self._look_s):
                    await answered.wait()
            except TimeoutError:
                continue

    async def _ask(self, host: str, verb: str, *arguments: str, command_id: str) -> None:
        self._known(host)
        said = await self._program.ask(host, verb, *arguments, f"--command-id={command_id}", "--output=json")
        self._heard(host, said)

    def _heard(self, host: str, document: Mapping[str, Any]) -> None:
        self._answers[host] = read_boot(host, json.dumps(document)).delivery
        answered, self._answered = self._answered, asyncio.Event()
        answered.set()

    def _newest(self, host: str) -> DeliveryStatus | None:
        """Return the newer of what the host answered and what its agent told."""
        known, answered = self._host_named(host), self._answers.get(host)
        told = known.boot.delivery if known is not None and known.boot is not None else None
        if told is None or answered is None:
            return told or answered
        return told if _is_newer(told, answered) else answered

    def _known(self, name: str) -> Host:
        host = self._host_named(name)
        if host is None:
            raise NotFound(f"{name}: no such host; `kernroll hosts list` lists them")
        return host


def _is_newer(one: DeliveryStatus, than: DeliveryStatus) -> bool:
    """Tell by the boots first: a host whose record was lost counts its changes anew."""
    started, before = (status.boots[-1].started_at if status.boots else 0.0 for status in (one, than))
    return (started, one.revision) > (before, than.revision)
