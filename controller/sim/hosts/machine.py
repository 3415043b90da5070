"""One simulated machine: the hypervisor supervisor's own decisions over a kernel that runs, ends, or hangs."""

from asyncio import TimerHandle
from collections.abc import Callable
from typing import Final, assert_never

from controller.adapters.delivery.hypervisor.records import BootEnded, BootStarted, Defined, Record, SwitchedOn
from controller.adapters.delivery.hypervisor.supervising.decision import (
    End,
    Leave,
    Observation,
    Qemu,
    Start,
    Wait,
    Write,
    decide,
)
from controller.adapters.delivery.hypervisor.supervising.state import VmState, apply, fold, status
from controller.domain.delivery import BootCause, DeliveryStatus
from controller.domain.kernels import Kernel
from controller.sim.hosts.fates import Fate
from controller.sim.universe import Universe

PANIC_LINE: Final = "Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b"
_RUNNING: Final = Observation(qemu=Qemu.RUNNING)
# A bad kernel shows it this far into its boot.
_DIES_AT: Final = 0.4


class Machine:
    """Boots kernels by itself and on request. Who wants to know is told when a boot begins and ends."""

    def __init__(self, universe: Universe, name: str, fate: Fate, *, old: Kernel, boot_s: float) -> None:
        self.name = name
        self.state: VmState = fold(())
        self._universe = universe
        self._fate = fate
        self.old = old
        self._boot_s = boot_s
        self._seen = _RUNNING
        self._timer: TimerHandle | None = None
        self._power_was_cut = False
        # A boot began.
        self.on_started: Callable[[BootStarted], None] = lambda _record: None
        # A boot ended; whoever watches this machine hears of it later.
        self.on_ended: Callable[[BootEnded], None] = lambda _record: None
        # User space is up, and an agent may speak.
        self.on_up: Callable[[int], None] = lambda _number: None

    def switch_on(self) -> None:
        """Let the machine run its old kernel, from the beginning of the world."""
        now = self._universe.now()
        self.state = fold([Defined(at=now, kernel=self.old), SwitchedOn(at=now)])
        self.settle()

    def clock(self) -> float:
        """Return what the host takes for the time."""
        step = self._fate.clock_step
        now = self._universe.now()
        return now + step[1] if step is not None and self._universe.loop.time() >= step[0] else now

    @property
    def number(self) -> int:
        """The newest boot."""
        return self.state.boots[-1].record.number if self.state.boots else 0

    @property
    def running(self) -> str:
        """Digest of the kernel that runs; empty while the machine is down."""
        boot = self.state.open_boot
        return boot.record.kernel if boot else ""

    @property
    def on_old_kernel(self) -> bool:
        """Whether the machine runs the kernel it had at the beginning."""
        return self.running == self.old.digest

    def status(self) -> DeliveryStatus:
        """Return what the delivery port shows of this machine."""
        return status(self.state, self.name)

    def carry_out(self, record: Record | None) -> None:
        """Take a command's record; None when it was carried out before."""
        if record is not None:
            self.state = apply(self.state, record)
            self.settle()

    def fail(self, number: int, line: str = "") -> None:
        """Let a boot end by itself, if it still runs: with a panic's line, or without a word."""
        boot = self.state.open_boot
        if boot is not None and boot.record.number == number and self._seen is _RUNNING:
            self._seen = Observation(qemu=Qemu.GONE, panic_line=line)
            self.settle()

    def settle(self) -> None:
        """Do what is due, and come back when the next thing will be."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while True:
            now = self.clock()
            match decide(self.state, self._seen if self.state.open_boot else None, now):
                case Start(record=record):
                    self._seen = _RUNNING
                    self.state = apply(self.state, record)
                    if isinstance(record, BootStarted):
                        self._boots(record)
                case Write(record=ending):
                    self.state = apply(self.state, ending)
                    if isinstance(ending, BootEnded):
                        self.on_ended(ending)
                case End():
                    self._seen = Observation(qemu=Qemu.GONE)
                case Wait(until=until):
                    if until is not None:
                        self._timer = self._universe.later(until - now, self.settle)
                    return
                case Leave():
                    return
                case unknown:
                    assert_never(unknown)

    def _boots(self, record: BootStarted) -> None:
        """A kernel starts: decide how far it will come."""
        self.on_started(record)
        fate, number, new = self._fate, record.number, record.kernel != self.old.digest
        takes_s = self._universe.jitter(self._boot_s, self.name, "boot", number)
        if new and fate.boot_takes_s is not None:
            takes_s = fate.boot_takes_s
        if new and fate.panics_at_boot:
            self._universe.later(_DIES_AT * takes_s, self.fail, number, PANIC_LINE)
            return
        if new and fate.resets_at_boot:
            self._universe.later(_DIES_AT * takes_s, self.fail, number)
            return
        # What stays away by itself comes back once its power was cut.
        stuck = fate.never_returns and not self._power_was_cut
        stays_away = stuck and record.cause in (BootCause.FALLBACK, BootCause.REVERT)
        if stays_away or (new and fate.hangs_at_boot):
            return
        self._universe.later(takes_s, self._is_up, number)
        if new and fate.dies_after_s is not None:
            self._universe.later(takes_s + fate.dies_after_s, self.fail, number, PANIC_LINE)
        if fate.reboots_after_s is not None and number == 1:
            self._universe.later(takes_s + fate.reboots_after_s, self.reboot_unasked)

    def reboot_unasked(self) -> None:
        """Somebody trips over the cable, whatever runs."""
        self.fail(self.number)

    def cut_power(self) -> None:
        """Lose the power and get it again, whatever runs."""
        self._power_was_cut = True
        self.fail(self.number)

    def _is_up(self, number: int) -> None:
        if self.number == number and self.state.open_boot is not None:
            self.on_up(number)
