"""The ports: what the services need from the world.

Each has one contract suite in tests/contracts that every implementation passes.
"""

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from controller.domain.delivery import DeliveryStatus
from controller.domain.hosts.host import Host
from controller.domain.kernels import Kernel, KernelSource
from controller.domain.record.actions.power_cycles import PowerSeen
from controller.domain.record.actions.work import WorkKind
from controller.domain.record.checks import Answer, Check, Question
from controller.domain.record.effects import AgentEffect, DeliveryEffect, Effect, PlaceEffect
from controller.gate.ledger import Ledger
from controller.services.records import Commit, Enrolled, Loaded, Logged, TokenGrant


class Clock(Protocol):
    """The only source of time."""

    def now(self) -> float:
        """Return seconds since the Unix epoch."""


class Delivery(Protocol):
    """Puts kernels on hosts and boots them so that a bad one is left again without help.

    Every verb is idempotent by `command_id`: repeating a call with an id that was carried out returns at once and does
    nothing. Verbs return when the change is durable, not when the host is up. Raises Temporary (unreachable, worth
    retrying) or Permanent (refused; the text says why).
    """

    def reaches(self, host: Host) -> bool:
        """Return whether the host gets its kernels this way, from what is known of it. Asked when a plan is made."""

    def longest_s(self, effect: DeliveryEffect) -> float:
        """Return after how long a call for this effect is given up, to be tried again."""

    async def stage(self, host: str, command_id: str, kernel: Kernel) -> None:
        """Bring the kernel's files to the host. Never changes what boots next."""

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
        """Make a staged kernel (by digest) the next boot, once.

        After that boot the host falls back to its default kernel by itself when the kernel panics, resets, is not
        acknowledged within `boot_timeout_s` of the start, or not blessed within `probation_timeout_s` of the
        acknowledgement.

        With `require_watchdog` a host that starts from its own disk refuses where no watchdog would end a hang of this
        kernel; virtual machines that the controller starts are ended from outside.
        """

    async def reboot(self, host: str, command_id: str) -> None:
        """Cold-boot now: into the armed kernel, else into the default."""

    async def acknowledge(self, host: str, command_id: str) -> None:
        """A healthy agent was heard under the armed kernel: end the boot deadline, start the probation deadline."""

    async def bless(self, host: str, command_id: str) -> None:
        """Make the running kernel the default. The former default stays staged."""

    async def revert(self, host: str, command_id: str, kernel: str) -> None:
        """Make `kernel` (a digest, staged) the default, disarm, and cold-boot into it unless it is running as such."""

    async def status(self, host: str) -> DeliveryStatus:
        """Return the present state."""

    def watch(self, hosts: Sequence[str]) -> AsyncGenerator[DeliveryStatus]:
        """Yield each host's state at once and again after each change.

        An unreachable host is retried and yields nothing meanwhile.
        """


class Work(Protocol):
    """Hears what is done on a host for one of its commands, while it is done. Never fails, and never waits."""

    def tell(self, kind: WorkKind, what: str, *, seconds: float = 0.0, sentence: str = "") -> None:
        """Take one line, without secrets; `what` is a task, a playbook or a verb.

        After BEGAN come lines of tasks until ENDED; a task that is told as RUNNING is at work until another line comes.
        """


class WorkLog(Protocol):
    """Where deliveries tell operators what they do, for the log of the rollout that asked for it."""

    def work(self, host: str, command_id: str, way: str) -> Work:
        """Return who hears of a command's work; `way` is how the host is asked: "agent" or "ssh"."""


class Places(Protocol):
    """Where hosts serve others: a host is taken out of service before it goes down, and put back afterwards.

    Both verbs are idempotent by `command_id`. Raises Temporary (unreachable, worth retrying) or Permanent (refused;
    the text says why).
    """

    def place_of(self, host: Host) -> str:
        """Return the name of the place the host serves in, empty when nobody minds. Asked when a plan is made."""

    def longest_s(self, effect: PlaceEffect) -> float:
        """Return after how long a call for this effect is given up, to be tried again."""

    async def drain(self, host: str, command_id: str) -> None:
        """Take the host out of service and return when nothing runs there that must not go down with it.

        May be broken off at any moment, and be called again: what was done stays done. It takes over from an earlier
        command that was never taken back.
        """

    async def uncordon(self, host: str, command_id: str, *, drained_by: str) -> None:
        """Undo what the draining under this command id has done, be it half; from then on it does nothing any more.

        What somebody else took out of service stays out.
        """


