"""Rehearses hosts of an inventory: each boots its own kernel by the way of a new one, and must come back."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from controller.adapters.plays.outcomes import HostOutcome
from controller.adapters.plays.sharding import Together
from controller.domain.errors import KernrollError, Temporary
from controller.views.hosts.rehearsing import (
    BROKEN_OFF,
    LOST,
    NOT_BEGUN,
    NOT_REBOOTED,
    PROVEN,
    RehearsalView,
    is_back,
    objection,
    overdue,
    settled,
)
from controller.views.models import HostView
from controller.words import duration_text

# A verb takes a second on a host; the rest is Ansible's, also on an emulated processor.
PLAY_TIMEOUT_S: Final = 180.0
_LOOK_S: Final = 2.0
# Somebody else is at work with the host's kernroll-boot, such as its own agent's look.
_BUSY: Final = "busy"
_BUSY_PAUSE_S: Final = 3.0
_BUSY_TRIES: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsals:
    """How hosts are rehearsed, whatever their number."""

    plays: Together
    # What the controller knows of a host. Called in threads of its own; raises KernrollError.
    look: Callable[[str], HostView]
    # Hears how a host gets on: its name, and a sentence.
    told: Callable[[str, str], None]
    # From the reboot until the host is heard of and its proof is known.
    wait_s: float

    async def all_of(
        self, hosts: Sequence[str], *, at_a_time: int, keep_going: bool, found: dict[str, RehearsalView]
    ) -> None:
        """Put what became of each host into `found`, as soon as it is known.

        Without `keep_going` none is begun once one has not come back.
        """
        waiting = deque(hosts)
        trouble = ""

        async def serve() -> None:
            nonlocal trouble
            while waiting and not trouble:
                host = waiting.popleft()
                # Whoever breaks it off finds what was not known yet.
                found[host] = RehearsalView(
                    name=host,
                    outcome=BROKEN_OFF,
                    sentence=f"nobody saw how it ended: `kernroll hosts show {host}`, and rehearse it again",
                )
                found[host] = await self._one(host)
                if found[host].is_trouble and not keep_going:
                    trouble = host

        async with asyncio.TaskGroup() as group:
            for _ in range(min(at_a_time, len(hosts))):
                group.create_task(serve())
        for host in waiting:
            told = f"not before {trouble} is understood; --keep-going goes on all the same"
            found[host] = RehearsalView(name=host, outcome=NOT_BEGUN, sentence=told)

    async def _one(self, host: str) -> RehearsalView:
        began = time.monotonic()
        try:
            ended = await self._turn(host)
        except KernrollError as error:
            ended = RehearsalView(name=host, outcome=NOT_REBOOTED, sentence=str(error))
        ended = replace(ended, seconds=time.monotonic() - began)
        self.told(host, f"proven, by {ended.boots_by}" if ended.outcome == PROVEN else _told(ended))
        return ended

    async def _turn(self, host: str) -> RehearsalView:
        before = await asyncio.to_thread(self.look, host)
        # A rollout may have taken it while others were rehearsed.
        if why := objection(host, before):
            return RehearsalView(name=host, outcome=NOT_REBOOTED, sentence=why)
        for verb in ("pin", "rehearse"):
            outcome = await self._ask(host, verb)
            if not outcome.done:
                return RehearsalView(name=host, outcome=NOT_REBOOTED, sentence=f"{verb}: {outcome.sentence}")
            self.told(host, f"{verb}: done")
        try:
            outcome = await self._ask(host, "reboot")
            if outcome.answer.get("error"):
                return RehearsalView(name=host, outcome=NOT_REBOOTED, sentence=f"reboot: {outcome.sentence}")
            said = outcome.sentence
        except Temporary as error:
            said = str(error)
        # What a host says while it goes down, or that it says nothing, decides nothing: its next boot does.
        self.told(host, f"reboots, and is waited for {duration_text(self.wait_s)}{f' ({said})' if said else ''}")
        return await self._awaited(before, said)

    async def _ask(self, host: str, verb: str) -> HostOutcome:
        for _ in range(_BUSY_TRIES):
            outcome = await self.plays.run("boot.yml", host, {"kernroll_arguments": [verb]})
            if outcome.answer.get("code") != _BUSY:
                break
            await asyncio.sleep(_BUSY_PAUSE_S)
        return outcome

    async def _awaited(self, before: HostView, said: str) -> RehearsalView:
        now, unheard, told, give_up = before, "", False, time.monotonic() + self.wait_s
        while True:
            try:
                now, unheard = await asyncio.to_thread(self.look, before.name), ""
            except Temporary as error:
                # A controller that starts anew hears the host as well, when both are back.
                unheard = f"; {error}"
            except KernrollError as error:
                return RehearsalView(name=before.name, outcome=LOST, sentence=f"it was rebooted, and {error}")
            if (ended := settled(before, now)) is not None:
                return ended
            if time.monotonic() >= give_up:
                ended = overdue(before, now, wait_s=self.wait_s, said=said)
                return replace(ended, sentence=f"{ended.sentence}{unheard}")
            if not told and is_back(before, now):
                told = True
                self.told(before.name, "is back; its proof is awaited")
            await asyncio.sleep(_LOOK_S)


def _told(ended: RehearsalView) -> str:
    return f"{ended.outcome}: {ended.sentence}"
