"""The workloads that this agent knows: a new one is a line here, beside its module, its order and its message."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from agent.domain.orders import KernelBuildOrder, Order, StressNgOrder, SwapMountOrder, ValkeyGetOrder
from agent.workloads.kernel_build import KernelBuild
from agent.workloads.port import Host, Workload
from agent.workloads.stress_ng import StressNg
from agent.workloads.swap_mount import SwapMount
from agent.workloads.valkey_get import ValkeyGet


@dataclass(frozen=True, slots=True)
class Kind:
    """What is ordered, and what carries it out."""

    order: type[Order]
    # Called with an order of that type and the host.
    make: Callable[[Any, Host], Workload]


_KINDS = (
    Kind(SwapMountOrder, SwapMount),
    Kind(KernelBuildOrder, KernelBuild),
    Kind(ValkeyGetOrder, ValkeyGet),
    Kind(StressNgOrder, StressNg),
)
KINDS: Final[Mapping[str, Kind]] = {kind.order.workload: kind for kind in _KINDS}


def workload_for(order: Order, host: Host) -> Workload:
    """Return the workload that carries out an order."""
    return KINDS[order.workload].make(order, host)
