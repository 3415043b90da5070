"""A controller process and a small fleet of real VMs in a test's own directory, and ways to look and to break."""

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any, TypeVar

from controller.adapters.delivery.hypervisor.processes import vm_status
from controller.adapters.delivery.hypervisor.sockets import short_path
from controller.adapters.delivery.hypervisor.supervising.qemu import pid_file, qmp_socket
from controller.adapters.local.cache import Cache
from controller.adapters.rpc.operator_client import OperatorClient
from controller.cli.lab.fleet import wait_for_agents
from controller.domain.delivery import BootCause, BootRecord
from controller.domain.kernels import DebianKernel
from controller.lab.demo import ControllerProcess
from controller.lab.fleet import Connection, Prepared, create_guest, prepare, switch_off, switch_on
from controller.lab.guests import DEFAULT_MEMORY_MIB, Guest
from controller.views.models import HostProgressView, RolloutView

OLD, NEW = "7.0.13", "7.1.13"
HOST = "x86-64-1"
ARM_HOST = "arm64-1"
ROLLOUT = "trial"
# How long a machine may show nothing new: beside other work an emulated one takes many times as long as alone.
QUIET_S = 300.0
JOIN_S = 1800.0
ROLLOUT_S = 1800.0
_LOOK_EVERY_S = 0.05
_HEARTBEAT_S = 1.0
_MONITOR_TIMEOUT_S = 10.0
PANIC_ON_NMI = "unknown_nmi_panic"
_Found = TypeVar("_Found")

_SPEC = Template("""\
apiVersion: kernroll/v1
kind: Rollout
metadata:
  name: $name
spec:
  kernels:
$kernels
  from:
$expected
  waves:
    - {per_stratum: 1, bake: ${bake_s}s}
  workloads:
    swap_mount: {device: {block_device: /dev/kernroll-swap}, repetitions: $repetitions, warmups: 0, timeout: 900s}
  claim:
    - {metric: swap_mount.cost, saves_at_least: 230.4, unit: MiB/TiB, on_refuted: revert}
  limits:
    max_in_flight: 3
    boot_timeout: ${boot_timeout_s}s
    probation_timeout: 900s
    baseline_timeout: 900s
    stage_timeout: 300s
    heartbeat_timeout: 180s
    revert_timeout: 900s
""")


def spec(
    architectures: tuple[str, ...] = ("x86_64",),
    *,
    version: str = NEW,
    repetitions: int = 1,
    command_line: str = "",
    boot_timeout_s: float = 600.0,
    bake_s: float = 2.0,
) -> str:
    """Return a rollout from OLD to a version; `command_line` is appended to the hosts' own under the new kernel."""
    source = json.dumps({"debian": {"version": version}, "command_line": command_line})
    return _SPEC.substitute(
        name=ROLLOUT,
        kernels="\n".join(f"    {one}: {source}" for one in architectures),
        expected="\n".join(f'    {one}: {{version: "{OLD}"}}' for one in architectures),
        repetitions=repetitions,
        boot_timeout_s=f"{boot_timeout_s:g}",
        bake_s=f"{bake_s:g}",
    )


