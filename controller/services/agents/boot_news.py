"""What a host's kernroll-boot has written down of which kernels it boots, as its agent passes it on."""

from dataclasses import replace

import structlog

from controller.domain.hosts.host import Host
from controller.domain.hosts.loaders import HostBoot
from controller.domain.record.names import Key
from controller.services.engine.engine import Engine
from controller.services.engine.watching import trial_end
from controller.services.ports import Clock, Store

_log = structlog.get_logger("boot_news")


class BootNews:
    """Keeps what is known of a host's boots as new as its agent tells it."""

    def __init__(self, engine: Engine, store: Store, clock: Clock) -> None:
        self._engine = engine
        self._store = store
        self._clock = clock

    async def told(self, name: str, boot: HostBoot) -> None:
        """Take over what a connected host says in between: its default has changed, what was armed is withdrawn, …"""
        known = self._engine.world.hosts.get(name)
        if known is None or known.boot == boot:
            return
        heard = replace(known, boot=boot)
        self._engine.world.see(heard)
        await self._store.save_host(heard)
        self._engine.world.mark_host(name)
        self._engine.wake()
        await self._engine.touch()

    async def tell_trial_end(self, host: Host) -> None:
        """Tell how a trial boot ended before that the host is back: with that its attempt may be over."""
        attempt = self._engine.world.active_attempt(host.name)
        if attempt is None or host.boot is None:
            return
        ended = trial_end(attempt, host.boot.delivery, self._clock.now(), self._engine.resumed_at)
        if ended is not None:
            _log.info("trial_ended", host=host.name, end=ended.end, line=ended.line)
            await self._engine.observe(Key(attempt.uid, attempt.host), ended)
