"""Requests to this host's kernroll-boot: passed on beside whatever workload runs, and answered in the session.

Nothing of them is kept here: the program itself does nothing twice, and a controller that hears nothing asks again.
"""

import asyncio
from collections.abc import Callable

import structlog

from agent.adapters.host.boot_program import BootProgram, unanswered
from agent.domain.session.session import BootRequest

log = structlog.get_logger(__name__)

# One acts at a time; who asks more often than it can answer hears so at once.
_MOST_AT_ONCE = 4


class BootRequests:
    """Those that are not answered yet."""

    def __init__(self, program: BootProgram, answer: Callable[[str, str], None]) -> None:
        """`answer` takes the id of a request and a document."""
        self._program = program
        self._answer = answer
        self._asking: set[asyncio.Task[None]] = set()

    def take(self, request: BootRequest, *, stale: str) -> None:
        """Pass a request on, unless `stale` says why its sender does not count any more."""
        if why := stale or self._busy():
            log.warning("boot_request_refused", request_id=request.request_id, reason=why)
            self._answer(request.request_id, unanswered(why))
            return
        asking = asyncio.create_task(self._ask(request), name=f"boot request {request.request_id}")
        self._asking.add(asking)
        asking.add_done_callback(self._asking.discard)

    def stop(self) -> None:
        """Wait for no answer any more; what was asked goes on."""
        for each in self._asking:
            each.cancel()

    def _busy(self) -> str:
        waiting = len(self._asking)
        return f"{waiting} requests to kernroll-boot wait for an answer" if waiting >= _MOST_AT_ONCE else ""

    async def _ask(self, request: BootRequest) -> None:
        log.info("boot_request", request_id=request.request_id, arguments=request.arguments)
        self._answer(request.request_id, await self._program.ask(request.arguments, request.timeout_s))
