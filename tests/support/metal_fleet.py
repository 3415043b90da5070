"""A controller and one machine that starts from its own disk, enrolled and rehearsed by the commands of a person."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from patience import PATIENCE_S
from project import ROOT
from real_fleet import until

from controller.adapters.local.cache import Cache
from controller.adapters.rpc.fleet_client import FleetClient
from controller.lab.demo import ControllerProcess, free_port
from controller.lab.full.image import prepare_disk
from controller.lab.full.machine import CONTROLLER_ADDRESS, FullMachine, Hardware, open_machine
from controller.lab.full.shapes import Shape, shape_named
from controller.views.models import HostView, RolloutView

HOST = "metal-1"
NEW = "7.3.4"
# An emulated machine's slowest step, on a busy machine.
STEP_S = 4 * PATIENCE_S
ROLLOUT_S = 12 * PATIENCE_S
BOOT_TIMEOUT_S = 420
_SPEC = """\
apiVersion: kernroll/v1
kind: Rollout
metadata: {{name: {name}}}
spec:
  kernels:
    {architecture}: {{debian: {{version: "{version}"}}}}
  selector: {{hosts: [{host}]}}
  allow_downgrade: true
  waves: [{{per_stratum: 1, bake: 2s}}]
  workloads:
    swap_mount:
      device: {{block_device: /dev/disk/by-id/nvme-QEMU_NVMe_Ctrl_kernroll-swap}}
      repetitions: 1
      warmups: 0
      timeout: 900s
  limits:
    boot_timeout: {boot_timeout_s}s
    probation_timeout: 1800s
    baseline_timeout: 1800s
    stage_timeout: 1800s
    heartbeat_timeout: 300s
    revert_timeout: 1800s
"""
_INVENTORY = """\
all:
  hosts:
    {host}:
      ansible_host: 127.0.0.1
      ansible_port: {port}
      ansible_user: operator
      ansible_ssh_private_key_file: {identity}
      ansible_ssh_common_args: -o UserKnownHostsFile={known_hosts} -o Ciphers=aes128-gcm@openssh.com
      ansible_python_interpreter: /usr/bin/python3
"""
# Debian loads no watchdog's driver by itself, and the machines' image leaves out what most of them do not need: this is
# what an administrator does who wants a machine to come back that stops, and to tell why it panicked.
_PREPARED = """\
printf 'i6300esb\\nefi_pstore\\n' > /etc/modules-load.d/kernroll-test.conf
mkdir -p /etc/systemd/system.conf.d
printf '[Manager]\\nRuntimeWatchdogSec=60\\n' > /etc/systemd/system.conf.d/watchdog.conf
"""


@dataclass(frozen=True, slots=True)
class MetalFleet:
    """The machine is enrolled, and it is proven that it comes back."""

    shape: Shape
    machine: FullMachine
    controller: ControllerProcess
    inventory: Path

    def command(self, *arguments: str) -> str:
        """Run `kernroll`, which must succeed, and return what it printed."""
        files = ["--controller", self.controller.address, "--client-dir", str(self.controller.client_dir)]
        began_s = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "controller", *arguments, *files],
            capture_output=True,
            text=True,
            timeout=ROLLOUT_S,
            check=False,
            cwd=ROOT,
        )
        print(f"{time.monotonic() - began_s:6.1f} s  kernroll {' '.join(arguments[:2])}", flush=True)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout

    @contextmanager
    def client(self) -> Iterator[FleetClient]:
        """Open an operator's connection."""
        with FleetClient(self.controller.address, client_dir=self.controller.client_dir, timeout_s=30.0) as client:
            yield client

    def host(self) -> HostView:
        """Return the host as the controller knows it."""
        with self.client() as client:
            return client.get_host(HOST)

    def rolled(self, name: str, during: Mapping[str, Callable[[], None]] | None = None) -> RolloutView:
        """Roll NEW out under this name, and return how it ended, or paused.

        `during`: by a step's name what to do once, as soon as the machine is seen in that step.
        """
        began_s, left = time.monotonic(), dict(during or {})
        text = _SPEC.format(
            name=name, architecture=self.shape.architecture, version=NEW, host=HOST, boot_timeout_s=BOOT_TIMEOUT_S
        )
        with self.client() as client:
            client.start_rollout(text, "metal.yaml")
            for ended in client.watch_rollout(name, ROLLOUT_S):
                for step in {one.step for wave in ended.waves for one in wave.hosts} & left.keys():
                    left.pop(step)()
                if ended.terminal or ended.state == "paused":
                    break
            assert not left, f"it was never seen in {', '.join(left)}"
            sentence = client.explain_rollout(name).sentence
        print(f"{time.monotonic() - began_s:6.1f} s  {name}: {ended.state}: {sentence}", flush=True)
        return ended

    def clean_up(self) -> None:
        """Let the machine's package manager clean up, as it may do at any time."""
        began_s = time.monotonic()
        said = self.machine.sh("apt-get autoremove --purge -y -q; unattended-upgrade --verbose 2>&1", timeout_s=STEP_S)
        print(
            f"{time.monotonic() - began_s:6.1f} s  apt-get autoremove, unattended-upgrade: {said[-200:]!r}", flush=True
        )

    def allow(self) -> None:
        """Take back that a kernel which failed here is denied."""
        with self.client() as client:
            for denial in client.get_fleet().denials:
                client.allow_kernel(denial.kernel, where=None, remark="the next test breaks it in another way")

    def runs(self) -> str:
        """Return what the machine runs, once its agent is heard."""
        return until("the agent is heard", self._heard, STEP_S)

    def _heard(self) -> str | None:
        found = self.host()
        return found.facts.kernel_release if found.connected else None


@contextmanager
def metal_fleet(directory: Path, shape: str) -> Iterator[MetalFleet]:
    """Yield such a fleet; each step says how long it took."""
    cache, began_s = Cache.from_environment(), time.monotonic()
    hardware = Hardware(watchdog=True)
    machine = open_machine(cache, directory / HOST, prepare_disk(cache, shape), port=free_port(), hardware=hardware)
    inventory = directory / "inventory.yaml"
    inventory.write_text(
        _INVENTORY.format(
            host=HOST, port=machine.port, identity=machine.keys.identity, known_hosts=machine.keys.known_hosts
        )
    )
    controller = ControllerProcess(directory / "state", heartbeat_s=5.0, inventory=inventory)
    fleet = MetalFleet(shape_named(shape), machine, controller, inventory)
    try:
        controller.start()
        machine.start()
        machine.wait_for_ssh(STEP_S)
        print(f"\n{time.monotonic() - began_s:6.1f} s  image and boot to ssh", flush=True)
        machine.sh(_PREPARED)
        places = [f"{CONTROLLER_ADDRESS}:{port}" for port in (controller.port, controller.enroll_port)]
        fleet.command(
            *("hosts", "enroll", "-i", str(inventory), "--wait", "20m"),
            *("--controller-address", places[0], "--enroll-address", places[1]),
        )
        fleet.command("hosts", "rehearse", "-i", str(inventory), "--wait", "20m", HOST)
        yield fleet
    finally:
        machine.kill()
        controller.stop()
