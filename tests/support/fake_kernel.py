"""The part of a fake host that survives an agent: memory, swap, devices and modules, kept in a directory."""

import errno
import shutil
from collections.abc import Sequence
from pathlib import Path

from agent.domain.host.memory import MIB, TIB
from agent.domain.host.swap_header import EDGE_BYTES, is_zero

_HEADER = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
_TOTAL_BYTES = 1536 * MIB
_PAGE_BYTES = 4096
DEVICE = "/dev/nvme1n1"
_ZSWAP = {"enabled": "N", "compressor": "lzo", "max_pool_percent": "20"}
BRD = "/dev/ram0"


RELEASE = "7.1.13-fake"


class FakeKernel:
    """The part that survives an agent: memory, swap, devices, modules."""

    def __init__(self, root: Path, *, cost_mib_per_tib: float = 816.0, device_bytes: int = TIB) -> None:
        self.root = root
        self.proc = root / "proc"
        self.sys = root / "sys"
        self.cost_mib_per_tib = cost_mib_per_tib
        self.total_bytes = _TOTAL_BYTES
        # What the kernel keeps for good at every swapoff.
        self.leak_bytes = 0
        # Memory that programs take or give with every second, for ever.
        self.unrest_bytes = 0
        self._leaked_bytes = 0
        # What every device that is on shows as in use.
        self.used_kib = 0
        # Whether these are loaded on demand, and which modules somebody else uses.
        self.zram_is_module = False
        self.loop_is_module = False
        self.modules_in_use: set[str] = set()
        # Whether a new file finds no room, and how much room the disk says it has.
        self.disk_full = False
        self.free_disk_bytes = 1 << 40
        # Why memory cannot be limited; empty when it can.
        self.no_limit = ""
        # None while there is no cgroup, 0 while it has no limit.
        self.cgroup_limit_bytes: int | None = None
        # What the cgroup counts of processes killed for memory.
        self.oom_kills = 0
        # Commands of workers that have not ended, whoever started them.
        self.running: list[tuple[str, ...]] = []
        self._sizes = {DEVICE: device_bytes}
        self._heads = {DEVICE: bytearray(EDGE_BYTES)}
        for directory in (self.proc, self.sys / "block", self.sys / "class/block/nvme1n1/holders"):
            directory.mkdir(parents=True, exist_ok=True)
        for directory in (self.scratch, self.sys / "class/zram-control", self.sys / "module/zswap/parameters"):
            directory.mkdir(parents=True, exist_ok=True)
        modules = root / "modules" / RELEASE
        modules.mkdir(parents=True, exist_ok=True)
        (modules / "modules.dep").write_text("".join(f"kernel/{name}.ko.xz:\n" for name in ("brd", "loop", "zram")))
        if not (self.proc / "swaps").exists():
            self.write_swaps(())
            self._write_knobs()
        self.write_meminfo()

    @property
    def scratch(self) -> Path:
        """Return where workloads make their files."""
        return self.root / "scratch"

    @property
    def swaps(self) -> tuple[str, ...]:
        """Return the devices that are switched on."""
        lines = (self.proc / "swaps").read_text().splitlines()[1:]
        return tuple(line.split()[0] for line in lines)

    @property
    def brd_loaded(self) -> bool:
        """Return whether brd is loaded."""
        return (self.sys / "module/brd").exists()

    def has_device(self, device: str) -> bool:
        """Return whether there is such a device, with a size or, as an idle zram device, without."""
        return device in self._heads and device.startswith("/dev/")

    def head(self, device: str = DEVICE) -> bytearray:
        """Return the device's first MiB, to look at or to write to."""
        return self._heads[device]

    def is_pristine(self) -> bool:
        """Return whether nothing is left of any workload."""
        knobs = {each.name: each.read_text() for each in (self.sys / "module/zswap/parameters").iterdir()}
        return (
            not self.swaps
            and not self.brd_loaded
            and is_zero(bytes(self._heads[DEVICE]))
            and knobs == _ZSWAP
            and not any((self.sys / "block").glob("zram*"))
            and not any((self.sys / "block").glob("loop*"))
            and not any(self.scratch.iterdir())
            and not self.running
            and self.cgroup_limit_bytes is None
        )

    def write_swaps(self, devices: Sequence[str]) -> None:
        """Switch exactly these devices on."""
        lines = [
            f"{each}\tpartition\t{(self._sizes[each] - _PAGE_BYTES) // 1024}\t{self.used_kib}\t-2\n" for each in devices
        ]
        (self.proc / "swaps").write_text(_HEADER + "".join(lines))

    def write_meminfo(self) -> None:
        """Account for what is switched on."""
        mounted = sum(self._sizes[each] for each in self.swaps)
        kernel = int(mounted / TIB * self.cost_mib_per_tib * MIB) + self._leaked_bytes
        available = self.total_bytes - 36 * MIB - kernel
        lines = (
            ("MemTotal", self.total_bytes),
            ("MemFree", available - 20 * MIB),
            ("MemAvailable", available),
            ("SwapTotal", mounted),
            ("SwapFree", mounted - self.used_kib * 1024 * len(self.swaps)),
            ("SUnreclaim", 8 * MIB),
            ("VmallocUsed", 4 * MIB + kernel),
        )
        (self.proc / "meminfo").write_text("".join(f"{name}:{size // 1024:>16} kB\n" for name, size in lines))

    def disturb(self) -> None:
        """Let a second of unrest pass."""
        self._leaked_bytes += self.unrest_bytes
        self.write_meminfo()

    def act(self, command: Sequence[str]) -> str:
        """Do what the tool does; return its complaint, empty when it succeeds."""
        match tuple(command):
            case ("mkswap", "-L", label, device):
                head = self._heads[device]
                last_page = self.size_of(device) // _PAGE_BYTES - 1
                head[1024:1036] = b"\1\0\0\0" + last_page.to_bytes(4, "little") + b"\0" * 4
                head[1052 : 1052 + len(label)] = label.encode()
                head[_PAGE_BYTES - 10 : _PAGE_BYTES] = b"SWAPSPACE2"
            case ("swapon", *_, device):
                self.write_swaps((*self.swaps, device))
            case ("swapoff", device):
                # By the file itself: /proc/swaps may show another name of it.
                shown = [each for each in self.swaps if _is_shown_as(each, device)]
                if not shown:
                    return f"swapoff: {device}: Invalid argument"
                self._leaked_bytes += self.leak_bytes
                self.write_swaps(tuple(each for each in self.swaps if each not in shown))
            case ("modprobe", "brd", *parameters):
                self._load_brd(dict(each.split("=") for each in parameters))
            case ("rmmod", "brd"):
                if BRD in self.swaps:
                    return "rmmod: ERROR: Module brd is in use"
                for path in sorted((self.sys / "module/brd").rglob("*"), reverse=True):
                    path.unlink() if path.is_file() else path.rmdir()
                (self.sys / "module/brd").rmdir()
                del self._sizes[BRD], self._heads[BRD]
            case ("modprobe", "--show-depends", "zram"):
                return "" if self.zram_is_module else "modprobe: FATAL: Module zram not found"
            case ("modprobe", "zram", "num_devices=0"):
                for module in ("zsmalloc", "zram"):
                    (self.sys / "module" / module).mkdir(exist_ok=True)
                self._show_zram_control()
            case ("rmmod", module):
                if not (self.sys / "module" / module).exists() or module in self.modules_in_use:
                    return f"rmmod: ERROR: Module {module} is in use, or not loaded"
                (self.sys / "module" / module).rmdir()
                if module == "zram":
                    shutil.rmtree(self.sys / "class/zram-control")
            case ("modprobe", "loop"):
                if self.loop_is_module:
                    (self.sys / "module/loop").mkdir(parents=True, exist_ok=True)
            case ("losetup", "-f") | ("losetup", "-n", "-O", "NAME", "-j", _):
                pass
            case ("losetup", "-d", device):
                backing = self.sys / "block" / Path(device).name / "loop/backing_file"
                self.take_device(device)
                backing.unlink()
                backing.parent.rmdir()
                backing.parent.parent.rmdir()
            case ("losetup", device, file):
                backing = self.sys / "block" / Path(device).name / "loop/backing_file"
                backing.parent.mkdir(parents=True)
                backing.write_text(file)
                self.give_device(device, self._sizes[file])
            case _:
                return f"{command[0]}: unknown arguments"
        self.write_meminfo()
        return ""

    def forget_folders(self) -> None:
        """Show swap and what loop devices lie on as they are shown when the mounts of whoever made them are gone."""
        for device in self.swaps:
            self._sizes[f"/{Path(device).name}"] = self._sizes[device]
        self.write_swaps(tuple(f"/{Path(device).name}" for device in self.swaps))
        for backing in (self.sys / "block").glob("loop*/loop/backing_file"):
            backing.write_text(f"/{Path(backing.read_text()).name}")

    def loops_over(self, file: str) -> list[str]:
        """Return the loop devices over a file, as `losetup -j` tells them."""
        found = sorted((self.sys / "block").glob("loop*/loop/backing_file"))
        return [f"/dev/{each.parent.parent.name}" for each in found if _is_shown_as(each.read_text(), file)]

    def give_device(self, device: str, size_bytes: int) -> None:
        """Let a device, or a file that serves as one, have this size, all zero."""
        self._sizes[device] = size_bytes
        self._heads[device] = bytearray(EDGE_BYTES)

    def take_device(self, device: str) -> None:
        """Let the device be gone."""
        self._sizes.pop(device, None)
        self._heads.pop(device, None)

    def add_zram(self) -> int:
        """Add a zram device without a size and return its number."""
        number = next(each for each in range(100) if not (self.sys / f"block/zram{each}").exists())
        block = self.sys / f"block/zram{number}"
        block.mkdir()
        (block / "disksize").write_text("0")
        (block / "reset").write_text("")
        (block / "comp_algorithm").write_text("lzo [lzo-rle] lz4")
        self._heads[f"/dev/zram{number}"] = bytearray(EDGE_BYTES)
        return number

    def remove_zram(self, number: int) -> None:
        """Remove a zram device."""
        block = self.sys / f"block/zram{number}"
        if (block / "disksize").read_text() != "0":
            raise OSError(errno.EBUSY, "Device or resource busy")
        for each in block.iterdir():
            each.unlink()
        block.rmdir()
        self.take_device(f"/dev/zram{number}")

    def count_swapping(self, pages_in: int, pages_out: int) -> None:
        """Let the kernel count so many pages more."""
        vmstat = self.proc / "vmstat"
        counted = dict(line.split() for line in vmstat.read_text().splitlines())
        counted["pswpin"] = str(int(counted["pswpin"]) + pages_in)
        counted["pswpout"] = str(int(counted["pswpout"]) + pages_out)
        vmstat.write_text("".join(f"{name} {value}\n" for name, value in counted.items()))

    def _write_knobs(self) -> None:
        (self.proc / "vmstat").write_text("pswpin 0\npswpout 0\n")
        self._show_zram_control()
        for name, value in _ZSWAP.items():
            (self.sys / "module/zswap/parameters" / name).write_text(value)

    def _show_zram_control(self) -> None:
        for name in ("hot_add", "hot_remove"):
            (self.sys / "class/zram-control").mkdir(exist_ok=True)
            (self.sys / "class/zram-control" / name).write_text("")

    def size_of(self, device: str) -> int:
        """Return a device's size; OSError when there is none."""
        if device not in self._sizes:
            raise OSError(errno.ENOENT, "No such file or directory")
        return self._sizes[device]

    def _load_brd(self, parameters: dict[str, str]) -> None:
        directory = self.sys / "module/brd/parameters"
        directory.mkdir(parents=True)
        for name, value in parameters.items():
            (directory / name).write_text(value + "\n")
        self._sizes[BRD] = int(parameters["rd_size"]) * 1024
        self._heads[BRD] = bytearray(EDGE_BYTES)


def _is_shown_as(shown: str, path: str) -> bool:
    """Return whether the kernel may show a path so: whole, or, its mounts gone, without its folders."""
    return shown in (path, f"/{Path(path).name}")
