"""The flags of `kernroll-agent run WORKLOAD`, made from the fields of the workload's order."""

import argparse
from collections.abc import Callable
from dataclasses import is_dataclass
from typing import Any

from agent.domain.numbers import is_number
from agent.domain.orders.fields import OrderField, order_fields
from agent.domain.orders.orders import Order
from agent.domain.orders.presets import order_from, presets_of
from agent.domain.orders.swap_source import SourceKind, SwapSource
from agent.workloads.registry import KINDS

# How a swap of each kind is asked for: the flag, what it takes, and what it means.
_SIZED_SWAPS = (
    (SourceKind.BRD, "load brd with a disk of this size, as 1T"),
    (SourceKind.ZRAM, "swap to a zram device of this size"),
    (SourceKind.LOOP, "swap to a loop device over a sparse file of this size"),
    (SourceKind.FILE, "swap to a file of this size, written in full"),
)
# Named by the flags above.
_CHOSEN_BY_KIND = ("kind", "path", "size_bytes")
_SWAP_FLAGS = {"directory": "swap-directory", "algorithm": "zram-algorithm"}


# Every way to name a swap, and what may be said about one beside its kind, with the flag's name.
SWAP_KINDS = (
    ("block-device PATH", "a blank device that nobody uses"),
    *((f"{kind}-size SIZE", says) for kind, says in _SIZED_SWAPS),
    ("existing-swap", "the swap that the host has switched on already; needs --allow-active-swap too"),
)
SWAP_PARAMETERS = tuple(
    (each, _SWAP_FLAGS.get(each.name, each.name.replace("_", "-")))
    for each in order_fields(SwapSource)
    if each.name not in _CHOSEN_BY_KIND
)


def add_flags(parser: argparse.ArgumentParser, workload: str) -> None:
    """Give a parser every flag of the workload."""
    presets = presets_of(workload)
    if presets:
        parser.add_argument(
            "--preset", choices=[str(preset) for preset in presets], help="start from these values; other flags win"
        )
    group = parser.add_argument_group("what it measures")
    for each in order_fields(KINDS[workload].order):
        if each.kind is SwapSource:
            _add_swap_flags(parser)
        elif isinstance(each.kind, type) and is_dataclass(each.kind):
            for inner in order_fields(each.kind):
                _add_flag(group, inner, f"{each.name}.{inner.name}")
        else:
            _add_flag(group, each, each.name)


def order_of(options: argparse.Namespace) -> Order:
    """Return the order that the parsed flags describe. Raises InvalidOrder."""
    given = {
        name: value
        for name, value in vars(options).items()
        if value is not None and name.partition(".")[0] in {each.name for each in _fields_of(options.workload)}
    }
    values: dict[str, Any] = {}
    for name, value in given.items():
        outer, _, inner = name.partition(".")
        if inner:
            values.setdefault(outer, {})[inner] = value
        else:
            values[name] = value
    swap = values.get("swap", {})
    for kind, _ in _SIZED_SWAPS:
        if kind.value in swap:
            swap |= {"kind": kind, "size_bytes": swap.pop(kind.value)}
    if "path" in swap:
        swap["kind"] = SourceKind.BLOCK_DEVICE
    if swap.pop("existing", False):
        swap["kind"] = SourceKind.EXISTING
    return order_from(KINDS[options.workload].order, options.workload, getattr(options, "preset", None) or "", values)


def _fields_of(workload: str) -> tuple[OrderField, ...]:
    return order_fields(KINDS[workload].order)


def parse_size(text: str) -> int:
    """Return bytes for a number with an optional unit K, M, G or T (powers of 1024)."""
    units = {"K": 10, "M": 20, "G": 30, "T": 40}
    number, shift = (text[:-1], units[text[-1].upper()]) if text and text[-1].upper() in units else (text, 0)
    if not is_number(number) or int(number) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; write for example 512M or 1T")
    return int(number) << shift


def parse_seconds(text: str) -> float:
    """Return a duration in seconds, with or without a fraction."""
    whole, dot, fraction = text.partition(".")
    if not is_number(whole) or (dot and not is_number(fraction)) or not float(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return float(text)


def parse_count(least: int) -> Callable[[str], int]:
    """Return a parser of whole numbers of at least `least`."""

    def parse(text: str) -> int:
        if not is_number(text) or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least {least}")
        return int(text)

    return parse


def _size_or_zero(text: str) -> int:
    return 0 if text == "0" else parse_size(text)


def _add_swap_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what it swaps to (one of the first six; all is taken down afterwards)")
    one = group.add_mutually_exclusive_group()
    one.add_argument("--block-device", dest="swap.path", metavar="PATH", help=SWAP_KINDS[0][1])
    for kind, says in _SIZED_SWAPS:
        one.add_argument(f"--{kind}-size", dest=f"swap.{kind}", type=parse_size, metavar="SIZE", help=says)
    one.add_argument(
        "--existing-swap",
        dest="swap.existing",
        action="store_true",
        default=None,
        help=SWAP_KINDS[-1][1],
    )
    for each, flag in SWAP_PARAMETERS:
        _add_flag(group, each, f"swap.{each.name}", flag)


def _add_flag(group: "argparse._ArgumentGroup", each: OrderField, dest: str, flag: str = "") -> None:
    """Add one field's flag; its type and unit are told by the field's type and the end of its name."""
    _, metavar, parse = _unit(each)
    flag = f"--{flag or flag_of(each)}"
    says = each.says
    if each.kind is bool:
        text = f"{says} (default: {shown(each)})"
        group.add_argument(flag, dest=dest, action=argparse.BooleanOptionalAction, default=None, help=_literal(text))
        return
    if each.kind == tuple[str, ...]:
        group.add_argument(flag, dest=dest, nargs="+", metavar=metavar, help=_literal(says))
        return
    default = shown(each)
    if default:
        says = f"{says} (default: {default})"
    choices = list(filter(None, each.choices)) or None
    group.add_argument(
        flag, dest=dest, type=parse, choices=choices, metavar=None if choices else metavar, help=_literal(says)
    )


def _unit(each: OrderField) -> tuple[str, str, Callable[[str], Any]]:
    """Return the flag's name, what --help calls its value, and its parser."""
    if each.name.endswith("_bytes"):
        return each.name.removesuffix("_bytes"), "SIZE", _size_or_zero
    if each.kind is float and each.name.endswith("_s"):
        return each.name.removesuffix("_s"), "SECONDS", float
    if each.kind is int:
        return each.name, "N", parse_count(0)
    return each.name, "TEXT", str


def flag_of(each: OrderField) -> str:
    """Return the name of a field's flag, without its dashes."""
    return _unit(each)[0].replace("_", "-")


def shown(each: OrderField) -> str:
    """Return a field's default as the flags take it; empty when it is nothing."""
    if each.name.endswith("_bytes"):
        return size_text(each.default) if each.default else ""
    if isinstance(each.default, bool):
        return "yes" if each.default else "no"
    if isinstance(each.default, float):
        return f"{each.default:g} s"
    return "" if each.default in ("", 0, ()) else str(each.default)


def size_text(size_bytes: int) -> str:
    """Return a size as the flags take it."""
    for unit, shift in (("T", 40), ("G", 30), ("M", 20), ("K", 10)):
        if size_bytes and size_bytes % (1 << shift) == 0:
            return f"{size_bytes >> shift}{unit}"
    return str(size_bytes)


def _literal(text: str) -> str:
    """Return a help text that argparse prints as it is."""
    return text.replace("%", "%%")
