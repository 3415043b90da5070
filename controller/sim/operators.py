"""An operator in the simulated world: every verb of the controller, found by its signature, used at bad moments."""

import inspect
from collections.abc import Mapping
from typing import Any, Final

from controller.services.operations import Operations

BY: Final = "simulated operator"
_COMMON: Final = ("self", "name", "by", "remark")


def _verbs() -> Mapping[str, Any]:
    """Return every mutation that an operator has: those that take a rollout, a name to answer for it, and a remark."""
    return {
        name: method
        for name, method in sorted(vars(Operations).items())
        if inspect.iscoroutinefunction(method)
        and tuple(inspect.signature(method).parameters)[:4] == _COMMON
        and all(one.default is not inspect.Parameter.empty for one in _optional(method))
    }


def _optional(method: Any) -> list[inspect.Parameter]:
    return list(inspect.signature(method).parameters.values())[4:]


# Verb -> the method of Operations. A verb that is added there can be used in a fault file at once.
VERBS: Final = _verbs()


async def operate(operations: Operations, verb: str, rollout: str) -> None:
    """Use a verb; raises Conflict when the rollout's state does not allow it."""
    await VERBS[verb](operations, rollout, BY, "simulated")
