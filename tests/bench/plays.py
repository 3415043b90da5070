"""What a play costs beside the same verb through a host's agent: processor seconds and memory, children included.

Hosts are one machine under many names, over a real sshd on the loopback interface. What runs on the machine itself is
not the controller's and is left out: of sshd and of what it starts.
"""

import argparse
import asyncio
import contextlib
import json
import logging
import os
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

import structlog
from grub_machine import bare_machine
from own_controller import free_port, hello, own_controller
from ssh_machine import SshMachine, ssh_machine

from controller.adapters.delivery.ansible.program import AgentProgram
from controller.adapters.plays.leftovers import MARK
from controller.adapters.plays.runner import Plays
from protos.kernroll.v1 import agent_pb2, agent_pb2_grpc

# What is demanded: of each host of a play beside Ansible's own start, of that start, and of each process.
ALLOWED_CPU_S, ALLOWED_START_CPU_S, ALLOWED_FORK_MB = 0.5, 4.0, 100.0
TIMEOUT_S = 600.0
_LOOK_S = 0.05
_MB = 1e6
SECRET = "kr1.a-secret-of-this-benchmark"
BOOT = "#!/bin/sh\necho '{}'\n"


@dataclass(slots=True)
class Peak:
    """The largest that was seen of a play's processes: together, and of one; memory shared by several counts once."""

    together_mb: float = 0.0
    one_mb: float = 0.0
    processes: int = 0
    secrets: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Of one way of asking, over so many hosts."""

    way: str
    hosts: int
    forks: int
    seconds: float
    cpu_s: float
    peak: Peak
    left: int

    @property
    def cpu_s_per_host(self) -> float:
        """Processor seconds of the controller for one host."""
        return self.cpu_s / self.hosts


def watch(stop: threading.Event, peak: Peak, spent: list[float], place: Path) -> None:
    """Look at the processes of plays until told to stop; at the end say what looking has cost."""
    while not stop.wait(_LOOK_S):
        sizes = []
        for name in filter(str.isdecimal, os.listdir("/proc")):
            try:
                told = Path(f"/proc/{name}/environ").read_bytes()
                if f"{MARK}={place}".encode() not in told:
                    continue
                told += Path(f"/proc/{name}/cmdline").read_bytes()
                rollup = Path(f"/proc/{name}/smaps_rollup").read_text(encoding="ascii")
            except OSError:
                continue
            peak.secrets += SECRET.encode() in told
            sizes.append(next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")) / 1e3)
        peak.together_mb = max(peak.together_mb, sum(sizes))
        peak.one_mb = max([peak.one_mb, *sizes])
        peak.processes = max(peak.processes, len(sizes))
    spent.append(time.thread_time())


def files_in(place: Path) -> int:
    """Return how many files plays have left."""
    return sum(len(names) for _, _, names in os.walk(place))


async def measured(way: str, hosts: int, forks: int, act: Callable[[], Awaitable[None]], place: Path) -> Cost:
    """Return what it costs."""
    peak, stop = Peak(), threading.Event()
    spent: list[float] = []
    watching = threading.Thread(target=watch, args=(stop, peak, spent, place))
    watching.start()
    own = time.process_time()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    try:
        await act()
    finally:
        stop.set()
        watching.join()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    children = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    left = files_in(place)
    cpu_s = children + time.process_time() - own - spent[0]
    return Cost(way=way, hosts=hosts, forks=forks, seconds=time.monotonic() - began, cpu_s=cpu_s, peak=peak, left=left)


async def by_plays(one: SshMachine, place: Path, hosts: int, forks: int) -> Cost:
    """Ask over ssh, in one play."""
    names = [f"h{number:04}" for number in range(hosts)]
    inventory = place.parent / "inventory.json"
    inventory.write_text(json.dumps({"all": {"hosts": {name: one.variables() for name in names}}}))
    plays = Plays(inventory, forks=forks)
    variables = {"kernroll_arguments": ["status"], "kernroll_join_token": SECRET}

    async def act() -> None:
        found = await plays.run("boot.yml", names, variables, timeout_s=TIMEOUT_S)
        bad = [outcome.sentence for outcome in found.values() if not outcome.done]
        assert not bad, bad[:3]

    return await measured("by ssh", hosts, forks, act, place)


async def answer(call: Any) -> None:
    """Be a host's agent: answer what kernroll-boot is asked."""
    while isinstance(told := await call.read(), agent_pb2.ControllerMessage):
        if told.HasField("boot_request"):
            said = agent_pb2.BootAnswer(request_id=told.boot_request.request_id, document="{}")
            await call.write(agent_pb2.AgentMessage(boot_answer=said))


