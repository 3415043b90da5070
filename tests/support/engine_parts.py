"""An engine over a store in memory, with a clock that stands still until it is moved."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence

from patience import PATIENCE_S
from simulated_fleet import SPEC
from simulated_host import NEW, NEW_RELEASE, OLD, OLD_RELEASE

from controller.adapters.store.memory import Disk, MemoryStore
from controller.assembly import assemble_core
from controller.domain.delivery import BootRecord, DeliveryStatus
from controller.domain.errors import NotFound
from controller.domain.hosts.host import Host
from controller.domain.kernels import Kernel, KernelSource
from controller.domain.planning.policy import policy_of
from controller.domain.record.effects import AgentEffect, DeliveryEffect
from controller.domain.record.events import (
    CommandReported,
    CommandState,
    DeliveryReported,
    PlaceReported,
    PlannedHost,
    RolloutPlanned,
    RolloutStarted,
    RunReported,
    RunState,
)
from controller.domain.record.journey import Step
from controller.domain.record.names import Key
from controller.domain.spec.parse import parse_spec
from controller.domain.state.attempt import Attempt
from controller.services.agents.sessions import AgentStream

UID = "u1"
# Long enough for whatever is ready to happen, never waited for when all goes well.
DEADLINE_S = PATIENCE_S
STARTED = RolloutStarted(at=1000.0, by="test")
KERNEL = Kernel(digest=NEW, release=NEW_RELEASE, architecture="x86_64", source="simulated")
TEXT = SPEC.replace("IN_FLIGHT", "4").replace("ON_REFUTED", "pause")


class ManualClock:
    """Stands still."""

    def __init__(self, at: float = 1000.0) -> None:
        self.at = at

    def now(self) -> float:
        """Return what it was set to."""
        return self.at


class OneKernel:
    """A kernel store that finds one kernel, once it may."""

    def __init__(self) -> None:
        self.may = asyncio.Event()
        self.may.set()

    async def resolve(self, source: KernelSource, architecture: str) -> Kernel:
        """Return the kernel."""
        await self.may.wait()
        return KERNEL

    async def load(self, digest: str) -> Kernel:
        """Return the kernel of this digest."""
        if digest != KERNEL.digest:
            raise NotFound(digest)
        return KERNEL


def host(name: str = "a", *, boot: str = "1", release: str = OLD_RELEASE) -> Host:
    """Return a host's facts."""
    return Host(
        name=name,
        architecture="x86_64",
        platform="vm",
        page_size_bytes=4096,
        memory_bytes=2**31,
        cpu_count=1,
        kernel_release=release,
        kernel_version="#1",
        boot_id=f"{name}-boot-{boot}",
    )


def planned(
    names: Sequence[str] = ("a",), *, uid: str = UID, name: str = "trial", text: str = TEXT, place: str = ""
) -> RolloutPlanned:
    """Return a rollout in one wave."""
    hosts = tuple(PlannedHost(host=one, stratum="x86_64/vm", architecture="x86_64", place=place) for one in names)
    return RolloutPlanned(
        at=1000.0,
        uid=uid,
        name=name,
        spec_yaml=text,
        salt="s",
        kernels={"x86_64": KERNEL},
        waves=(hosts,),
        bake_s=(60.0,),
        by="test",
        policy=policy_of(parse_spec(text, "trial"), (60.0,)),
    )


class Parts:
    """One controller's services on a disk; make another on the same disk to restart it."""

    def __init__(self, disk: Disk | None = None, clock: ManualClock | None = None) -> None:
        self.disk = disk or Disk()
        self.clock = clock or ManualClock()
        self.store = MemoryStore(self.disk)
        self.kernels = OneKernel()
        core = assemble_core(self.store, self.clock, self.kernels)
        self.engine, self.sessions, self.operations = core.engine, core.sessions, core.operations
        self.journal = core.journal
        self.sent: list[AgentEffect] = []

    async def start(self) -> "Parts":
        """Open the store and continue from it."""
        await self.store.open()
        await self.engine.start()
        return self

    def attempt(self, name: str = "a", uid: str = UID) -> Attempt:
        """Return one host's attempt."""
        return self.engine.world.attempts[uid][name]

    def stream(self, name: str = "a") -> AgentStream:
        """Return a stream that takes everything."""

        async def send(effect: AgentEffect) -> None:
            self.sent.append(effect)

        return AgentStream(host=name, send=send, close=lambda _reason: None)

    async def connect(self, name: str = "a", *, boot: str = "1", release: str = OLD_RELEASE) -> AgentStream:
        """Let a host's agent connect."""
        stream = self.stream(name)
        await self.sessions.connected(stream, host(name, boot=boot, release=release))
        return stream

    async def measure(self, name: str = "a", cost: float = 819.0) -> None:
        """Let a host's agent report everything that its present command asks for."""
        attempt = self.attempt(name)
        for index in range(3):
            await self.sessions.reported(name, run(attempt, index, cost))
        await self.sessions.reported(name, outcome(attempt))


