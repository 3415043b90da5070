"""What the demonstration is made of: its two rollout specs, and a controller process of its own."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from string import Template

from controller.adapters.local.named_files import tail
from controller.adapters.rpc.operator_client import OperatorClient
from controller.domain.errors import InvalidInput, KernrollError, Permanent, Temporary
from controller.domain.printable import printable
from controller.views.models import RolloutView

GOOD, BAD = "swap-table", "bad-kernel"
# One that ends instead is noticed at once; a machine that emulates others is slow.
_START_TIMEOUT_S = 120.0
_STOP_TIMEOUT_S = 15.0
_LAST_WORDS_BYTES = 1 << 14
_LOOK_EVERY_S = 0.1

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
    - {per_stratum: 1, bake: 5s}
    - {rest: true, bake: 5s}
  workloads:
    swap_mount: {device: $device, repetitions: $repetitions, warmups: $warmups, timeout: 300s}
$claim  # Generous, for emulated machines.
  limits:
    max_in_flight: 3
    boot_timeout: 180s
    probation_timeout: 400s
    baseline_timeout: 400s
    stage_timeout: 180s
    heartbeat_timeout: 45s
    revert_timeout: 300s
""")

_CLAIM = """\
  # The series' author: 256 MiB less for a mounted 1 TiB swap device. Nine tenths of it must be certain everywhere.
  claim:
    - metric: swap_mount.cost
      saves_at_least: 230.4
      unit: MiB/TiB
      on_refuted: revert
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Versions:
    """The pair of kernels that is compared."""

    old: str
    new: str


def parse_versions(text: str) -> Versions:
    """Read "OLD:NEW"; raise InvalidInput for anything else."""
    old, _, new = text.partition(":")
    if not old or not new or ":" in new:
        raise InvalidInput(f"--kernels: {text!r} is not OLD:NEW, for example 7.0.13:7.1.13")
    return Versions(old=old, new=new)


@dataclass(frozen=True, slots=True, kw_only=True)
class Specs:
    """The two rollout files of a demonstration."""

    versions: Versions
    architectures: tuple[str, ...]
    repetitions: int
    # Where kernels come with modules, the device is a RAM disk.
    ram_disk: bool

    def good(self) -> str:
        """Return the spec of the rollout that is to be promoted."""
        source = f'{{debian: {{version: "{self.versions.new}"}}}}'
        # The first run after a boot still sees programs settle in.
        runs = {"repetitions": self.repetitions, "warmups": 1}
        return _SPEC.substitute(self._common(self.versions.old, source), name=GOOD, claim=_CLAIM, **runs)

    def bad(self, *, running: str) -> str:
        """Return the spec of the rollout that is to revert: a kernel that panics at boot. Hosts run that version.

        The generic flavour keeps its NVMe driver in a module, and where the mirror has no modules it finds no root
        file system. Where kernels come with modules, the mistake is a command line that names no existing first
        process.
        """
        source = f'{{debian: {{version: "{self.versions.new}", flavour: generic}}}}'
        if self.ram_disk:
            source = f'{{debian: {{version: "{self.versions.new}"}}, command_line: "init=/sbin/no-such-init"}}'
        return _SPEC.substitute(self._common(running, source), name=BAD, claim="", repetitions=1, warmups=0)

    def _common(self, expected: str, source: str) -> dict[str, str]:
        return {
            "kernels": "\n".join(f"    {one}: {source}" for one in self.architectures),
            "expected": "\n".join(f'    {one}: {{version: "{expected}"}}' for one in self.architectures),
            "device": "{brd_size: 1TiB}" if self.ram_disk else "{block_device: /dev/kernroll-swap}",
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstPart:
    """How the rollout that is to be promoted ended, and what that means for the one after it."""

    # Whether the controller did what it should: a claim that these kernels do not keep is refuted.
    went_right: bool
    # The version that hosts run now; empty when they are not free for another rollout.
    running: str
    # A sentence where the second part differs for it; empty where all went as planned.
    text: str = ""


def first_part(view: RolloutView, versions: Versions) -> FirstPart:
    """Return what the end of the first rollout means for the second one."""
    if view.state == "promoted":
        return FirstPart(went_right=True, running=versions.new)
    why = view.blocking_reason.rstrip(".")
    if view.state == "reverted":
        refuted = any(one.claim == "refuted" for one in view.verdicts)
        keeps = "these kernels do not keep what is claimed for them, so " if refuted else ""
        text = (
            f"{GOOD} was not promoted ({why}): {keeps}every host went back to {versions.old}, and what was rolled out "
            f"stays denied until a person allows it. The next rollout starts from {versions.old} instead of "
            f"{versions.new}."
        )
        return FirstPart(went_right=refuted, running=versions.old, text=text)
    return FirstPart(
        went_right=False,
        running="",
        text=f"{GOOD} was not promoted ({why}): its hosts are not free for another rollout, so {BAD} is left out.",
    )


def free_port() -> int:
    """Return a TCP port of the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class ControllerProcess:
    """A controller in a process of its own, with its log in a file; what the demonstration and end-to-end tests run."""

    def __init__(self, directory: Path, *, heartbeat_s: float = 5.0, inventory: Path | None = None) -> None:
        self.directory = directory
        self._inventory = inventory
        self.state_dir = directory / "controller"
        self.fleet_dir = directory / "fleet"
        self.client_dir = self.state_dir / "client"
        self.log = directory / "controller.log"
        self._heartbeat_s = heartbeat_s
        self.pid_file = directory / "controller.pid"
        self.port, self.enroll_port = free_port(), free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Where operators and agents call."""
        return f"127.0.0.1:{self.port}"

    def start(self, timeout_s: float = _START_TIMEOUT_S) -> None:
        """Start it and return once it serves.

        Raises Permanent with the end of its log when it does not; then nothing of it is left running.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "controller", "controller", "serve"]
        command += ["--state-dir", str(self.state_dir), "--fleet-dir", str(self.fleet_dir)]
        command += ["--listen", self.address, "--enroll-listen", f"127.0.0.1:{self.enroll_port}"]
        command += ["--heartbeat", f"{self._heartbeat_s:g}s"]
        if self._inventory is not None:
            command += ["--inventory", str(self._inventory)]
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        self.pid_file.write_text(str(self._process.pid), encoding="utf-8")
        deadline = time.monotonic() + timeout_s
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                last = tail(self.log, _LAST_WORDS_BYTES).splitlines()[-5:]
                raise Permanent("the controller did not start:\n  " + "\n  ".join(map(printable, last)))
            time.sleep(_LOOK_EVERY_S)

    def _answers(self) -> bool:
        try:
            with OperatorClient(self.address, client_dir=self.client_dir, timeout_s=2.0) as client:
                client.list_rollouts()
        except KernrollError:
            return False
        return True

    def kill(self) -> None:
        """End it without warning, as a crash would."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(_STOP_TIMEOUT_S)

    def stop(self) -> None:
        """End it in order; raise Temporary when it does not end."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            self._process.kill()
            self._process.wait(_STOP_TIMEOUT_S)
            raise Temporary(f"the controller had to be killed; see {self.log}") from error
        finally:
            self.pid_file.unlink(missing_ok=True)

    def stop_leftover(self) -> None:
        """End the controller that an earlier, interrupted demonstration in the same directory left behind."""
        try:
            pid = int(self.pid_file.read_text(encoding="utf-8"))
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return
        if str(self.state_dir).encode() in command:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + _STOP_TIMEOUT_S
            while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
                time.sleep(_LOOK_EVERY_S)
        self.pid_file.unlink(missing_ok=True)
