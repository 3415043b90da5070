"""That a watchdog is required is said to hosts that start from their own disk, and only where it is meant."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from engine_parts import host
from own_boot import own_boot

from controller.adapters.delivery.ansible.delivery import AnsibleDelivery
from controller.adapters.delivery.routed import RoutedDelivery
from controller.domain.errors import Permanent

KNOWN = replace(host("a"), boot=own_boot())
USUAL = ("arm", "k", "--boot-timeout=1.0", "--probation-timeout=2.0")
LAST = ("--command-id=c", "--output=json")
REFUSED = "the kernel shows no watchdog"


class Refusing:
    """A program that arms nothing, as one does whose host has no watchdog."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []

    async def ask(self, host: str, *arguments: str) -> Mapping[str, Any]:
        self.asked.append(arguments)
        raise Permanent(REFUSED)

    async def stage(self, host: str, command_id: str, kernel: object) -> Mapping[str, Any]:
        raise AssertionError(f"{host} was given {kernel}")


@pytest.mark.parametrize(("required", "said"), [(True, ("--require-watchdog",)), (False, ())])
async def test_it_is_said_where_it_is_meant_whatever_way_leads_there(required: bool, said: tuple[str, ...]) -> None:
    program = Refusing()
    direct = AnsibleDelivery(program, lambda _name: KNOWN)
    for way in (direct, RoutedDelivery({"ansible": direct}, lambda _host, _command_id: "ansible")):
        with pytest.raises(Permanent, match=REFUSED):
            await way.arm("a", "c", "k", boot_timeout_s=1.0, probation_timeout_s=2.0, require_watchdog=required)
    assert program.asked == [(*USUAL, *said, *LAST)] * 2
