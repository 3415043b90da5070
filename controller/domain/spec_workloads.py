"""The workloads of a rollout file: what the agents run on the old and on the new kernel.

Fields that are not given keep the preset's value, else the agent's own default. A field's name here is that of the
agents' contract (protos/kernroll/v1/workloads.proto), its unit left out: people write units.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, model_validator

from controller.domain.spec_base import HostPath, Model, Text, exactly_one
from controller.domain.spec_units import PositiveDuration, Size

Count = Annotated[int, Field(ge=1, le=2**32 - 1)]
# As exact as every number between programs is.
Seed = Annotated[int, Field(ge=0, le=2**53 - 1)]
Percentage = Annotated[int, Field(ge=1, le=100)]

# The one preset whose device is the operator's to name.
_WITHOUT_DEVICE: Final = "series-x86-zswap"
# What says how often and how long, and not what.
_RUNNING: Final = frozenset({"preset", "repetitions", "warmups", "timeout_s"})


class Swap(Model):
    """What is mounted as swap for the runs, and taken down after them."""

    kind: Literal["block_device", "brd", "zram", "loop", "file", "existing"] | None = None
    # Of a block device: one that every host has, blank or with kernroll's own swap area.
    path: HostPath | None = None
    size_bytes: Size | None = Field(default=None, alias="size")
    # Where the file of loop and file is made; else the agent's state directory.
    directory: HostPath | None = None
    # How zram compresses, for example lzo-rle; else as the kernel has it.
    algorithm: Text | None = None
    # Compress pages in zswap on their way to the device.
    zswap: bool | None = None
    zswap_compressor: Text | None = None
    zswap_max_pool_percent: Percentage | None = None
    # Run although the hosts swap elsewhere too; the kernel then chooses between the devices.
    allow_active_swap: bool | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.kind == "block_device" and self.path is None:
            raise ValueError("of kind block_device needs its path")
        if self.path is not None and self.kind not in (None, "block_device"):
            raise ValueError(f"of kind {self.kind} has no path; only block_device has one")
        if self.kind in ("brd", "zram", "loop", "file") and self.size_bytes is None:
            raise ValueError(f"of kind {self.kind} needs its size")
        if not self.zswap and (self.zswap_compressor is not None or self.zswap_max_pool_percent is not None):
            raise ValueError("has settings of zswap, so it needs zswap: true")
        return self


class Pressure(Model):
    """How memory is made short."""

    # The most that the workload's processes may have together (a memory cgroup); without it what the machine has.
    memory_limit_bytes: Size | None = Field(default=None, alias="memory_limit")


class Workload(Model):
    """How often and how long a workload runs on each kernel."""

    # Measured runs on each kernel.
    repetitions: Annotated[int, Field(ge=1, le=1000)] = 4
    # Runs before them that are reported and not judged.
    warmups: Annotated[int, Field(ge=0, le=100)] = 1
    # All runs of one kernel together.
    timeout_s: PositiveDuration = Field(default=3600.0, alias="timeout")

    @property
    def parameters(self) -> Mapping[str, Any]:
        """What the file says of the workload itself, by the contract's names."""
        return _given(self)


class _OfPreset(Workload):
    """A workload with a preset, named values to start from; each says which ones it has."""

    swap: Swap | None = None

    @model_validator(mode="after")
    def _has_swap(self) -> Self:
        preset = getattr(self, "preset", None)
        if (self.swap is None or self.swap.kind is None) and preset in (None, _WITHOUT_DEVICE):
            raise ValueError("needs a swap with its kind, or a preset that names one")
        return self


class Device(Model):
    """What swap_mount mounts: exactly one of `block_device` and `brd_size`."""

    # An existing block device on every host; it must be empty or carry kernroll's own swap area.
    block_device: HostPath | None = None
    # A RAM disk of this size, made for the run and removed afterwards (needs the brd module).
    brd_size: Size | None = None

    @model_validator(mode="after")
    def _one_device(self) -> Self:
        exactly_one(self, "block_device", "brd_size")
        return self


