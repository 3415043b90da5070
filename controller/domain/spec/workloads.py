"""The workloads of a rollout file: what the agents run on the old and on the new kernel.

Fields that are not given keep the preset's value, else the agent's own default. A field's name here is that of the
agents' contract (protos/kernroll/v1/workloads.proto), its unit left out: people write units.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from controller.domain.spec.fields import HostPath, Model, Text, exactly_one
from controller.domain.spec.swap import Percentage, Swap, check_swap, needs_no_other, needs_own, over_preset
from controller.domain.spec.units import PositiveDuration, Size

Count = Annotated[int, Field(ge=1, le=2**32 - 1)]
# As exact as every number between programs is.
Seed = Annotated[int, Field(ge=0, le=2**53 - 1)]

# Presets that name the objects that a kernel build makes.
PRESETS_WITH_OBJECTS: Final = frozenset({"small"})
_PROGRAM: Final = re.compile(r"[a-z0-9_]+/[A-Za-z0-9_][A-Za-z0-9_.-]*")
# What says how often and how long, and not what.
_RUNNING: Final = frozenset({"preset", "repetitions", "warmups", "timeout_s"})


def _object(name: str) -> str:
    if not name.endswith(".o") or name.startswith(("/", "-")) or ".." in name:
        raise ValueError("must be named from the top of the source, for example mm/swapfile.o")
    return name


def _program(name: str) -> str:
    if not _PROGRAM.fullmatch(name):
        raise ValueError("must be named by folder and name, for example mm/cow")
    return name


Object = Annotated[Text, AfterValidator(_object)]
Program = Annotated[Text, AfterValidator(_program)]


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

    # Before the swap, which is checked over it.
    preset: str | None = None
    swap: Swap | None = None

    @field_validator("swap")
    @classmethod
    def _whole(cls, swap: Swap | None, info: ValidationInfo) -> Swap | None:
        effective = over_preset(swap, info.data.get("preset"))
        if effective.kind is not None:
            check_swap(effective)
        return swap

    @property
    def effective_swap(self) -> Swap:
        """The swap with what the preset names of it."""
        return over_preset(self.swap, self.preset)

    @model_validator(mode="after")
    def _has_swap(self) -> Self:
        if self.effective_swap.kind is None:
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

    @field_validator("swap")
    @classmethod
    def _whole(cls, swap: Swap | None) -> Swap | None:
        if swap is not None and swap.kind is not None:
            check_swap(swap)
        return swap

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
    # Beyond it the last pages may find no room on the device.
    fill_percent: Annotated[int, Field(ge=1, le=95)] | None = None
    seed: Seed | None = None

    @model_validator(mode="after")
    def _own_device(self) -> Self:
        needs_no_other(self.effective_swap, "subtracts what its own device takes")
        if self.effective_swap.zswap:
            raise ValueError("needs its pages on the device, so its swap takes no zswap")
        return self


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

    @model_validator(mode="after")
    def _own_devices(self) -> Self:
        needs_no_other(self.effective_swap, "counts the slots of its own devices")
        return self


class SwapMountIndicator(_OfPreset):
    """Watch /proc/swaps while swap is switched on, switched off under load, and after a failed swapon."""

    preset: Literal["small"] | None = None
    memory_bytes: Size | None = Field(default=None, alias="memory")
    readers: Count | None = None
    cycles: Count | None = None

    @model_validator(mode="after")
    def _own_device(self) -> Self:
        needs_own(self.effective_swap, "switches swap on and off")
        return self


class KernelBuild(_OfPreset):
    """Build a kernel while memory is short."""

    preset: Literal["small", "series-x86-zswap", "series-arm64-zram"] | None = None
    pressure: Pressure | None = None
    # Directory or tarball on the hosts; else Debian's linux-source package.
    source: HostPath | None = None
    config: Literal["tinyconfig", "defconfig"] | None = None
    jobs: Count | None = None
    # Build only these, for example mm/swapfile.o; reported under names of their own.
    objects: (
        Annotated[tuple[Annotated[Text, AfterValidator(_object)], ...], Field(min_length=1, max_length=1000)] | None
    ) = None
    directory: HostPath | None = None
    min_swapped_out_bytes: Size | None = Field(default=None, alias="min_swapped_out")
    # Where what the objects need is prepared and kept; else it is prepared on each kernel anew.
    prepared_directory: HostPath | None = None

    @model_validator(mode="after")
    def _prepares_objects(self) -> Self:
        if self.prepared_directory is not None and self.objects is None and self.preset not in PRESETS_WITH_OBJECTS:
            raise ValueError("keeps in its prepared_directory what objects need, and names no objects")
        return self


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
    programs: (
        Annotated[tuple[Annotated[Text, AfterValidator(_program)], ...], Field(min_length=1, max_length=1000)] | None
    ) = None
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

    @model_validator(mode="after")
    def _built_once(self) -> Self:
        if self.selftests_directory is not None and (self.source is not None or self.prepared_directory is not None):
            raise ValueError(
                "has programs that are built in its selftests_directory; source and prepared_directory build them"
            )
        return self


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