class Power(Protocol):
    """Hosts' management controllers, the last resort: they cut a host's power and give it again.

    Raises Temporary (not reached, worth trying again) or Permanent (refused, or nothing that can be asked; the text
    says why).
    """

    async def without(self, hosts: Sequence[str]) -> tuple[str, ...]:
        """Return those of the hosts that have no management controller. Asked when a plan is made."""

    async def look(self, host: str) -> PowerSeen:
        """Return whether the host has power, and what else is said of it. Changes nothing."""

    async def cycle(self, host: str) -> None:
        """Cut the host's power and give it again; one that has none is switched on. Returns when the order is taken.

        Sends the order once. Raises Temporary or Permanent only when surely nothing was done, and OutcomeUnknown when
        it was sent and no answer came.
        """


class Kernels(Protocol):
    """Finds kernels and keeps them. Raises Permanent (no such kernel; the text says what to change) or Temporary."""

    async def resolve(self, source: KernelSource, architecture: str) -> Kernel:
        """Return the kernel the source names, fetched and checked, present in the store afterwards."""

    async def load(self, digest: str) -> Kernel:
        """Return a kernel of the store; raises NotFound."""


class Agents(Protocol):
    """The agents that are connected to this controller."""

    async def send(self, effect: AgentEffect) -> bool:
        """Hand a command to the host's stream; False when the host is not connected, then nothing was sent."""


class Checker(Protocol):
    """Asks the checks of a rollout: monitoring, and other programs that have a say."""

    async def ask(self, check: Check, question: Question) -> Answer:
        """Return what was learnt: pass, fail or wait. Asking twice does no harm.

        Raises Temporary or Permanent when nothing was learnt (unreachable, refused, an empty answer, no number); the
        text says what, from whom, and what to try. It never takes that for a pass, nor for a failure.
        """


class Store(Protocol):
    """Durable truth: the event log, the outbox, hosts and enrollment. Every write is on disk when the call returns.

    Every write raises Conflict, and writes nothing, once a newer controller has opened the store.
    """

    async def open(self, *, may_create: bool = True) -> int:
        """Create or check the schema and return this controller's epoch, higher than any before it.

        Raises Permanent when there is nothing yet and it may not be made.
        """

    async def raise_epoch(self, above: int) -> int:
        """Bring this controller's epoch above that of others, durably, and return it; unchanged when it is already."""

    async def close(self) -> None:
        """Release everything; safe to call twice."""

    async def load(self) -> Loaded:
        """Return all that a controller needs to continue; raises Permanent, naming the record, for a damaged log."""

    async def commit(self, commit: Commit) -> bool:
        """Append events and replace effects in one transaction.

        Returns False when the report was recorded before; then nothing is written.

        A HostForgotten among the events takes the host's enrollment and record with it.

        Raises Conflict when the stream has moved on or a newer epoch has taken over.
        """

    async def commit_all(self, commits: Sequence[Commit]) -> None:
        """Make several commits in one transaction: all of them, or none. Raises Conflict as `commit` does."""

    async def effect_done(self, command_id: str) -> None:
        """Remove one effect from the outbox; unknown ids are fine."""

    async def outstanding(self) -> tuple[Effect, ...]:
        """Return the effects not done yet, oldest first."""

    async def events(self, rollout_uid: str) -> tuple[Logged, ...]:
        """Return everything recorded about one rollout and its hosts, oldest first."""

    async def fleet_events(self, most: int) -> tuple[Logged, ...]:
        """Return the newest events of the fleet's own stream, oldest first; at most so many."""

    async def ledger(self, strata: Sequence[str]) -> Ledger:
        """Return what is known of the noise in these strata; of each, the newest rows when there are very many."""

    async def save_host(self, host: Host) -> None:
        """Insert or replace one host's record."""

    async def create_token(self, grant: TokenGrant) -> None:
        """Record a join token (its digest, never the secret)."""

    async def redeem_token(self, secret_digest: str, enrolled: Enrolled, now: float) -> None:
        """Use a token once and record the host's key, in one transaction.

        A host that asks again with the key it is enrolled with uses nothing up: its first answer may have been lost.
        Names that differ only in case are one name.

        Raises Permanent for an unknown, used-up or expired token, Conflict when the host is enrolled with another key.
        """

    async def renewed(self, enrolled: Enrolled) -> None:
        """Record a host's newer certificate for the same key; raises Conflict when it is not enrolled with that key."""

    async def enrolled(self) -> tuple[Enrolled, ...]:
        """Return all enrolled hosts."""


class Progress(Protocol):
    """Where long work tells how far it is."""

    def __call__(self, label: str, done: int, total: int) -> None:
        """`total` is 0 when unknown."""
