"""Orders: what a message, a preset or a command line makes of them, and what is refused."""

import argparse
from dataclasses import is_dataclass
from typing import Any, get_args

import pytest
from google.protobuf.message import Message
from project import ROOT

from agent.adapters.wire.order_messages import order_of
from agent.cli import manual
from agent.cli.flags import add_flags, parse_size, size_text
from agent.cli.flags import order_of as order_of_flags
from agent.domain.errors import InvalidOrder
from agent.domain.orders import orders
from agent.domain.orders.fields import merge, order_fields
from agent.domain.orders.presets import PRESETS, Preset, order_from, presets_of
from agent.domain.orders.swap_source import Pressure, SourceKind, SwapSource
from agent.workloads.registry import KINDS
from protos.kernroll.v1 import agent_pb2, workloads_pb2

ORDERS: tuple[type[Any], ...] = get_args(orders.Order)
ZRAM = {"kind": "zram", "size_bytes": 1 << 30}
# A parameter of swap_mount's message that its order keeps inside the swap source.
OLDER_FIELDS = {"block_device", "brd_size_bytes"}


def message_type(order: type[Any]) -> type[Message]:
    kind = agent_pb2.RunWorkload.DESCRIPTOR.fields_by_name[order.workload].message_type
    return getattr(agent_pb2, kind.name, None) or getattr(workloads_pb2, kind.name)


def names_of(order: type[Any]) -> dict[str, Any]:
    return {each.name: names_of(each.kind) if is_dataclass(each.kind) else None for each in order_fields(order)}


def names_in(descriptor: Any) -> dict[str, Any]:
    return {
        field.name: names_in(field.message_type) if field.message_type else None
        for field in descriptor.fields
        if field.name not in OLDER_FIELDS
    }


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: order.workload)
def test_every_parameter_is_in_the_contract_under_its_own_name(order: type[Any]) -> None:
    assert names_of(order) == names_in(message_type(order).DESCRIPTOR)


def test_every_workload_of_the_contract_has_an_order() -> None:
    oneof = agent_pb2.RunWorkload.DESCRIPTOR.oneofs_by_name["workload"]
    assert {field.name for field in oneof.fields} == {order.workload for order in ORDERS}
    assert set(KINDS) <= {order.workload for order in ORDERS}


def test_every_preset_of_the_contract_is_known_here() -> None:
    words = {name.removeprefix("PRESET_").lower().replace("_", "-") for name in workloads_pb2.Preset.keys()}  # noqa: SIM118 -- an enum wrapper, no mapping
    assert words == {"unspecified", *Preset}
    kinds = {name.removeprefix("SWAP_KIND_").lower() for name in workloads_pb2.SwapKind.keys()}  # noqa: SIM118 -- as above
    assert kinds - {"unspecified"} == set(SourceKind) - {SourceKind.NONE}


@pytest.mark.parametrize(
    ("preset", "workload"), [(preset, name) for preset in Preset for name in PRESETS[preset]], ids=str
)
def test_every_preset_makes_an_order(preset: Preset, workload: str) -> None:
    order = next(each for each in ORDERS if each.workload == workload)
    # The one row of the letter whose device only the operator knows.
    needs_device = preset is Preset.SERIES_X86_ZSWAP and workload == "kernel_build"
    device = {"swap": {"kind": "block_device", "path": "/dev/nvme1n1"}} if needs_device else {}
    made = order_from(order, workload, preset, device)
    assert made.swap.named
    assert made.swap.zswap is needs_device


def test_the_cover_letters_valkey_row_is_exact() -> None:
    order = order_from(orders.ValkeyGetOrder, "valkey_get", "series-arm64-zram", {})
    assert (order.maxmemory_bytes, order.keys, order.requests) == (2560 << 20, 3_000_000, 3_000_000)
    assert (order.value_bytes, order.clients, order.pipeline, order.bgsave) == (1024, 12, 32, False)
    assert order.swap.kind is SourceKind.ZRAM
    assert order.pressure == Pressure()


