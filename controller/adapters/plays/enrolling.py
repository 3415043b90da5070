"""Enrolls the hosts of an inventory: what each of them needs is made once, and put there by playbooks."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from controller.adapters.local.cache import Cache, Progress
from controller.adapters.plays.bundle import agent_bundle
from controller.adapters.plays.outcomes import HostOutcome, PlayEvent
from controller.adapters.plays.places import units_directory
from controller.adapters.plays.runner import Plays
from controller.adapters.plays.sharding import MOST_HOSTS, Shard, shards
from controller.domain.errors import InvalidInput, Permanent, Temporary

# In the order in which they are started; what an agent says of the others it says when its session begins.
_UNITS: Final = (
    "kernroll-guard.service",
    "kernroll-armed.service",
    "kernroll-armed.timer",
    "kernroll-boot@.service",
    "kernroll-boot.socket",
    "kernroll-agent.service",
)
# Shards at one time; a slow host of one keeps no other shard waiting, and forks are shared among them.
SHARDS_AT_A_TIME: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolling:
    """How hosts are enrolled, whatever their number."""

    plays: Plays
    cache: Cache
    # The controller's for sessions and for enrolling, as hosts reach them.
    addresses: tuple[str, str]
    # Asked for as many uses as there are hosts of a shard that need it.
    make_token: Callable[[int], str]
    # Of each play of a shard.
    timeout_s: float
    told: Callable[[PlayEvent], None]
    progress: Progress
    # By host, in the order in which they were given: what became of it. Its answer holds `enrolled` (before) and
    # `refusals` where it is done. Whoever breaks the enrolling off finds here how far it came.
    found: dict[str, HostOutcome] = field(default_factory=dict)
    _bundles: dict[str, Mapping[str, Any] | str] = field(default_factory=dict)

    async def enroll(self, hosts: Sequence[str], *, most: int = MOST_HOSTS) -> None:
        """Enroll hosts, in shards of at most `most`; what became of them stands in `found`.

        Raises Permanent when Ansible cannot run at all, and Temporary without an index of Python packages.
        """
        for host in hosts:
            self.found[host] = HostOutcome(
                host=host, done=False, unreachable=False, task="", sentence="not begun; the same command again goes on"
            )
        at_a_time = asyncio.Semaphore(SHARDS_AT_A_TIME)

        async def one(shard: Sequence[str]) -> None:
            async with at_a_time:
                await self._shard(shard)

        try:
            async with asyncio.TaskGroup() as group:
                for shard in shards(hosts, most):
                    group.create_task(one(shard))
        except* (Permanent, Temporary) as errors:
            # The others were broken off by the first.
            raise _first(errors) from errors

    async def _shard(self, hosts: Sequence[str]) -> None:
        looking = Shard(plays=self.plays, timeout_s=self.timeout_s, told=self.told, found=self.found)
        await looking.run("look.yml", hosts, {})
        bundles: dict[str, Mapping[str, Any]] = {}
        ready = []
        for host in (host for host in hosts if self.found[host].done):
            answer = self.found[host].answer
            key = f"{answer.get('architecture')}-{answer.get('python')}"
            bundle = self._bundle(str(answer.get("architecture")), str(answer.get("python")), key)
            if isinstance(bundle, str):
                self.found[host] = replace(self.found[host], done=False, sentence=bundle, answer={})
                continue
            bundles[key] = bundle
            ready.append(host)
        if not ready:
            return
        fresh = [host for host in ready if not self.found[host].answer.get("enrolled")]
        variables = {
            "kernroll_controller": self.addresses[0],
            "kernroll_enroll": self.addresses[1],
            "kernroll_bundles": bundles,
            "kernroll_units": _units(),
            **({"kernroll_join_token": self.make_token(len(fresh))} if fresh else {}),
        }
        for host in ready:
            # Seen is not enrolled, wherever it ends.
            self.found[host] = replace(self.found[host], done=False, sentence="looked at, and not enrolled yet")
        await replace(looking, timeout_s=self.timeout_s).run("enroll.yml", ready, variables)

    def _bundle(self, architecture: str, python: str, key: str) -> Mapping[str, Any] | str:
        """Return the agent for such hosts, made once; in words why there is none."""
        if key not in self._bundles:
            try:
                made = agent_bundle(self.cache, architecture, python, self.progress)
            except InvalidInput as error:
                self._bundles[key] = str(error)
            else:
                self._bundles[key] = {**asdict(made), "path": str(made.path)}
        return self._bundles[key]


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    one: BaseException = errors
    while isinstance(one, BaseExceptionGroup):
        one = one.exceptions[0]
    return one


def _units() -> Mapping[str, str]:
    directory = units_directory()
    return {name: (directory / name).read_text(encoding="utf-8") for name in _UNITS if (directory / name).is_file()}
