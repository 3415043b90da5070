"""What hosts' kernroll-boot is asked through their agents, and what is awaited of them."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from controller.domain.errors import Temporary

# What an agent may take longer than it was given, to say so itself.
_MARGIN_S = 5.0


class Unanswered(Temporary):
    """Nothing was heard of kernroll-boot through the agent; what was asked may be done all the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BootRequest:
    """One run of a host's kernroll-boot."""

    # Of this telling alone; what must not be done twice has a command id among the arguments.
    request_id: str
    # After it the agent says that no answer came.
    timeout_s: float
    arguments: tuple[str, ...]


# Hands a request to a host's stream.
Ask = Callable[[BootRequest], Awaitable[None]]


@dataclass(slots=True, kw_only=True)
class _Waiting:
    host: str
    answer: asyncio.Future[str]


class BootRequests:
    """Those that are not answered yet. Nothing of them is recorded: whoever asks asks again."""

    def __init__(
        self, way_to: Callable[[str], Ask | None], *, new_id: Callable[[], str] = lambda: secrets.token_hex(8)
    ) -> None:
        """`way_to` returns how a connected host is asked; None when it is not connected, or its agent takes none."""
        self._way_to = way_to
        self._new_id = new_id
        self._waiting: dict[str, _Waiting] = {}

    def reach(self, host: str) -> bool:
        """Return whether the host's agent is connected and takes requests."""
        return self._way_to(host) is not None

    async def ask(self, host: str, arguments: Sequence[str], *, timeout_s: float) -> str:
        """Return the document that kernroll-boot prints. Raises Unanswered, or Temporary when the stream is broken."""
        way = self._way_to(host)
        if way is None:
            raise Unanswered(f"{host}: no agent is connected that takes requests to kernroll-boot")
        request = BootRequest(request_id=self._new_id(), timeout_s=timeout_s, arguments=tuple(arguments))
        waiting = _Waiting(host=host, answer=asyncio.get_running_loop().create_future())
        self._waiting[request.request_id] = waiting
        try:
            async with asyncio.timeout(timeout_s + _MARGIN_S):
                await way(request)
                return await waiting.answer
        except TimeoutError as error:
            raise Unanswered(f"{host}: its agent has not answered within {timeout_s + _MARGIN_S:g} s") from error
        finally:
            del self._waiting[request.request_id]
            if waiting.answer.done() and not waiting.answer.cancelled():
                # Nobody else looks at it.
                waiting.answer.exception()

    def answered(self, host: str, request_id: str, document: str) -> None:
        """Take an answer; one that nobody waits for, or another host's, changes nothing."""
        waiting = self._waiting.get(request_id)
        if waiting is not None and waiting.host == host and not waiting.answer.done():
            waiting.answer.set_result(document)

    def ended(self, host: str) -> None:
        """The stream over which the host was asked is gone."""
        for waiting in self._waiting.values():
            if waiting.host == host and not waiting.answer.done():
                waiting.answer.set_exception(Unanswered(f"{host}: its agent's session ended before it answered"))
