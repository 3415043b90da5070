"""What `make noise` measures in guests of the lab, and in which order."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controller.adapters.rpc.workload_messages import workload_message
from controller.domain.record.policy import Task
from controller.domain.spec.workloads import Workloads
from protos.kernroll.v1 import agent_pb2

ARCHITECTURES = ("x86_64", "arm64")
# Kernels with modules, so that there is zram and brd: before and after the series and its successor.
PAIR = ("6.18.15", "7.3.4")
# The very kernels before and after the series; their modules are gone from the mirror.
SERIES = ("7.0.13", "7.1.13")
MEMORY_MIB = 1536
BOOTS = 3
RUNS, WARMUPS = 2, 1
COMMAND_TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One workload as guests run it."""

    name: str
    # As a rollout file says it under `workloads:`.
    workload: str
    parameters: dict[str, Any]
    # What the table shows of it.
    metrics: tuple[str, ...]
    versions: tuple[str, ...] = PAIR
    # What counts pages and not time needs no warm-up, and what repeats itself exactly no second run.
    warmups: int = WARMUPS
    runs: int = RUNS

    def said(self) -> dict[str, Any]:
        """Return what a rollout file says of it, how often it runs included where that is not as usual."""
        often = {"repetitions": self.runs, "warmups": self.warmups}
        return {**self.parameters, **(often if (self.runs, self.warmups) != (RUNS, WARMUPS) else {})}

    def order(self) -> agent_pb2.RunWorkload:
        """Return the message that orders it, made in the way a controller makes it."""
        ((name, workload),) = Workloads.model_validate({self.workload: self.parameters}).given.items()
        preset = getattr(workload, "preset", None) or ""
        return workload_message(
            Task(
                workload=name,
                preset=preset,
                parameters=workload.parameters,
                repetitions=self.runs,
                warmups=self.warmups,
                timeout_s=COMMAND_TIMEOUT_S,
            )
        )


_BUILD = {
    "preset": "small",
    "objects": tuple(f"kernel/{each}.o" for each in ("range", "user", "ucount", "async", "ksysfs")),
    "jobs": 1,
    "pressure": {"memory_limit": "40MiB"},
    "prepared_directory": "/var/lib/kernroll-prepared",
}
_VALKEY = {"preset": "small", "keys": 40000, "requests": 30000, "pressure": {"memory_limit": "28MiB"}}
CELLS = (
    Cell(
        name="swap_mount",
        workload="swap_mount",
        parameters={"device": {"brd_size": "1TiB"}},
        metrics=("swap_mount.cost", "swap_mount.swapon_time"),
    ),
    Cell(
        name="swap_mount_nvme",
        workload="swap_mount",
        parameters={"device": {"block_device": "/dev/kernroll-swap"}},
        metrics=("swap_mount.cost", "swap_mount.swapon_time"),
        versions=SERIES,
    ),
    Cell(
        name="swap_fill",
        workload="swap_fill",
        parameters={"swap": {"kind": "zram", "size": "2GiB"}},
        warmups=0,
        metrics=("swap_fill.cost", "swapoff.time"),
    ),
    Cell(
        name="swap_integrity",
        workload="swap_integrity",
        parameters={"preset": "small", "memory": "2MiB", "sharers": 8, "pressure": {"memory_limit": "48MiB"}},
        warmups=0,
        runs=1,
        metrics=("swap_integrity.compared", "swap_integrity.swapoff_under_load_time"),
    ),
    Cell(
        name="swap_mount_indicator",
        workload="swap_mount_indicator",
        parameters={"preset": "small", "memory": "8MiB", "cycles": 1},
        warmups=0,
        runs=1,
        metrics=("swap_mount_indicator.readings", "swap_mount_indicator.swapoff_under_load_time"),
    ),
    Cell(
        name="anon_sweep",
        workload="anon_sweep",
        parameters={"preset": "small", "memory": "48MiB", "pressure": {"memory_limit": "24MiB"}},
        metrics=("anonymous_sweep.throughput", "anonymous_sweep.swapped_in"),
    ),
    Cell(
        name="kernel_build",
        workload="kernel_build",
        parameters=_BUILD,
        metrics=tuple(f"kernel_build_subset.{each}" for each in ("system_time", "user_time", "elapsed")),
    ),
    Cell(
        name="valkey_get",
        workload="valkey_get",
        parameters=_VALKEY,
        metrics=("valkey.get_rate", "valkey.p50", "valkey.swapped_in"),
    ),
    Cell(
        name="valkey_get_bgsave",
        workload="valkey_get",
        parameters={**_VALKEY, "bgsave": True},
        metrics=("valkey.get_rate_bgsave", "valkey.p50_bgsave", "valkey.swapped_in_bgsave"),
    ),
    Cell(
        name="stress_ng",
        workload="stress_ng",
        parameters={"preset": "small", "duration": "5s"},
        metrics=("stress.bogo_rate", "stress.swapped_out"),
    ),
)
PREPARATION = next(cell for cell in CELLS if cell.name == "kernel_build")


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One cell in one boot."""

    architecture: str
    version: str
    boot: int
    cell: Cell

    @property
    def machine(self) -> tuple[str, str, int]:
        """Return what the pieces of one boot have in common."""
        return self.architecture, self.version, self.boot

    def file(self, results: Path) -> Path:
        """Return where its runs are kept."""
        return results / f"{self.architecture}-{self.version}-boot{self.boot}-{self.cell.name}.json"


def plan(architectures: Sequence[str], only: Sequence[str]) -> list[Piece]:
    """Return all pieces in the order in which they are measured.

    Every round boots every kernel once, old and new in turn and each first as often as last: a drift of the machine
    reaches both alike, and what is interrupted has whole rounds.
    """
    pieces = []
    for boot in range(1, BOOTS + 1):
        for architecture in architectures:
            for pair in (PAIR, SERIES):
                for version in pair if boot % 2 else reversed(pair):
                    pieces += [
                        Piece(architecture=architecture, version=version, boot=boot, cell=cell)
                        for cell in CELLS
                        if version in cell.versions and (not only or cell.name in only)
                    ]
    return pieces
