"""A host with watchdogs, as files: what the kernel shows of them, what PID 1 has open, and what tools print."""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agent.boot.host import Host
from agent.boot.values import BootState, BrokenHost, Entry, Refusal

RUNNING, NEW = "1.0", "2.0"
COVERED = ("panic=10", "watchdog.open_timeout=300")
IMAGE = "/boot/initrd.img-{}"


class WatchedHost(Host):
    """Its tools print what they were given to print; one that was given nothing is not there."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.printed: dict[str, str] = {}
        self.put("/proc/sys/kernel/osrelease", RUNNING)
        self.opens()
        self.sets("30s")

    def put(self, name: str, text: str = "") -> None:
        """Write a file."""
        self.path(name).parent.mkdir(parents=True, exist_ok=True)
        self.path(name).write_text(text, encoding="utf-8")

    def link(self, name: str, target: str) -> None:
        """Make a symbolic link; a path from the root is one below this host's."""
        self.path(name).parent.mkdir(parents=True, exist_ok=True)
        self.path(name).symlink_to(self.path(target) if target.startswith("/sys") else target)

    def has_watchdog(
        self,
        name: str = "watchdog0",
        *,
        module: str = "iTCO_wdt",
        built_in: bool = False,
        shown: Mapping[str, str] | None = None,
    ) -> None:
        """Put a device there with what its driver shows."""
        usual = {"identity": module, "state": "active", "timeout": "30", "nowayout": "0", "bootstatus": "0"}
        for key, value in {**usual, **(shown or {})}.items():
            self.put(f"/sys/class/watchdog/{name}/{key}", f"{value}\n")
        if not module:
            return
        driver = f"/sys/bus/platform/drivers/{module} driver"
        self.path(driver).mkdir(parents=True, exist_ok=True)
        self.link(f"/sys/class/watchdog/{name}/device/driver", driver)
        self.path(f"/sys/module/{module}/drivers").mkdir(parents=True, exist_ok=True)
        self.link(f"/sys/module/{module}/drivers/platform:{module} driver", driver)
        if not built_in:
            self.link(f"{driver}/module", f"/sys/module/{module}")

    def opens(self, *devices: str) -> None:
        """Let PID 1 keep these open, and what it always has."""
        shutil.rmtree(self.path("/proc/1/fd"), ignore_errors=True)
        for number, device in enumerate(("/dev/null", "socket:[4711]", *devices)):
            self.link(f"/proc/1/fd/{number}", device)

    def sets(self, span: str) -> None:
        """Let systemd say for how long it lets the machine be silent."""
        self.printed["systemctl"] = f"RuntimeWatchdogUSec={span}\n"

    def lists(self, *modules: str, lister: str = "lsinitramfs") -> None:
        """Let the distribution's tool list an initial RAM disk with these modules."""
        paths = (f"usr/lib/modules/{NEW}/kernel/drivers/watchdog/{one}.ko.xz" for one in modules)
        self.printed[lister] = "\n".join(["usr/lib/modules", "usr/bin/wdctl", *paths]) + "\n"

    def has_kernel(self, release: str, *built_in: str) -> None:
        """Put a kernel's list of what is built in there."""
        self.put(f"/lib/modules/{release}/modules.builtin", "".join(f"kernel/{one}.ko\n" for one in built_in))

    def has(self, tool: str) -> bool:
        return tool in self.printed

    def run(self, *command: str) -> str:
        if command[0] not in self.printed:
            raise BrokenHost(f"{command[0]} is not there: install the package that has it")
        return self.printed[command[0]]


@dataclass
class MenuOf:
    """See Loader: offers what it is given, and is asked for nothing else."""

    entries: tuple[Entry, ...]
    adds_argument: str = "add {} to the menu"
    images_of: list[Path] = field(default_factory=list)

    def read(self) -> BootState:
        """See Loader."""
        return BootState(loader="own", entries=self.entries, default=RUNNING, next="", pinned=True)

    def images(self) -> list[Path]:
        """See Loader."""
        return self.images_of

    def refusals(self) -> Iterator[Refusal]:
        """See Loader."""
        return iter(())

    def pin(self, entry: Entry) -> None:
        """See Loader."""

    def set_default(self, entry: Entry) -> None:
        """See Loader."""

    def set_next(self, entry: Entry) -> None:
        """See Loader."""

    def clear_next(self) -> None:
        """See Loader."""


def entry(release: str, arguments: tuple[str, ...] = COVERED, *, image: str = IMAGE) -> Entry:
    """Return a kernel's entry, with an initial RAM disk unless its name is empty."""
    files = (f"/boot/vmlinuz-{release}", *((image.format(release),) if image else ()))
    return Entry(id=release, title=release, release=release, arguments=arguments, files=files)


def watched_host(root: Path) -> WatchedHost:
    """Return a host on which nothing is missing: its watchdog is open, its driver early, and both kernels know it."""
    host = WatchedHost(root)
    host.has_watchdog()
    host.opens("/dev/watchdog0")
    host.lists("iTCO_wdt")
    for release in (RUNNING, NEW):
        host.has_kernel(release)
    return host
