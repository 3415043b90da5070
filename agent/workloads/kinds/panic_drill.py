"""A deliberate panic of the running kernel, which proves that the host comes back on its default kernel by itself.

Ordered on a kernel that is armed for one boot, where whatever goes wrong must lead back. Nothing is measured here: how
long the way back took is what the controller sees.
"""

from agent.domain.errors import RigError
from agent.domain.orders.orders import PanicDrillOrder
from agent.workloads.port import Host, Inspection, Measurement, StepReporter

_SYNC_TIMEOUT_S = 60.0
# A panic is at once; a kernel that still runs after this ignored it.
_STILL_HERE_S = 30.0
# The key of the magic SysRq that crashes the system (Documentation/admin-guide/sysrq.rst).
_CRASH = "c"


class PanicDrill:
    """The workload; one object serves one command."""

    name = "panic_drill"

    def __init__(self, order: PanicDrillOrder, host: Host) -> None:
        self._order = order
        self._host = host
        self._trigger = host.proc / "sysrq-trigger"

    def inspect(self) -> Inspection:
        """Say what would be touched."""
        touches = (f"panics the running kernel {self._host.kernel_release} through {self._trigger}",)
        return Inspection(touches=touches, refusals=self._refusals())

    async def prepare(self, step: StepReporter) -> None:
        """Write what is in memory to disk. Raises RigError."""
        if refusals := self._refusals():
            raise RigError("this host is not touched: " + "; ".join(refusals))
        step("writing everything to disk")
        await self._host.tools.run(("sync",), timeout_s=_SYNC_TIMEOUT_S)

    async def run(self, step: StepReporter) -> Measurement:
        """Panic. Returns never; raises RigError when the kernel is still there."""
        step("panicking")
        try:
            self._host.files.write(self._trigger, _CRASH)
        except OSError as error:
            raise RigError(f"{self._trigger} refuses: {error.strerror or error}") from error
        await self._host.sleep(_STILL_HERE_S)
        raise RigError(f"the kernel did not panic within {_STILL_HERE_S:.0f} s")

    async def clean_up(self) -> None:
        """Nothing was set up."""

    def _refusals(self) -> tuple[str, ...]:
        if not self._host.is_root:
            return ("only root can panic the kernel",)
        missing = not self._host.files.exists(self._trigger)
        return (f"there is no {self._trigger}: the kernel has no magic SysRq (CONFIG_MAGIC_SYSRQ)",) if missing else ()
