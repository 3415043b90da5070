"""The machine, or a tree of files that is one: what is read and which of its own tools are run."""

import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from agent.boot.values import BrokenHost, Busy

_TIMEOUT_S: Final = 120.0
_TOLD_CHARACTERS: Final = 500
_COPY_BYTES: Final = 1 << 20
# How long an orderly shutdown may take before the kernel is told to restart the machine at once.
_SHUTDOWN_S: Final = 90.0
_REBOOT_ASKED: Final = "/run/kernroll-boot.reboot"
_STARTED: Final = "/run/kernroll-boot.started.{}"
# Where only root writes: nobody else may keep it from acting.
_LOCK: Final = "/run/kernroll-boot.lock"
_LOCK_LOOK_S: Final = 0.2
_RELEASE: Final = "/proc/sys/kernel/osrelease"
_BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"


class Host:
    """Everything below `root`; "/" is this machine."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root

    def path(self, name: str) -> Path:
        """Return where a file of the host lies."""
        return self.root / name.lstrip("/")

    def text(self, name: str) -> str | None:
        """Return a file's text; None when there is none. Raises BrokenHost when it cannot be read."""
        data = self.data(name)
        return None if data is None else data.decode(errors="replace")

    def data(self, name: str) -> bytes | None:
        """Return a file's bytes; None when there is none. Raises BrokenHost when it cannot be read."""
        try:
            return self.path(name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise BrokenHost(f"{name} cannot be read: {error.strerror}") from error

    def write(self, name: str, text: str) -> None:
        """Replace a file as a whole, durably."""
        path = self.path(name)
        fresh = path.with_name(f".{path.name}.kernroll")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with fresh.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
            self.sync(path.parent)
        except OSError as error:
            raise BrokenHost(f"{name} cannot be written: {error.strerror}") from error

    def write_in_place(self, name: str, data: bytes) -> None:
        """Replace a file's bytes by as many others where they lie, durably: at no moment is there less of it."""
        try:
            with self.path(name).open("r+b", buffering=0) as file:
                file.write(data)
                os.fsync(file.fileno())
        except OSError as error:
            raise BrokenHost(f"{name} cannot be written: {error.strerror}") from error

    def write_variable(self, name: str, data: bytes) -> None:
        """Write one of the firmware's variables, which takes its value as a whole or not at all."""
        path = self.path(name)
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                os.write(handle, data)
            finally:
                os.close(handle)
        except OSError as error:
            with suppress(OSError):
                # What was opened and not written is shown as a file of no bytes.
                path.unlink()
            raise BrokenHost(f"{name} cannot be written: {error.strerror}") from error

    def copy(self, source: str, target: str) -> None:
        """Copy a file, durably; the target is as it was, or as a whole what the source is."""
        path = self.path(target)
        fresh = path.with_name(f"{path.name}.new")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with self.path(source).open("rb") as given, fresh.open("wb") as file:
                shutil.copyfileobj(given, file, _COPY_BYTES)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
            for folder in (path.parent, path.parent.parent):
                self.sync(folder)
        except OSError as error:
            raise BrokenHost(f"{source} cannot be copied to {target}: {error.strerror}") from error

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        try:
            self.path(name).unlink(missing_ok=True)
        except OSError as error:
            raise BrokenHost(f"{name} cannot be removed: {error.strerror}") from error

    def sync_file(self, name: str) -> None:
        """Bring to the disk what a tool has written, and that it is there."""
        try:
            with self.path(name).open("rb") as file:
                os.fsync(file.fileno())
            self.sync(self.path(name).parent)
        except OSError as error:
            raise BrokenHost(f"{name} cannot be brought to the disk: {error.strerror}") from error

    def sync(self, directory: Path) -> None:
        """Bring a folder's entries to the disk."""
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def has(self, tool: str) -> bool:
        """Return whether the host has a tool."""
        folders = ("/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin")
        return any(os.access(self.path(f"{folder}/{tool}"), os.X_OK) for folder in folders)

    def run(self, *command: str) -> str:
        """Run a tool of the host and return what it printed; raises BrokenHost with what it said when it fails."""
        inside = [] if self.root == Path("/") else [shutil.which("chroot") or "/usr/sbin/chroot", str(self.root)]
        try:
            done = subprocess.run(
                [*inside, *command],
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_TIMEOUT_S,
                check=False,
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
            )
        except FileNotFoundError as error:
            raise BrokenHost(f"{command[0]} is not there: install the package that has it") from error
        except subprocess.TimeoutExpired as error:
            raise BrokenHost(f"{command[0]} took longer than {_TIMEOUT_S:.0f} s and was ended") from error
        if done.returncode:
            said = " ".join((done.stderr or done.stdout).split())[-_TOLD_CHARACTERS:]
            raise BrokenHost(f"{' '.join(command)} failed with code {done.returncode}: {said or 'it said nothing'}")
        return done.stdout

    @contextmanager
    def alone(self, *, wait_s: float = 0.0) -> Iterator[None]:
        """Let nobody else change anything meanwhile. Raises Busy when somebody is still at it after that time."""
        path = self.path(_LOCK)
        path.parent.mkdir(parents=True, exist_ok=True)
        until = time.monotonic() + wait_s
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    if time.monotonic() >= until:
                        raise Busy(
                            "another kernroll-boot is at work on this host: try again when it has ended"
                        ) from error
                    self.pause(_LOCK_LOOK_S)
            yield

    def now(self) -> float:
        """Return seconds since the Unix epoch."""
        return time.time()  # noqa: TID251 -- a program of its own; it writes down when a rehearsal was passed

    def uptime_s(self) -> float:
        """Return seconds since the kernel's start, time asleep included."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def pause(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    def reboot(self) -> None:
        """Begin an orderly restart, and return. In a tree of files, which cannot be restarted, it is written down."""
        if self.root != Path("/"):
            self.write(_REBOOT_ASKED, "")
            return
        timer = ("--on-active=2", "--timer-property=AccuracySec=100ms")
        try:
            # A little later, so that whoever asked hears the answer.
            self.run("systemd-run", "--quiet", "--collect", *timer, "systemctl", "reboot", "--no-block")
        except BrokenHost:
            self.run("systemctl", "reboot", "--no-block")

    def start(self, unit: str) -> None:
        """Start a unit. In a tree of files, where no service manager runs, it is written down."""
        if self.root != Path("/"):
            self.write(_STARTED.format(unit), "")
            return
        self.run("systemctl", "start", unit)

    def stop(self, unit: str) -> None:
        """Stop a unit."""
        if self.root != Path("/"):
            self.path(_STARTED.format(unit)).unlink(missing_ok=True)
            return
        self.run("systemctl", "stop", unit)

    def restart_at_once(self) -> None:
        """Restart the machine, whatever still runs on it; does not return on a machine."""
        if self.root != Path("/"):
            self.write(_REBOOT_ASKED, "at once")
            return
        os.sync()
        try:
            self.run("systemctl", "reboot", "--force", "--no-block")
            self.pause(_SHUTDOWN_S)
        finally:
            # Even where no program can be run any more.
            self.path("/proc/sysrq-trigger").write_text("b", encoding="ascii")
            self.pause(_SHUTDOWN_S)

    @property
    def boot_id(self) -> str:
        """What tells this boot from every other. Raises BrokenHost when it cannot be told."""
        found = (self.text(_BOOT_ID) or "").strip()
        if not found:
            raise BrokenHost(f"{_BOOT_ID} says nothing, so that boots cannot be told apart")
        return found

    @property
    def running_release(self) -> str:
        """The kernel that runs now."""
        return (self.text(_RELEASE) or os.uname().release).strip()