def run(attempt: Attempt, index: int, cost: float = 819.0) -> RunReported:
    """Return the report of one good run."""
    return RunReported(
        at=0.0,
        report_id=f"{attempt.command_id}#{index}",
        command_id=attempt.command_id,
        boot_id=attempt.boot_id,
        workload="swap_mount",
        index=index,
        warmup=index == 0,
        state=RunState.OK,
        error="",
        values={"swap_mount.cost": cost + index / 10},
    )


def outcome(attempt: Attempt, state: CommandState = CommandState.COMPLETED) -> CommandReported:
    """Return the report of how a measurement ended."""
    name = f"{attempt.command_id}!"
    return CommandReported(at=0.0, report_id=name, command_id=attempt.command_id, state=state, detail="")


def status(name: str = "a", *boots: BootRecord, default: str = OLD, running: str = OLD) -> DeliveryStatus:
    """Return what a host's supervisor says."""
    return DeliveryStatus(host=name, revision=1, default=default, armed=None, running=running, boots=boots)


class ScriptedDelivery:
    """A delivery that carries out everything at once, except for what it is told to fail."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        # Raised by the next calls of a verb, one by one.
        self.failures: dict[str, list[Exception]] = {}
        self.present = status()
        # After which a call is given up.
        self.seconds = 120.0

    def _call(self, verb: str, command_id: str) -> None:
        self.calls.append((verb, command_id))
        if self.failures.get(verb):
            raise self.failures[verb].pop(0)

    def reaches(self, _host: Host) -> bool:
        """See Delivery."""
        return True

    def longest_s(self, _effect: DeliveryEffect) -> float:
        """See Delivery."""
        return self.seconds

    async def stage(self, host: str, command_id: str, kernel: Kernel) -> None:
        """See Delivery."""
        self._call("stage", command_id)

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
        """See Delivery."""
        self._call("arm", command_id)

    async def reboot(self, host: str, command_id: str) -> None:
        """See Delivery."""
        self._call("reboot", command_id)

    async def acknowledge(self, host: str, command_id: str) -> None:
        """See Delivery."""
        self._call("acknowledge", command_id)

    async def bless(self, host: str, command_id: str) -> None:
        """See Delivery."""
        self._call("bless", command_id)

    async def revert(self, host: str, command_id: str, kernel: str) -> None:
        """See Delivery."""
        self._call("revert", command_id)

    async def status(self, host: str) -> DeliveryStatus:
        """See Delivery."""
        self._call("status", host)
        return self.present

    async def watch(self, hosts: Sequence[str]) -> AsyncGenerator[DeliveryStatus]:
        """Yield the present state once."""
        self._call("watch", " ".join(hosts))
        yield self.present
        await asyncio.Event().wait()


def key(name: str = "a", uid: str = UID) -> Key:
    """Name one host's attempt."""
    return Key(uid, name)


async def reached(condition: Callable[[], bool]) -> None:
    """Let everything that is ready happen until the condition holds."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - one turn of the loop at a time, and no waiting
            await asyncio.sleep(0)


async def walked(step: Step, text: str = TEXT, place: str = "") -> Parts:
    """Return a controller whose one host has come to the step by good answers."""
    parts = await Parts().start()
    stream = await parts.connect()
    await parts.engine.record(Key(UID), lambda: (planned(text=text, place=place), STARTED))
    await parts.engine.settle()
    while parts.attempt().step is not step:
        attempt = parts.attempt()
        match attempt.step:
            case Step.BASELINE:
                await parts.measure()
            case Step.PROBATION:
                await parts.measure(cost=567.0)
            case Step.VERIFY:
                await parts.sessions.disconnected(stream)
                stream = await parts.connect(boot="2", release="7.1.13-new")
            case Step.BAKE:
                parts.clock.at += 60.0
            case Step.DRAIN | Step.UNCORDON:
                answer = PlaceReported(at=parts.clock.at, command_id=attempt.command_id)
                await parts.engine.observe(Key(UID, "a"), answer)
            case _:
                delivered = DeliveryReported(
                    at=parts.clock.at,
                    command_id=attempt.command_id,
                    default_kernel="old-digest",
                    running_kernel="old-digest",
                )
                await parts.engine.observe(Key(UID, "a"), delivered)
        await parts.engine.settle()
        assert (parts.attempt().step, parts.attempt().revision) != (attempt.step, attempt.revision), "it is stuck"
    return parts
