"""Benchmarks of a fleet of 10 000 hosts: asking for hosts by expression, and planning. Part of `make bench`.

The commands are those of the command line, in a process of their own, against a controller on the loopback interface.
"""

import asyncio
import json
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

import structlog
from engine_parts import KERNEL, ManualClock, Parts

from controller.adapters.local.clock import SystemClock
from controller.adapters.pki.certificates import open_authority
from controller.domain.hosts.host import Host, SwapDevice
from controller.domain.record.fleet import HostQuarantined, InventoryImported, KernelDenied
from controller.domain.record.names import FLEET
from controller.main import listen
from controller.services.agents.enrollment import Enrollment
from controller.services.agents.identity import Epochs
from controller.settings import Settings

HOSTS = 10_000
ROUNDS = 7
# What an answer and a plan may take.
LIST_ALLOWED_S, PLAN_ALLOWED_S = 1.0, 2.0
CONDITION = 'arch == "x86_64" && swap_total >= TiB(1) && labels.zone == "b"'
SPEC = """
apiVersion: kernroll/v1
kind: Rollout
metadata: {name: large}
spec:
  kernels:
    x86_64: {debian: {version: "7.1.13"}}
    arm64: {debian: {version: "7.1.13"}}
  strata: {labels: [zone]}
  selector: {where: 'memory >= GiB(16) && labels.zone in ["a", "b", "c"]'}
  waves: [{per_stratum: 1}, {percent: 1}, {percent: 5}, {percent: 25}, {rest: true}]
  workloads:
    swap_mount: {device: {brd_size: 1TiB}}
"""


def host(number: int) -> Host:
    """One host of a mixed fleet."""
    name = f"host-{number:05d}"
    return Host(
        name=name,
        architecture="arm64" if number % 3 == 0 else "x86_64",
        platform="metal" if number % 5 else "vm",
        page_size_bytes=4096,
        memory_bytes=2**36,
        cpu_count=64,
        kernel_release="7.0.13+deb13-amd64",
        kernel_version="#1 SMP",
        boot_id=f"boot-{number}",
        agent_version="0.1.0",
        kernel_command_line="ro quiet",
        swap_devices=(
            SwapDevice(path="/dev/nvme0n1", size_bytes=2 ** (38 + number % 4), used_bytes=0, backend="nvme"),
        ),
        firmware="uefi",
        boot_loader="grub",
        virtualization="none",
        connected=True,
        last_seen=1000.0,
    )


async def fleet() -> Parts:
    """A controller that knows the hosts; their zones come from an inventory."""
    parts = await Parts(clock=ManualClock()).start()
    for number in range(HOSTS):
        parts.engine.world.see(host(number))
    labels = {
        name: {"zone": "abc"[place % 3], "rack": f"r{place % 200}"}
        for place, name in enumerate(parts.engine.world.hosts)
    }
    decided = (
        InventoryImported(at=1000.0, by="bench", inventory="site", hosts=labels),
        HostQuarantined(at=1000.0, by="bench", host="host-00042", remark="memory errors"),
        KernelDenied(at=1000.0, by="bench", kernel=KERNEL.release, reason="hangs", where='rack == "r7"'),
    )
    await parts.engine.record(FLEET, lambda: decided)
    return parts


@dataclass(frozen=True, slots=True)
class Taken:
    """What the quickest of some rounds took: other work on the machine only ever makes one slower."""

    wall_s: float
    # Of this process, which is the controller, and of the command.
    processor_s: float


async def timed(act: Callable[[], Awaitable[object]]) -> Taken:
    """Return what it takes."""
    taken = []
    for _ in range(ROUNDS):
        begin, used = time.perf_counter(), _processor_s()
        await act()
        taken.append((time.perf_counter() - begin, _processor_s() - used))
    return Taken(min(wall for wall, _ in taken), min(used for _, used in taken))


def _processor_s() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


async def command(address: str, *arguments: str) -> str:
    """Run the command line as an operator does; return what it prints."""
    program = [sys.executable, "-m", "controller", "--insecure", "--controller", address, *arguments]
    process = await asyncio.create_subprocess_exec(*program, stdout=subprocess.PIPE)
    printed, _ = await process.communicate()
    assert process.returncode == 0, arguments
    return printed.decode()


async def measure(directory: Path) -> tuple[dict[str, int], dict[str, Taken]]:
    """Return the sizes, and what each thing takes."""
    parts = await fleet()
    address, enroll = (f"127.0.0.1:{_free_port()}" for _ in range(2))
    settings = Settings(state_dir=directory, listen=address, enroll_listen=enroll, insecure_plaintext=True)
    authority = open_authority(directory / "authority", SystemClock().now())
    enrollment = Enrollment(parts.store, authority, parts.clock)
    servers = await listen(
        settings, authority, parts.clock, Epochs(parts.store, 1), (parts.sessions, parts.operations, enrollment)
    )
    matching = json.loads(await command(address, "hosts", "list", "--where", CONDITION, "-o", "json"))
    plan = await parts.operations.plan(SPEC, "large.yaml")
    assert not plan.blockers, plan.blockers
    taken = {
        "command_line_alone": await timed(lambda: command(address, "--version")),
        "list_where": await timed(lambda: command(address, "hosts", "list", "--where", CONDITION)),
        "list_all": await timed(lambda: command(address, "hosts", "list")),
        "plan": await timed(lambda: parts.operations.plan(SPEC, "large.yaml")),
    }
    for server in servers:
        await server.stop(None)
    await parts.engine.close()
    return {"hosts": HOSTS, "matches": len(matching["hosts"]), "planned_hosts": plan.host_count}, taken


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def main() -> int:
    """Measure, print the figures as JSON, and fail when one takes longer than is allowed."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    with tempfile.TemporaryDirectory() as directory:
        sizes, taken = asyncio.run(measure(Path(directory)))
    print(json.dumps({**sizes, **{name: asdict(one) for name, one in taken.items()}}, indent=2))
    broken = False
    for name, what, allowed_s in (
        ("list_where", f"hosts list --where, {HOSTS} hosts", LIST_ALLOWED_S),
        ("plan", f"plan, {HOSTS} hosts", PLAN_ALLOWED_S),
    ):
        # Command and controller work one after the other: with nothing else to do, that is the time it takes.
        used_s = taken[name].processor_s
        broken = broken or used_s > allowed_s
        verdict = "holds" if used_s <= allowed_s else "BROKEN"
        wall = f"{taken[name].wall_s:.2f} s on this machine now"
        print(f"{what}: {used_s:.2f} s of a processor, {wall} (allowed {allowed_s:.0f} s): {verdict}")
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