class SwapMount(Workload):
    """Mount an idle swap device and read what it costs: exactly one of `device` and `swap`."""

    device: Device | None = None
    swap: Swap | None = None
    repetitions: Annotated[int, Field(ge=1, le=1000)] = 3
    timeout_s: PositiveDuration = Field(default=900.0, alias="timeout")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        exactly_one(self, "device", "swap")
        if self.swap is not None and self.swap.kind in (None, "existing"):
            raise ValueError("switches swap on and off, so its swap needs the kind of a device of its own")
        if self.swap is not None and self.swap.zswap:
            raise ValueError("keeps its device idle, so its swap takes no zswap")
        return self

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The device as a swap source, which is how the contract knows it."""
        if self.device is None:
            return _given(self)
        if self.device.brd_size is not None:
            return {"swap": {"kind": "brd", "size_bytes": self.device.brd_size}}
        return {"swap": {"kind": "block_device", "path": self.device.block_device}}


class SwapFill(_OfPreset):
    """Fill part of a swap device and read what its metadata costs, static and dynamic together."""

    preset: Literal["small"] | None = None
    fill_percent: Percentage | None = None
    seed: Seed | None = None


class SwapIntegrity(_OfPreset):
    """Swap memory in every way there is and compare it byte for byte."""

    preset: Literal["small"] | None = None
    pressure: Pressure | None = None
    memory_bytes: Size | None = Field(default=None, alias="memory")
    sharers: Count | None = None
    rounds: Count | None = None
    device_count: Count | None = None
    discard: bool | None = None
    seed: Seed | None = None


class SwapMountIndicator(_OfPreset):
    """Watch /proc/swaps while swap is switched on, switched off under load, and after a failed swapon."""

    preset: Literal["small"] | None = None
    memory_bytes: Size | None = Field(default=None, alias="memory")
    readers: Count | None = None
    cycles: Count | None = None


class KernelBuild(_OfPreset):
    """Build a kernel while memory is short."""

    preset: Literal["small", "series-x86-zswap", "series-arm64-zram"] | None = None
    pressure: Pressure | None = None
    # Directory or tarball on the hosts; else Debian's linux-source package.
    source: HostPath | None = None
    config: Literal["tinyconfig", "defconfig"] | None = None
    jobs: Count | None = None
    # Build only these, for example mm/swapfile.o; reported under names of their own.
    objects: Annotated[tuple[Text, ...], Field(min_length=1, max_length=1000)] | None = None
    directory: HostPath | None = None
    min_swapped_out_bytes: Size | None = Field(default=None, alias="min_swapped_out")
    # Where what the objects need is prepared and kept; else it is prepared on each kernel anew.
    prepared_directory: HostPath | None = None


class ValkeyGet(_OfPreset):
    """Read at random from a key-value server whose data does not fit into memory."""

    preset: Literal["small", "series-arm64-zram"] | None = None
    pressure: Pressure | None = None
    maxmemory_bytes: Size | None = Field(default=None, alias="maxmemory")
    keys: Count | None = None
    requests: Count | None = None
    value_bytes: Count | None = None
    clients: Count | None = None
    pipeline: Count | None = None
    # Save in the background while the benchmark runs.
    bgsave: bool | None = None
    min_hit_percent: Percentage | None = None
    min_swapped_in_bytes: Size | None = Field(default=None, alias="min_swapped_in")


class AnonSweep(_OfPreset):
    """Touch anonymous memory that does not fit."""

    preset: Literal["small"] | None = None
    pressure: Pressure | None = None
    memory_bytes: Size | None = Field(default=None, alias="memory")
    processes: Count | None = None
    pattern: Literal["sequential", "random"] | None = None
    passes: Count | None = None
    seed: Seed | None = None
    min_swapped_in_bytes: Size | None = Field(default=None, alias="min_swapped_in")


class StressNg(_OfPreset):
    """Soak under stress-ng's memory and swap stressors."""

    preset: Literal["small"] | None = None
    pressure: Pressure | None = None
    vm_workers: Count | None = None
    vm_bytes: Size | None = Field(default=None, alias="vm_memory")
    swap_workers: Annotated[int, Field(ge=0, le=10_000)] | None = None
    duration_s: Annotated[PositiveDuration, Field(ge=1)] | None = Field(default=None, alias="duration")
    seed: Seed | None = None
    min_swapped_out_bytes: Size | None = Field(default=None, alias="min_swapped_out")


class MmSelftests(_OfPreset):
    """Run the kernel's own selftests that bear on swap; what passed on the old kernel must pass on the new one."""

    preset: Literal["small"] | None = None
    pressure: Pressure | None = None
    # Only these, for example mm/cow.
    programs: Annotated[tuple[Text, ...], Field(min_length=1, max_length=1000)] | None = None
    program_timeout_s: Annotated[PositiveDuration, Field(ge=1)] | None = Field(default=None, alias="program_timeout")
    memory_bytes: Size | None = Field(default=None, alias="memory")
    # What `make install` of the selftests has left on the hosts; else they are built.
    selftests_directory: HostPath | None = None
    # Directory or tarball on the hosts; else Debian's linux-source package.
    source: HostPath | None = None
    jobs: Count | None = None
    directory: HostPath | None = None
    # Where they are built and kept; else they are built on each kernel anew.
    prepared_directory: HostPath | None = None
    min_swapped_out_bytes: Size | None = Field(default=None, alias="min_swapped_out")
    # They pass or they fail: a second run tells whether that repeats itself.
    repetitions: Annotated[int, Field(ge=1, le=1000)] = 2
    warmups: Annotated[int, Field(ge=0, le=100)] = 0


class Workloads(Model):
    """What the agents run, in this order, on the old and on the new kernel; at least one."""

    swap_mount: SwapMount | None = None
    swap_fill: SwapFill | None = None
    swap_mount_indicator: SwapMountIndicator | None = None
    swap_integrity: SwapIntegrity | None = None
    anon_sweep: AnonSweep | None = None
    kernel_build: KernelBuild | None = None
    valkey_get: ValkeyGet | None = None
    stress_ng: StressNg | None = None
    mm_selftests: MmSelftests | None = None

    @property
    def given(self) -> Mapping[str, Workload]:
        """The workloads that the file names, in the order in which they run."""
        found = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: workload for name, workload in found.items() if workload is not None}

    @model_validator(mode="after")
    def _any(self) -> Self:
        if not self.given:
            raise ValueError("needs at least one workload, for example swap_mount")
        return self


def _given(model: Model) -> Mapping[str, Any]:
    values: dict[str, Any] = {}
    for name in sorted(model.model_fields_set - _RUNNING):
        value = getattr(model, name)
        if isinstance(value, Model):
            values[name] = _given(value)
        elif value is not None:
            # A list, as it comes back from the log.
            values[name] = list(value) if isinstance(value, tuple) else value
    return values
