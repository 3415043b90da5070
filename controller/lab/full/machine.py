"""A machine that runs: QEMU with a disk of its own, which is switched on and off as real hardware is."""

import contextlib
import json
import os
import shlex
import shutil
import socket
import subprocess
import time
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

from controller.adapters.local.cache import Cache
from controller.adapters.local.named_files import write_file
from controller.adapters.local.tools import tool_environment
from controller.domain.errors import Permanent, Temporary
from controller.lab.full.firmware import Firmware, prepare_firmware
from controller.lab.full.image import FullImage
from controller.lab.full.qmp import Monitor
from controller.lab.full.seed import Keys, make_seed
from controller.lab.full.shapes import ROOT_SERIAL, SEED_SERIAL, SHAPES, SWAP_SERIAL, processor, shape_named
from controller.lab.toolset import Toolset, prepare_toolset

SWAP_BYTES = 2**40
# Where a machine reaches the loopback interface of the machine that it runs on.
CONTROLLER_ADDRESS = "10.0.2.2"

_LOOK_S = 0.25
_GREETING_TIMEOUT_S = 2.0
_CONNECT_TIMEOUT_S = 10
_STOP_TIMEOUT_S = 120.0
_END_TIMEOUT_S = 30.0
_NETWORK = "network"
# What its firmware remembers.
_VARIABLES = "variables.fd"
_MADE_OF = "machine.json"
# A machine's number, from which it makes its machine id, comes from its name and place.
_NAMESPACE = uuid.UUID("5d0a5a3c-6f0e-4b5e-9a55-0c1b5a3c6f0e")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """What a machine is made of, beside its disk."""

    memory_mib: int = 2048
    vcpus: int = 1
    # Whether it has QEMU's i6300esb, which resets a machine that has stopped.
    watchdog: bool = False
    # "tcg", or "kvm" where that works.
    accelerator: str = "tcg"


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeOf:
    """What does not change of a machine."""

    # Its name in SHAPES.
    shape: str
    # The kernel that it was made with.
    release: str
    # Of its sshd, on 127.0.0.1.
    port: int
    hardware: Hardware


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """How a command on a machine ended."""

    code: int
    stdout: str
    stderr: str


