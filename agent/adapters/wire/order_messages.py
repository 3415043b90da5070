"""Between a workload's message and its order: fields of the same name mean the same."""

from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from agent.domain.errors import InvalidOrder
from agent.domain.orders.orders import Order
from agent.domain.orders.presets import order_from
from agent.domain.orders.swap_source import SourceKind
from agent.workloads.registry import KINDS
from protos.kernroll.v1 import agent_pb2, workloads_pb2


def order_of(message: agent_pb2.RunWorkload) -> Order:
    """Return what is ordered. Raises InvalidOrder for what this agent does not know, or what contradicts itself."""
    name = message.WhichOneof("workload")
    if name is None or name not in KINDS:
        raise InvalidOrder("this agent does not know the workload; install a newer agent")
    body: Message = getattr(message, name)
    values = _values(body)
    if isinstance(body, agent_pb2.SwapMount):
        values |= _device_of(body)
        values.pop("block_device", None)
        values.pop("brd_size_bytes", None)
    return order_from(KINDS[name].order, name, _preset(message.preset), values)


def _values(message: Message) -> dict[str, Any]:
    """Return the fields that the sender gave; a field without presence was given when it is not zero."""
    values: dict[str, Any] = {}
    for field, value in message.ListFields():
        if field.message_type is not None:
            values[field.name] = _values(value)
        elif field.enum_type is not None:
            values[field.name] = _word(field, value)
        elif isinstance(value, bool | int | float | str):
            values[field.name] = value
        else:
            values[field.name] = tuple(value)
    if message.DESCRIPTOR is workloads_pb2.SwapSource.DESCRIPTOR and values.get("kind") == "unspecified":
        del values["kind"]
    return values


def _word(field: FieldDescriptor, number: int) -> str:
    """Return an enum's value as the agent's own word: SWAP_KIND_ZRAM is "zram". Raises InvalidOrder."""
    assert field.enum_type is not None, "only called for enums"
    known = field.enum_type.values_by_number.get(number)
    if known is None:
        raise InvalidOrder(f"{field.name} has a value that this agent does not know; install a newer agent")
    prefix = field.enum_type.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return known.name.removeprefix(prefix).lower()


def _preset(number: int) -> str:
    if number == workloads_pb2.PRESET_UNSPECIFIED:
        return ""
    known = workloads_pb2.Preset.DESCRIPTOR.values_by_number.get(number)
    if known is None:
        raise InvalidOrder("this agent does not know the preset; install a newer agent")
    return known.name.removeprefix("PRESET_").lower().replace("_", "-")


def _device_of(message: agent_pb2.SwapMount) -> dict[str, Any]:
    """Return swap_mount's device, which has older fields of its own beside the source that all workloads know."""
    match message.WhichOneof("device"):
        case "block_device":
            return {"swap": {"kind": SourceKind.BLOCK_DEVICE, "path": message.block_device}}
        case "brd_size_bytes":
            return {"swap": {"kind": SourceKind.BRD, "size_bytes": message.brd_size_bytes}}
        case _:
            return {}
