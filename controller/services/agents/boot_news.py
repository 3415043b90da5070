"""What a host's kernroll-boot has written down of which kernels it boots, as its agent passes it on."""

from dataclasses import replace

from controller.domain.hosts.host import Host
from controller.domain.hosts.loaders import HostBoot
from controller.services.engine.engine import Engine
from controller.services.engine.watching import tell_trial_end
from controller.services.ports import Clock, Store


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
        if host.boot is not None:
            await tell_trial_end(self._engine, host.boot.delivery, self._clock.now())