class FullMachine:
    """One machine, in a directory of its own that keeps its disk, keys and console from one start to the next.

    Use `open_machine`. A reset of the machine reboots inside the same QEMU, as on real hardware; only `stop`, `kill`
    and a power-off by the machine itself end it.
    """

    def __init__(
        self,
        directory: Path,
        made_of: MadeOf,
        *,
        toolset: Toolset,
        firmware: Firmware | None,
        keys: Keys,
    ) -> None:
        self.directory = directory
        self.made_of = made_of
        self.keys = keys
        self._toolset = toolset
        # None where it is QEMU's own, a BIOS.
        self._firmware = firmware
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def name(self) -> str:
        """Its host name."""
        return self.directory.name

    @property
    def port(self) -> int:
        """Of its sshd, on 127.0.0.1."""
        return self.made_of.port

    def running(self) -> bool:
        """Tell whether it is switched on, by whomever."""
        if self._process is not None:
            return self._process.poll() is None
        try:
            self._monitor().ask("query-status")
        except Temporary:
            return False
        return True

    def start(self) -> None:
        """Switch it on, from the disk as it was left. Returns at once; `wait_for_ssh` waits for the system."""
        assert not self.running(), "it is switched on already"
        (self.directory / "qmp.sock").unlink(missing_ok=True)
        tool = self._toolset.qemu(SHAPES[self.made_of.shape].architecture)
        with (self.directory / "qemu.log").open("ab") as log:
            self._process = subprocess.Popen(
                [tool.binary, *tool.arguments, *self._arguments()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env=tool_environment(tool.environment),
                # It outlives whoever switched it on.
                start_new_session=True,
            )

    def stop(self, timeout_s: float = _STOP_TIMEOUT_S) -> None:
        """Switch it off as its administrator would, by its power button; cut its power if that takes too long."""
        with contextlib.suppress(Temporary):
            self._monitor().ask("system_powerdown")
        give_up = time.monotonic() + timeout_s
        while self.running():
            if time.monotonic() > give_up:
                self.kill()
                return
            time.sleep(_LOOK_S)

    def kill(self) -> None:
        """Cut its power: what it had not written to its disk is lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(_END_TIMEOUT_S)
        else:
            with contextlib.suppress(Temporary):
                self._monitor().ask("quit")

    def remove(self) -> None:
        """Delete everything of it; it must be off."""
        assert not self.running(), "switch it off first"
        shutil.rmtree(self.directory)

    def reset(self) -> None:
        """Press its reset button."""
        self._monitor().ask("system_reset")

    def set_network(self, *, up: bool) -> None:
        """Plug its network cable in, or pull it."""
        self._monitor().ask("set_link", name=_NETWORK, up=up)

    def console(self) -> str:
        """Return what it has said on its serial console since it was made."""
        path = self.directory / "console.log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def ssh_command(self, user: str = "root") -> list[str]:
        """Return the command line of `ssh` that reaches it; what it shall run there is appended."""
        options = {
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": str(self.keys.known_hosts),
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "yes",
            "ControlMaster": "no",
            "ControlPath": "none",
            "BatchMode": "yes",
            "LogLevel": "ERROR",
            "ConnectTimeout": str(_CONNECT_TIMEOUT_S),
            "ServerAliveInterval": "15",
        }
        words = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
        return ["ssh", "-F", "none", "-i", str(self.keys.identity), *words, "-p", str(self.port), f"{user}@127.0.0.1"]

    def run(self, *command: str, user: str = "root", timeout_s: float = 300.0, stdin: str = "") -> Finished:
        """Run a command there and return how it ended; ssh's own failure is code 255.

        Raises Temporary when it takes longer than `timeout_s` seconds.
        """
        try:
            done = subprocess.run(
                [*self.ssh_command(user), shlex.join(command)],
                input=stdin,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise Temporary(f"{self.name}: {command[0]} took longer than {timeout_s:.0f} s") from error
        return Finished(code=done.returncode, stdout=done.stdout, stderr=done.stderr)

    def sh(self, script: str, user: str = "root", timeout_s: float = 300.0) -> str:
        """Run a few lines of shell there, which must succeed, and return what they printed."""
        done = self.run("sh", "-euc", script, user=user, timeout_s=timeout_s)
        if done.code != 0:
            said = (done.stderr or done.stdout).strip()
            raise Permanent(f"{self.name}: {script!r} ended with {done.code}: {said[-500:]}")
        return done.stdout

    def wait_for_ssh(self, timeout_s: float = 600.0, *, after_boot: str = "") -> str:
        """Wait until it runs commands, in another boot than `after_boot`, and return the id of the boot that it is in.

        Raises Temporary when that takes longer than `timeout_s` seconds, Permanent when it has switched itself off.
        """
        give_up = time.monotonic() + timeout_s
        while time.monotonic() < give_up:
            if not self.running():
                raise Permanent(f"{self.name} has switched itself off; its last words: {self.console()[-500:]!r}")
            # One long attempt would miss the moment: what the machine drops is sent again only after seconds.
            if not self._answers():
                time.sleep(_LOOK_S)
                continue
            with contextlib.suppress(Temporary):
                done = self.run("cat", "/proc/sys/kernel/random/boot_id", timeout_s=30.0)
                if done.code == 0 and done.stdout.strip() not in ("", after_boot):
                    return done.stdout.strip()
            time.sleep(_LOOK_S)
        raise Temporary(f"{self.name} was not reached by ssh within {timeout_s:.0f} s: {self.console()[-500:]!r}")

    def _answers(self) -> bool:
        """Tell whether an ssh server greets who connects."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=_GREETING_TIMEOUT_S) as connection:
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False

    def _monitor(self) -> Monitor:
        return Monitor(self.directory / "qmp.sock")

    def _arguments(self) -> list[str]:
        shape, hardware = SHAPES[self.made_of.shape], self.made_of.hardware
        number = uuid.uuid5(_NAMESPACE, str(self.directory))
        words = ["-nodefaults", "-no-user-config", "-display", "none", "-name", self.name, "-machine", shape.machine]
        words += ["-accel", hardware.accelerator, "-cpu", processor(shape, hardware.accelerator)]
        words += ["-m", str(hardware.memory_mib), "-smp", str(hardware.vcpus), "-smbios", f"type=1,uuid={number}"]
        words += ["-chardev", "file,id=console,path=console.log,append=on", "-serial", "chardev:console"]
        words += ["-qmp", "unix:qmp.sock,server=on,wait=off", "-device", "virtio-rng-pci"]
        words += ["-drive", "file=root.qcow2,format=qcow2,if=none,id=root,discard=unmap"]
        words += ["-device", f"nvme,drive=root,serial={ROOT_SERIAL},bootindex=1"]
        swap_format = "raw" if (self.directory / "swap.raw").exists() else "qcow2"
        words += ["-drive", f"file=swap.{swap_format},format={swap_format},if=none,id=swap,discard=unmap"]
        words += ["-device", f"nvme,drive=swap,serial={SWAP_SERIAL}"]
        words += ["-drive", "file=seed.raw,format=raw,if=none,id=seed,readonly=on"]
        words += ["-device", f"nvme,drive=seed,serial={SEED_SERIAL}"]
        words += ["-netdev", f"user,id=user,hostfwd=tcp:127.0.0.1:{self.port}-:22"]
        words += ["-device", f"virtio-net-pci,id={_NETWORK},netdev=user,romfile="]
        if self._firmware is not None:
            words += [word for drive in self._firmware.drives(_VARIABLES) for word in ("-drive", drive)]
        if hardware.watchdog:
            words += ["-device", "i6300esb", "-action", "watchdog=reset"]
        return words


def open_machine(
    cache: Cache,
    directory: Path,
    image: FullImage,
    *,
    port: int,
    hardware: Hardware | None = None,
    toolset: Toolset | None = None,
) -> FullMachine:
    """Return the machine of a directory, made there first if it is new. Its name is the directory's.

    Raises Permanent when a disk or key cannot be made.
    """
    directory = Path(os.path.abspath(directory))
    directory.mkdir(parents=True, exist_ok=True)
    tools = toolset or prepare_toolset(cache)
    if not (directory / "root.qcow2").exists():
        tools.create_overlay(image.path, directory / "root.qcow2")
    if not any((directory / f"swap.{kind}").exists() for kind in ("raw", "qcow2")):
        draft = directory / "swap.draft"
        draft.replace(directory / f"swap.{tools.create_swap_disk(draft, SWAP_BYTES)}")
    made_of = MadeOf(shape=image.shape, release=image.release, port=port, hardware=hardware or Hardware())
    # Last: a directory that has it has everything.
    write_file(directory / _MADE_OF, json.dumps(asdict(made_of)))
    return _opened(cache, directory, made_of, tools)


def known_machine(cache: Cache, directory: Path) -> FullMachine | None:
    """Return the machine that was made in this directory, None when there is none."""
    directory = Path(os.path.abspath(directory))
    try:
        told = json.loads((directory / _MADE_OF).read_bytes())
        made_of = MadeOf(**{**told, "hardware": Hardware(**told["hardware"])})
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise Permanent(f"{directory / _MADE_OF} does not describe a machine ({error}): delete {directory}") from error
    return _opened(cache, directory, made_of, prepare_toolset(cache))


def _opened(cache: Cache, directory: Path, made_of: MadeOf, toolset: Toolset) -> FullMachine:
    shape = shape_named(made_of.shape)
    firmware = prepare_firmware(cache, shape.architecture) if shape.uefi else None
    if firmware is not None and not (directory / _VARIABLES).exists():
        firmware.new_store(directory / _VARIABLES)
    keys = make_seed(directory, directory.name, made_of.port)
    return FullMachine(directory, made_of, toolset=toolset, firmware=firmware, keys=keys)