def test_explicit_values_win_over_the_preset_and_another_kind_of_swap_replaces_the_presets() -> None:
    explicit = {"jobs": 3, "pressure": {"memory_limit_bytes": 0}, "swap": {"kind": "file", "size_bytes": 1 << 22}}
    order = order_from(orders.KernelBuildOrder, "kernel_build", "small", explicit)
    assert (order.jobs, order.pressure.memory_limit_bytes) == (3, 0)
    assert order.swap == SwapSource(kind=SourceKind.FILE, size_bytes=1 << 22)
    kept = merge({"swap": {**ZRAM, "algorithm": "lz4"}}, {"swap": {"size_bytes": 7}})
    assert kept == {"swap": {"kind": "zram", "size_bytes": 7, "algorithm": "lz4"}}


@pytest.mark.parametrize(
    ("order", "values", "words"),
    [
        (orders.AnonSweepOrder, {}, "anon_sweep needs something to swap to"),
        (orders.AnonSweepOrder, {"swap": {"kind": "tape"}}, "kind must be one of"),
        (orders.AnonSweepOrder, {"swap": {"kind": "zram"}}, "zram swap needs a size of at least 1M"),
        (orders.AnonSweepOrder, {"swap": {"kind": "block_device"}}, "has no path"),
        (orders.AnonSweepOrder, {"swap": {**ZRAM, "zswap": True}}, "compress everything twice"),
        (orders.AnonSweepOrder, {"swap": {**ZRAM, "directory": "/tmp"}}, "takes a directory"),
        (orders.AnonSweepOrder, {"swap": ZRAM, "pattern": "spiral"}, "pattern must be one of sequential, random"),
        (orders.AnonSweepOrder, {"swap": ZRAM, "processes": 0}, "processes must be at least 1"),
        (orders.AnonSweepOrder, {"swap": ZRAM, "pressure": {"memory_limit_bytes": 5}}, "a memory limit is at least 1M"),
        (orders.AnonSweepOrder, {"swap": ZRAM, "speed": 5}, "speed is no parameter"),
        (orders.SwapMountOrder, {"swap": {"kind": "existing"}}, "needs a device of its own"),
        (orders.SwapFillOrder, {"swap": ZRAM, "fill_percent": 100}, "fill_percent must be 1 to 95"),
        (orders.SwapIntegrityOrder, {"swap": {"kind": "existing"}}, "needs devices of its own and no other swap"),
        (orders.SwapIntegrityOrder, {"swap": {**ZRAM, "allow_active_swap": True}}, "no kernel tells on which one"),
        (orders.KernelBuildOrder, {"swap": ZRAM, "objects": ("../x.o",)}, "named from the top of the source"),
        (orders.ValkeyGetOrder, {"swap": ZRAM, "min_hit_percent": 0}, "min_hit_percent must be 1 to 100"),
        (orders.StressNgOrder, {"swap": ZRAM, "duration_s": 0}, "duration_s must be at least 1"),
        (orders.MmSelftestsOrder, {"swap": ZRAM, "programs": ("mm/../sh",)}, "named by folder and name, as mm/cow"),
        (orders.MmSelftestsOrder, {"swap": ZRAM, "program_timeout_s": 0.5}, "program_timeout_s must be at least 1"),
        (orders.MmSelftestsOrder, {"swap": ZRAM, "selftests_directory": "x"}, "selftests_directory must start with /"),
        (
            orders.MmSelftestsOrder,
            {"swap": ZRAM, "selftests_directory": "/x", "source": "/y"},
            "selftests_directory has programs that are built",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_sentence(order: type[Any], values: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidOrder, match=words):
        order_from(order, order.workload, "", values)


def test_a_preset_that_a_workload_does_not_have_is_named_with_those_it_has() -> None:
    with pytest.raises(InvalidOrder, match="anon_sweep has no preset 'series-arm64-zram'; it has small"):
        order_from(orders.AnonSweepOrder, "anon_sweep", "series-arm64-zram", {"swap": ZRAM})
    assert presets_of("valkey_get") == (Preset.SMALL, Preset.SERIES_ARM64_ZRAM)


def test_messages_say_the_same_as_values() -> None:
    swap = workloads_pb2.SwapSource(kind=workloads_pb2.SWAP_KIND_ZRAM, size_bytes=1 << 30, algorithm="lz4")
    message = agent_pb2.RunWorkload(swap_mount=agent_pb2.SwapMount(swap=swap, settle_timeout_s=5.0))
    expected = SwapSource(kind=SourceKind.ZRAM, size_bytes=1 << 30, algorithm="lz4")
    assert order_of(message) == orders.SwapMountOrder(swap=expected, settle_timeout_s=5.0)


def test_swap_mounts_older_device_fields_still_mean_what_they_meant() -> None:
    device = order_of(agent_pb2.RunWorkload(swap_mount=agent_pb2.SwapMount(block_device="/dev/nvme1n1")))
    assert device.swap == SwapSource(kind=SourceKind.BLOCK_DEVICE, path="/dev/nvme1n1")
    brd = order_of(agent_pb2.RunWorkload(swap_mount=agent_pb2.SwapMount(brd_size_bytes=1 << 40)))
    assert brd.swap == SwapSource(kind=SourceKind.BRD, size_bytes=1 << 40)


def test_a_preset_travels_by_its_number_and_an_unknown_one_is_refused() -> None:
    preset = workloads_pb2.PRESET_SMALL
    order = order_of(agent_pb2.RunWorkload(preset=preset, swap_mount=agent_pb2.SwapMount()))
    assert order == order_from(orders.SwapMountOrder, "swap_mount", "small", {})
    later = agent_pb2.RunWorkload(swap_mount=agent_pb2.SwapMount())
    later.preset = 99  # type: ignore[assignment]  # a later contract's number
    with pytest.raises(InvalidOrder, match="does not know the preset"):
        order_of(later)
    swap = workloads_pb2.SwapSource(kind=98)  # type: ignore[arg-type]  # as above
    with pytest.raises(InvalidOrder, match="kind has a value"):
        order_of(agent_pb2.RunWorkload(swap_mount=agent_pb2.SwapMount(swap=swap)))


def parsed(workload: str, *flags: str) -> Any:
    parser = argparse.ArgumentParser()
    add_flags(parser, workload)
    options = parser.parse_args(flags)
    options.workload = workload
    return order_of_flags(options)


def test_flags_say_the_same_as_values() -> None:
    assert parsed("swap_mount", "--brd-size", "1T", "--settle-timeout", "5") == orders.SwapMountOrder(
        swap=SwapSource(kind=SourceKind.BRD, size_bytes=1 << 40), settle_timeout_s=5.0
    )
    device = parsed("swap_mount", "--block-device", "/dev/x", "--allow-active-swap")
    assert device.swap == SwapSource(kind=SourceKind.BLOCK_DEVICE, path="/dev/x", allow_active_swap=True)
    assert parsed("swap_mount", "--preset", "small", "--settle-tolerance", "2M").settle_tolerance_bytes == 2 << 20


@pytest.mark.parametrize("workload", KINDS)
def test_the_help_of_every_workload_can_be_printed(workload: str) -> None:
    parser = argparse.ArgumentParser()
    add_flags(parser, workload)
    text = parser.format_help()
    takes_swap = any(each.kind is SwapSource for each in order_fields(KINDS[workload].order))
    assert ("--zram-size SIZE" in text) == takes_swap
    for each in order_fields(KINDS[workload].order):
        assert is_dataclass(each.kind) or each.says, f"{workload}.{each.name} says nothing"


def test_the_page_of_parameters_is_what_the_code_says() -> None:
    page = ROOT / "docs/parameters.md"
    assert page.read_text() == manual.page(), "run make docs and commit what it makes"


def test_sizes_read_as_they_are_written() -> None:
    for text in ("1T", "5G", "512M", "3K", "1025"):
        assert size_text(parse_size(text)) == text
