"""Every workload at a size for fault tests: what it is ordered, and what it says when it prepares and runs."""

from dataclasses import dataclass

from protos.kernroll.v1 import agent_pb2, workloads_pb2

MIB = 1 << 20
SOURCE = "/run/kernroll/seed/linux.tar"
# Makes the same targets as a kernel's does, of C files that gcc needs more memory for than it is given.
MAKEFILE = """\
VPATH := $(dir $(realpath $(firstword $(MAKEFILE_LIST))))
ifdef O
%::
	@$(MAKE) --no-print-directory -C $(O) -f $(CURDIR)/Makefile O= $@
else
tinyconfig:
	@touch .config
prepare: tinyconfig
	@mkdir -p mm kernel/sched fs
kernelversion:
	@echo 0.0.0
%.o:
	@gcc -O2 -c -o $@ $(VPATH)large.c
.PHONY: tinyconfig prepare kernelversion
endif
"""
FUNCTION = """\
int f{0}(int *a, int n) {{
    int s = {0};
    for (int j = 0; j < n; j++) {{
        s ^= a[j] * {1};
        a[j] += s >> {2};
    }}
    return s;
}}
"""
LARGE = "".join(FUNCTION.format(number, number + 3, number % 7 + 1) for number in range(160))


def limited(mib: int) -> workloads_pb2.Pressure:
    return workloads_pb2.Pressure(memory_limit_bytes=mib * MIB)


def zram(mib: int) -> workloads_pb2.SwapSource:
    return workloads_pb2.SwapSource(kind=workloads_pb2.SWAP_KIND_ZRAM, size_bytes=mib * MIB)


def sweep_on(swap: workloads_pb2.SwapSource, *, passes: int = 1) -> agent_pb2.RunWorkload:
    sweep = workloads_pb2.AnonSweep(swap=swap, pressure=limited(20), memory_bytes=32 * MIB, passes=passes)
    return agent_pb2.RunWorkload(anon_sweep=sweep)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A workload at a size that an emulated processor runs in seconds, and steps that it takes a while over."""

    workload: agent_pb2.RunWorkload
    preparing: str
    running: str


CASES = {
    "swap_mount": Case(
        workload=agent_pb2.RunWorkload(swap_mount=agent_pb2.SwapMount()),
        preparing="preparing the device",
        running="settling after swapon",
    ),
    "swap_fill": Case(
        workload=agent_pb2.RunWorkload(swap_fill=workloads_pb2.SwapFill(swap=zram(512))),
        preparing="preparing the swap device",
        running="filling",
    ),
    "swap_integrity": Case(
        workload=agent_pb2.RunWorkload(
            swap_integrity=workloads_pb2.SwapIntegrity(pressure=limited(48), memory_bytes=8 * MIB, sharers=4)
        ),
        preparing="preparing swap device 2",
        running="swapoff /dev/zram1 under load",
    ),
    "swap_mount_indicator": Case(
        workload=agent_pb2.RunWorkload(
            swap_mount_indicator=workloads_pb2.SwapMountIndicator(memory_bytes=24 * MIB, cycles=2, readers=1)
        ),
        preparing="preparing the swap device",
        running="swapoff under load",
    ),
    "kernel_build": Case(
        workload=agent_pb2.RunWorkload(
            kernel_build=workloads_pb2.KernelBuild(source=SOURCE, pressure=limited(28), objects=["mm/memory.o"])
        ),
        preparing="configuring",
        running="building",
    ),
    "valkey_get": Case(
        workload=agent_pb2.RunWorkload(
            valkey_get=workloads_pb2.ValkeyGet(pressure=limited(24), keys=30_000, requests=30_000, bgsave=True)
        ),
        preparing="filling the server",
        running="reading",
    ),
    "anon_sweep": Case(
        workload=sweep_on(zram(512)), preparing="preparing the swap device", running="sequential pass 1"
    ),
    "stress_ng": Case(
        workload=agent_pb2.RunWorkload(
            stress_ng=workloads_pb2.StressNg(duration_s=20, vm_bytes=32 * MIB, pressure=limited(24))
        ),
        preparing="swapon",
        running="soaking",
    ),
    "mm_selftests": Case(
        workload=agent_pb2.RunWorkload(
            mm_selftests=workloads_pb2.MmSelftests(programs=["mm/madv_populate", "mm/transhuge-stress"])
        ),
        preparing="preparing the swap device",
        running="mm/transhuge-stress",
    ),
}
