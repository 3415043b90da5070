"""From a task to the message that orders it: names are the same on both sides."""

from collections.abc import Mapping
from typing import Any

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

from controller.domain.record.policy import Task
from protos.kernroll.v1 import agent_pb2, workloads_pb2


def workload_message(task: Task) -> agent_pb2.RunWorkload:
    """Return the order of a task."""
    message = agent_pb2.RunWorkload(repetitions=task.repetitions, warmups=task.warmups)
    if task.preset:
        word = f"PRESET_{task.preset.replace('-', '_').upper()}"
        message.preset = workloads_pb2.Preset.Value(word)
    body: Message = getattr(message, task.workload)
    # An empty order is one, too.
    body.SetInParent()
    _fill(body, task.parameters)
    return message


def _fill(message: Message, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        field: FieldDescriptor = message.DESCRIPTOR.fields_by_name[name]  # type: ignore[assignment]  # as the stubs put it
        if isinstance(value, Mapping):
            inner: Message = getattr(message, name)
            inner.SetInParent()
            _fill(inner, value)
        elif isinstance(value, list):
            getattr(message, name).extend(value)
        elif field.enum_type is not None:
            setattr(message, name, _number(field.enum_type, value))
        else:
            setattr(message, name, value)


def _number(enum: EnumDescriptor, word: str) -> int:
    """Return an enum's number for the word: "zram" of SwapKind is SWAP_KIND_ZRAM."""
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return int(enum.values_by_name[prefix + word.upper()].number)