def until(what: str, look: Callable[[], _Found | None], timeout_s: float) -> _Found:
    """Return what `look` finds once it finds something; fail naming `what` when it does not in time."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = look()
        if found is not None and found is not False:
            return found
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        time.sleep(_LOOK_EVERY_S)


def prepared(architectures: tuple[str, ...]) -> Prepared:
    """Return what the guests are made of, fetched and built on first use."""
    new = tuple((DebianKernel(version=NEW), one) for one in architectures)
    return prepare(
        Cache.from_environment(), architectures, lambda _: DebianKernel(version=OLD), lambda *_: None, more_kernels=new
    )


@dataclass(frozen=True, slots=True)
class RealFleet:
    """The test's fleet; every host is on OLD and connected."""

    controller: ControllerProcess

    @contextmanager
    def client(self) -> Iterator[OperatorClient]:
        """Open an operator's connection."""
        with OperatorClient(self.controller.address, client_dir=self.controller.client_dir, timeout_s=10.0) as client:
            yield client

    def start(self, document: str, *, aa: bool = False) -> None:
        """Start a rollout, old against old with `aa`."""
        with self.client() as client:
            client.start_rollout(document, "test.yaml", aa=aa)

    def rollout(self) -> RolloutView:
        """Return the rollout as it is now."""
        with self.client() as client:
            return client.get_rollout(ROLLOUT)

    def ended(self, timeout_s: float = ROLLOUT_S, *, name: str = ROLLOUT) -> RolloutView:
        """Follow the rollout to its end."""
        with self.client() as client:
            views = list(client.watch_rollout(name, timeout_s))
        assert views[-1].terminal, views[-1]
        return views[-1]

    def reaches(self, wanted: Callable[[HostProgressView], bool], what: str, host: str = HOST) -> HostProgressView:
        """Return the host's progress once it is as wanted; the rollout must not end before."""

        def look() -> HostProgressView | None:
            view = self.rollout()
            progress = next(one for wave in view.waves for one in wave.hosts if one.host == host)
            assert wanted(progress) or not view.terminal, f"ended before {what}: {view}"
            return progress if wanted(progress) else None

        return until(f"{host}: {what}", look, ROLLOUT_S)

    def steps_to(self, step: str, host: str = HOST) -> HostProgressView:
        """Return the host's progress once it is in a step."""
        return self.reaches(lambda progress: progress.step == step, f"step {step}", host)

    def report(self) -> dict[str, Any]:
        """Return the report's JSON document."""
        with self.client() as client:
            document: dict[str, Any] = json.loads(client.report_rollout(ROLLOUT).json)
        return document

    def explanation(self) -> str:
        """Return the one sentence of `rollout explain`."""
        with self.client() as client:
            return client.explain_rollout(ROLLOUT).sentence

    def release(self, host: str = HOST) -> str:
        """Return the kernel that the host's connected agent runs under; empty while it is not connected."""
        with self.client() as client:
            found = client.get_host(host)
        return found.facts.kernel_release if found.connected else ""

    def returns(self, version: str, host: str = HOST, timeout_s: float = JOIN_S) -> None:
        """Wait until the host's agent is connected under a kernel of this version."""
        until(f"{host} back on {version}", lambda: self.release(host).startswith(f"{version}+"), timeout_s)

    def directory(self, host: str = HOST) -> Path:
        """Return the VM's directory."""
        return self.controller.fleet_dir / host

    def boots(self, host: str = HOST) -> tuple[BootRecord, ...]:
        """Return the supervisor's records of all boots."""
        return vm_status(self.directory(host)).delivery.boots

    def booted(self, cause: BootCause, host: str = HOST, timeout_s: float = ROLLOUT_S) -> BootRecord:
        """Return the newest boot once it has this cause."""

        def look() -> BootRecord | None:
            newest = self.boots(host)[-1]
            return newest if newest.cause is cause else None

        return until(f"{host}: a boot because of {cause}", look, timeout_s)

    def consoles(self, host: str = HOST) -> dict[int, str]:
        """Return what the guest printed, by boot."""
        files = self.directory(host).glob("boots/*/console.log")
        return {int(file.parent.name): file.read_text(errors="replace") for file in files}

    def printed(self, text: str, host: str = HOST) -> int:
        """Return how often the guest printed a text, all boots together."""
        return sum(console.count(text) for console in self.consoles(host).values())

    def kill_supervisor(self, host: str = HOST) -> None:
        """Kill the VM's supervisor with no chance to say anything; its QEMU lives on."""
        pid = vm_status(self.directory(host)).supervisor_pid
        assert pid is not None, "it has no supervisor"
        os.kill(pid, signal.SIGKILL)

    def cut_power(self, host: str = HOST) -> None:
        """Kill the running QEMU, as a power cut would end a machine."""
        number = self.boots(host)[-1].number
        os.kill(int((self.directory(host) / pid_file(number)).read_text()), signal.SIGKILL)

    def inject_nmi(self, host: str = HOST) -> None:
        """Send the guest an interrupt that panics a kernel booted with PANIC_ON_NMI."""
        number = self.boots(host)[-1].number
        with short_path(self.directory(host), qmp_socket(number)) as path, socket.socket(socket.AF_UNIX) as monitor:
            monitor.settimeout(_MONITOR_TIMEOUT_S)
            monitor.connect(str(path))
            with monitor.makefile("rw") as lines:
                lines.readline()
                for command in ("qmp_capabilities", "inject-nmi"):
                    lines.write(json.dumps({"execute": command}) + "\n")
                    lines.flush()
                    answer = lines.readline()
                    assert "return" in answer, answer


@contextmanager
def real_fleet(
    directory: Path, architectures: tuple[str, ...] = ("x86_64",), seed: Mapping[str, bytes] | None = None
) -> Iterator[RealFleet]:
    """Bring up a controller and one guest of each architecture; take everything down afterwards.

    `seed` are further files for the guests' seed disks; Python below `app` is found before the agent's own.
    """
    parts = prepared(architectures)
    controller = ControllerProcess(directory, heartbeat_s=_HEARTBEAT_S)
    guests = [
        Guest(name=f"{one.replace('_', '-')}-1", architecture=one, memory_mib=DEFAULT_MEMORY_MIB)
        for one in architectures
    ]
    fleet = RealFleet(controller)
    try:
        controller.start()
        with fleet.client() as client:
            token = client.create_join_token(uses=len(guests), valid_s=JOIN_S).token
            connection = Connection(
                agent_port=controller.port, enroll_port=controller.enroll_port, join_token=token, channel="serial"
            )
            cache = Cache.from_environment()
            made = [create_guest(cache, controller.fleet_dir, one, parts, connection, more_seed=seed) for one in guests]
            switch_on(made)
            wait_for_agents(client, made, QUIET_S, lambda _: None)
        yield fleet
    finally:
        switch_off(controller.fleet_dir, remove=False)
        controller.stop()
