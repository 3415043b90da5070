"""A resident agent as a process of its own, on a host that exists in a directory only: what the tests kill.

Arguments: the directory, the controller's address, the boot id, and the tools that never return (comma-separated).
"""

import asyncio
import signal
import sys
from pathlib import Path

from fake_host import FakeProcess
from fake_kernel import FakeKernel

from agent.adapters.host.boot_program import BootProgram
from agent.adapters.host.host import read_facts
from agent.adapters.network import channel
from agent.adapters.state.command_journal import CommandJournal
from agent.adapters.state.spool import ReportSpool
from agent.locks import workload_lock
from agent.resident.executor import Executor
from agent.resident.outbox import Outbox
from agent.resident.resident import Parts, Resident


def resident(directory: Path, address: str, boot_id: str, hanging: str) -> Resident:
    """Return an agent named host-1 whose pauses are short."""
    process = FakeProcess(FakeKernel(directory), boot_id=boot_id)
    process.hanging = set(filter(None, hanging.split(",")))
    outbox = Outbox(host="host-1", boot_id=boot_id, spool=ReportSpool(directory / "spool"), now=lambda: 1000.0)
    journal = CommandJournal(directory / "commands.journal")
    lock = workload_lock(directory)
    return Resident(
        Parts(
            name="host-1",
            host=process.host(),
            read_facts=lambda: read_facts(labels={"zone": "a"}, platform_override=None),
            boot_program=BootProgram(status=directory / "status.json", socket=directory / "boot.sock"),
            journal=journal,
            outbox=outbox,
            executor=Executor(host=process.host(), journal=journal, outbox=outbox, lock=lock),
            workload_lock=lock,
            connect=lambda number: channel.plain(address),
            kernel_log=None,
            jitter=lambda: 0.0,
            backoff_limit_s=0.2,
        )
    )


async def main() -> None:
    """Serve until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    directory, address, boot_id, hanging = sys.argv[1:]
    await resident(Path(directory), address, boot_id, hanging).serve(stop)


if __name__ == "__main__":
    asyncio.run(main())