async def by_agents(directory: Path, hosts: int) -> Cost:
    """Ask over sessions with a real controller; the agents' side of them is in this process and counted as well."""
    state = directory / f"state-{hosts}"
    async with (
        own_controller(state, free_port(), free_port()) as controller,
        contextlib.AsyncExitStack() as sessions,
    ):
        names = [f"h{number:04}" for number in range(hosts)]
        for name in names:
            channel = await sessions.enter_async_context(controller.channel(await controller.enroll(name)))
            call: Any = agent_pb2_grpc.AgentServiceStub(channel).Session()
            first = hello(name)
            first.hello.takes_boot_requests = True
            await call.write(first)
            assert (await call.read()).HasField("welcome")
            sessions.callback(call.cancel)
            answering = asyncio.create_task(answer(call))
            sessions.callback(answering.cancel)
        program = AgentProgram(controller.sessions.boot_requests)

        async def act() -> None:
            await asyncio.gather(*(program.ask(name, "status", "--output=json") for name in names))

        return await measured("through agents", hosts, 0, act, directory / "plays")


def told(cost: Cost) -> str:
    """Return a row."""
    peak = cost.peak
    return (
        f"| {cost.way} | {cost.hosts} | {cost.forks or '–'} | {cost.seconds:.2f} s | {cost.cpu_s_per_host:.4f} s |"
        f" {peak.together_mb:.0f} MB | {peak.one_mb:.0f} MB | {cost.left} |"
    )


def misses(cost: Cost) -> bool:
    """Return whether it costs more than it may, or leaves or shows what it must not."""
    too_much = cost.cpu_s > ALLOWED_START_CPU_S + ALLOWED_CPU_S * cost.hosts
    return too_much or bool(cost.left or cost.peak.secrets) or cost.peak.one_mb > ALLOWED_FORK_MB


async def main() -> int:
    """Measure and print a table; 1 when a demand is missed."""
    print("| Way | Hosts | Forks | Time | CPU a host | Peak, all | Peak, one process | Files left |")
    print("|---|---|---|---|---|---|---|---|")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, nargs="+", default=[1, 10, 50])
    parser.add_argument("--forks", type=int, default=20)
    asked = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    costs = []
    with tempfile.TemporaryDirectory(prefix="kr-") as made:
        directory = Path(made)
        for name in ("machine", "ssh", "plays"):
            (directory / name).mkdir()
        tempfile.tempdir = str(directory / "plays")
        with bare_machine(directory / "machine") as machine, ssh_machine(machine, directory / "ssh") as one:
            one.put("/usr/local/sbin/kernroll-boot", BOOT)
            for hosts in asked.hosts:
                costs.append(await by_plays(one, directory / "plays", hosts, min(asked.forks, hosts)))
                assert SECRET not in machine.sh("grep -rls kr1 /tmp /root /var 2>/dev/null || true")
                print(told(costs[-1]), flush=True)
        for hosts in asked.hosts:
            costs.append(await by_agents(directory, hosts))
            print(told(costs[-1]), flush=True)
        tempfile.tempdir = None
    missed = [cost for cost in costs if misses(cost)]
    for cost in missed:
        print(f"missed: {cost}", file=sys.stderr)
    return bool(missed)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
