"""What the command line takes is what the service behind it takes: one limit, not two."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import click
import pytest
from engine_parts import Parts

from controller.adapters.pki.certificates import open_authority
from controller.cli.app import root
from controller.domain.errors import InvalidInput
from controller.services.agents.enrollment import Enrollment

Ask = Callable[[float], Awaitable[Any]]


def option(*path: str) -> click.Parameter:
    command: click.Command = root
    *groups, name = path
    for group in groups:
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), group)
        assert found is not None
        command = found
    return next(one for one in command.params if name in one.opts)


def taken(found: click.Parameter, text: str) -> bool:
    try:
        found.type.convert(text, found, None)
    except click.BadParameter:
        return False
    return True


async def asks(tmp_path: Path) -> dict[tuple[str, ...], Ask]:
    parts = await Parts().start()
    enrollment = Enrollment(parts.store, open_authority(tmp_path / "authority", parts.clock.now()), parts.clock)
    return {
        ("controller", "token", "create", "--uses"): lambda count: enrollment.create_token(int(count), 60.0),
        ("controller", "token", "create", "--valid"): lambda valid_s: enrollment.create_token(1, valid_s),
        ("fleet", "log", "--last"): lambda count: parts.operations.fleet.log(int(count)),
    }


@pytest.mark.parametrize(
    ("path", "unit", "numbers"),
    [
        (("controller", "token", "create", "--uses"), "", (0, 1, 9_999, 10_000, 10_001, 100_000)),
        (("controller", "token", "create", "--valid"), "h", (0, 1, 719, 720, 721, 2160)),
        (("fleet", "log", "--last"), "", (0, 1, 10_000, 10_001)),
    ],
    ids=lambda value: value[-1] if isinstance(value, tuple) and isinstance(value[0], str) else None,
)
async def test_one_limit_holds_on_both_sides(
    path: tuple[str, ...], unit: str, numbers: tuple[int, ...], tmp_path: Path
) -> None:
    ask = (await asks(tmp_path))[path]
    for number in numbers:
        given = taken(option(*path), f"{number}{unit}")
        try:
            await ask(number * 3600 if unit else number)
        except InvalidInput:
            assert not given, number
        else:
            assert given, number
