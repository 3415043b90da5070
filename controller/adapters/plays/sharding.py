"""Plays over many hosts: a process for each shard of them, and what became of each host, however a shard ended."""

import asyncio
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from controller.adapters.plays.outcomes import ANSWERING_TASK, CHANGED, OK, HostOutcome, PlayEvent, outcomes
from controller.adapters.plays.runner import Plays
from controller.domain.errors import Temporary

# Ansible keeps all of a play's hosts in memory, and a play that dies takes no more with it.
MOST_HOSTS: Final = 500
# How long others that are asked the same are waited for; a play takes seconds.
_GATHER_S: Final = 0.2


def shards(hosts: Sequence[str], most: int = MOST_HOSTS) -> list[list[str]]:
    """Return hosts in shards of nearly the same size, each of at most `most`, in their order."""
    count = math.ceil(len(hosts) / most)
    size = math.ceil(len(hosts) / count) if count else 1
    return [list(hosts[at : at + size]) for at in range(0, len(hosts), size)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """Plays over some hosts, one after the other.

    What is known of them is put into `found` at a play's end, also when it is broken off.
    """

    plays: Plays
    timeout_s: float
    told: Callable[[PlayEvent], None]
    found: dict[str, HostOutcome]

    async def run(self, playbook: str, hosts: Sequence[str], variables: Mapping[str, Any]) -> None:
        """Run a playbook. A play that did not come to its end is its hosts' outcome. Raises Permanent as Plays.run."""
        events: list[PlayEvent] = []

        def heard(event: PlayEvent) -> None:
            events.append(event)
            self.told(event)

        why = "broken off; the same command again goes on"
        try:
            self.found.update(await self.plays.run(playbook, hosts, variables, timeout_s=self.timeout_s, told=heard))
            return
        except Temporary as error:
            why = str(error)
        except asyncio.CancelledError:
            self.found.update(_known(hosts, events, why))
            raise
        self.found.update(_known(hosts, events, why))


def _known(hosts: Sequence[str], events: Sequence[PlayEvent], why: str) -> Mapping[str, HostOutcome]:
    """Return what is known of hosts whose play did not come to its end: it answered, it failed, or nobody knows."""
    answered = {one.host for one in events if one.task == ANSWERING_TASK and one.status in (OK, CHANGED)}
    found = {}
    for host, outcome in outcomes(hosts, events, why).items():
        ended = host in answered or outcome.sentence
        sentence = outcome.sentence if ended else why
        found[host] = HostOutcome(
            host=host,
            done=host in answered and outcome.done,
            unreachable=outcome.unreachable,
            task=outcome.task,
            sentence=sentence,
            answer=outcome.answer,
        )
    return found


@dataclass(slots=True, kw_only=True)
class Together:
    """Asks hosts together that are asked the same at about the same moment: one process serves them all."""

    plays: Plays
    timeout_s: float
    forks: int
    gather_s: float = _GATHER_S
    _open: dict[str, dict[str, "asyncio.Future[HostOutcome]"]] = field(default_factory=dict)
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    async def run(self, playbook: str, host: str, variables: Mapping[str, Any]) -> HostOutcome:
        """Return what became of the host in the playbook. Raises what Plays.run raises."""
        name = json.dumps([playbook, variables], sort_keys=True)
        batch = self._open.get(name)
        if batch is None or len(batch) >= MOST_HOSTS or host in batch:
            batch = self._open[name] = {}
            task = asyncio.create_task(self._serve(name, batch, playbook, variables))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        batch[host] = asyncio.get_running_loop().create_future()
        return await batch[host]

    async def close(self) -> None:
        """End what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(
        self,
        name: str,
        batch: dict[str, "asyncio.Future[HostOutcome]"],
        playbook: str,
        variables: Mapping[str, Any],
    ) -> None:
        await asyncio.sleep(self.gather_s)
        if self._open.get(name) is batch:
            del self._open[name]
        hosts = list(batch)
        rounds = math.ceil(len(hosts) / self.forks)
        try:
            found = await self.plays.run(playbook, hosts, variables, timeout_s=self.timeout_s * rounds)
        except BaseException as error:
            for future in batch.values():
                if not future.done():
                    if isinstance(error, Exception):
                        future.set_exception(error)
                    else:
                        future.cancel()
            if not isinstance(error, Exception):
                raise
            return
        for host, future in batch.items():
            if not future.done():
                future.set_result(found[host])
