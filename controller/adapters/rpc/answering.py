"""How every operators' call is answered: check who asks, act, and translate errors into gRPC's codes."""

from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, TypeVar

import grpc

from controller.adapters.rpc.identity import operator_of
from controller.domain.caller import Caller
from controller.domain.errors import Conflict, InvalidInput, KernrollError, NotFound, Permanent, Temporary

T = TypeVar("T")

_CODES: tuple[tuple[type[KernrollError], grpc.StatusCode], ...] = (
    (InvalidInput, grpc.StatusCode.INVALID_ARGUMENT),
    (NotFound, grpc.StatusCode.NOT_FOUND),
    (Conflict, grpc.StatusCode.FAILED_PRECONDITION),
    (Temporary, grpc.StatusCode.UNAVAILABLE),
    (Permanent, grpc.StatusCode.FAILED_PRECONDITION),
)


async def answer(context: Any, act: Callable[[Caller], Awaitable[T]], *, plaintext: bool) -> T:
    """Act in the operator's name, or abort the call with a sentence when it cannot be done."""
    try:
        by = operator_of(context, plaintext=plaintext)
    except Permanent as error:
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, str(error))
    try:
        return await act(by)
    except KernrollError as error:
        await abort(context, error)


async def abort(context: Any, error: KernrollError) -> NoReturn:
    """End the call with the error's code and text."""
    code = next((code for kind, code in _CODES if isinstance(error, kind)), grpc.StatusCode.UNKNOWN)
    await context.abort(code, str(error))
    raise AssertionError("abort returned") from error
