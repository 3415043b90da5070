"""The workloads that this agent knows: a new one is a line here, beside its module, its order and its message."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from agent.domain.orders.orders import (
    AnonSweepOrder,
    KernelBuildOrder,
    MmSelftestsOrder,
    Order,
    PanicDrillOrder,
    StressNgOrder,
    SwapFillOrder,
    SwapIntegrityOrder,
    SwapMountIndicatorOrder,
    SwapMountOrder,
    ValkeyGetOrder,
)
from agent.domain.orders.swap_source import SourceKind
from agent.workloads.kinds.anon_sweep import AnonSweep
from agent.workloads.kinds.built.kernel_build import KernelBuild
from agent.workloads.kinds.built.mm_selftests import MmSelftests
from agent.workloads.kinds.panic_drill import PanicDrill
from agent.workloads.kinds.stress_ng import StressNg
from agent.workloads.kinds.swap.fill import SwapFill
from agent.workloads.kinds.swap.integrity import SwapIntegrity
from agent.workloads.kinds.swap.mount import SwapMount
from agent.workloads.kinds.swap.mount_indicator import SwapMountIndicator
from agent.workloads.kinds.valkey_get import ValkeyGet
from agent.workloads.port import Host, Workload
from agent.workloads.recorded import Recorded


@dataclass(frozen=True, slots=True)
class Kind:
    """What is ordered, and what carries it out."""

    order: type[Order]
    # Called with an order of that type and the host.
    make: Callable[[Any, Host], Workload]
    # Whether a point a second is recorded. Not where some MiB more or less of memory are what is measured.
    every_second: bool = True


_KINDS = (
    Kind(SwapMountOrder, SwapMount, every_second=False),
    Kind(SwapFillOrder, SwapFill, every_second=False),
    Kind(SwapIntegrityOrder, SwapIntegrity),
    Kind(SwapMountIndicatorOrder, SwapMountIndicator),
    Kind(KernelBuildOrder, KernelBuild),
    Kind(ValkeyGetOrder, ValkeyGet),
    Kind(AnonSweepOrder, AnonSweep),
    Kind(StressNgOrder, StressNg),
    Kind(MmSelftestsOrder, MmSelftests),
    Kind(PanicDrillOrder, PanicDrill, every_second=False),
)
KINDS: Final[Mapping[str, Kind]] = {kind.order.workload: kind for kind in _KINDS}


def workload_for(order: Order, host: Host) -> Workload:
    """Return the workload that carries out an order, recorded."""
    kind = KINDS[order.workload]
    return Recorded(
        kind.make(order, host),
        host,
        every_second=kind.every_second,
        # A drill swaps to nothing of its own, and takes nobody else's.
        own_swap=not isinstance(order, PanicDrillOrder) and order.swap.kind is not SourceKind.EXISTING,
    )
