"""The page of every workload's parameters and presets, made from the orders: `python -m agent.cli.manual`."""

from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from typing import Any

from agent.cli.flags import SWAP_KINDS, SWAP_PARAMETERS, flag_of, shown, size_text
from agent.domain.orders.fields import OrderField, order_fields
from agent.domain.orders.presets import PRESETS, presets_of
from agent.domain.orders.swap_source import SwapSource
from agent.workloads.registry import KINDS

_HEAD = """# Parameters and presets

Made by `make docs` from the code; [workloads.md](workloads.md) says what the workloads do, and
`kernroll-agent run WORKLOAD --help` prints the same. A flag that is not given takes the preset's value, else
its default. Sizes are in powers of 1024: 512M, 1T.

## What a workload swaps to
"""


def page() -> str:
    """Return the page."""
    return "\n".join((*_swap(), *(line for name in KINDS for line in _workload(name)))) + "\n"


def _swap() -> Iterator[str]:
    yield _HEAD
    yield "| Flag | Meaning | Default |"
    yield "|---|---|---|"
    for flag, says in SWAP_KINDS:
        yield f"| `--{flag}` | {says} | |"
    for each, flag in SWAP_PARAMETERS:
        yield _row(each, flag)


def _workload(name: str) -> Iterator[str]:
    order = KINDS[name].order
    yield f"\n## {name}\n\n{(order.__doc__ or '').partition(chr(10))[0]}\n"
    yield "| Flag | Meaning | Default |"
    yield "|---|---|---|"
    for each in order_fields(order):
        if each.kind is SwapSource:
            continue
        if isinstance(each.kind, type) and is_dataclass(each.kind):
            for inner in order_fields(each.kind):
                yield _row(inner, flag_of(inner))
        else:
            yield _row(each, flag_of(each))
    if presets_of(name):
        yield "\n| Preset | Its values |\n|---|---|"
    for preset in presets_of(name):
        yield f"| `{preset}` | {', '.join(_values(PRESETS[preset][name]))} |"


def _row(each: OrderField, flag: str) -> str:
    says = f"{each.says}; one of {', '.join(each.choices)}" if each.choices else each.says
    return f"| `--{flag}` | {says} | {shown(each)} |"


def _values(values: Mapping[str, Any]) -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from (f"{name} {each}" for each in _values(value))
        elif name.endswith("_bytes"):
            yield f"{name.removesuffix('_bytes').replace('_', ' ')} {size_text(value)}"
        elif name.endswith("_s"):
            yield f"{name.removesuffix('_s').replace('_', ' ')} {value:g} s"
        elif isinstance(value, tuple):
            yield f"{name} {' '.join(value)}"
        else:
            yield f"{name.replace('_', ' ')} {'on' if value is True else value}"


if __name__ == "__main__":
    print(page(), end="")
