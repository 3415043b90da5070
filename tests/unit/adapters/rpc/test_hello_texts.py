"""Whatever text an agent says of itself: all of it is checked before it becomes a fact, a stratum or a sentence."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from controller.adapters.rpc.agent_messages import held_of, host_of, progress_of, report_of
from controller.domain import bounds
from protos.kernroll.v1 import agent_pb2, common_pb2

HOSTILE = ("a/b\n\x1b[2J\u202e" * 4000, "\x00", "x86_64/vm", "line\rover", "é" * 100_000, "\ud7ff\u2028")


def filled(message: Message, text: str) -> Message:
    """Put the text into every field that holds one, whatever fields later versions may add."""
    for field in message.DESCRIPTOR.fields:
        if field.containing_oneof is not None and not field.has_presence:
            continue
        _put(message, field, text)
    return message


def _put(message: Message, field: FieldDescriptor, text: str) -> None:
    target: Any = getattr(message, field.name)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        target[text] = text
    elif field.message_type is not None and field.is_repeated:
        filled(target.add(), text)
    elif field.message_type is not None and field.message_type.full_name.startswith("kernroll."):
        filled(target, text)
    elif field.type == FieldDescriptor.TYPE_STRING:
        if field.is_repeated:
            target.append(text)
        else:
            setattr(message, field.name, text)


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif is_dataclass(value):
        for field in fields(value):
            yield from texts(getattr(value, field.name))
    elif isinstance(value, Mapping):
        for key, one in value.items():
            yield from (*texts(key), *texts(one))
    elif isinstance(value, tuple | list | frozenset):
        for one in value:
            yield from texts(one)


def assert_checked(value: Any) -> None:
    found = list(texts(value))
    assert found
    assert all(one.isprintable() and len(one) <= bounds.COMMAND_LINE_CHARACTERS for one in found)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_no_text_of_a_hello_or_a_heartbeat_is_taken_as_it_is(text: str) -> None:
    facts = filled(common_pb2.HostFacts(), text)
    assert isinstance(facts, common_pb2.HostFacts)
    host = host_of("h1", facts)
    assert_checked(host)
    assert host.stratum.count("/") == 1
    beat = filled(agent_pb2.Heartbeat(), text)
    assert isinstance(beat, agent_pb2.Heartbeat)
    assert_checked(held_of(beat))
    progress = filled(agent_pb2.Progress(), text)
    assert isinstance(progress, agent_pb2.Progress)
    assert_checked(progress_of(progress))


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_no_text_of_an_outcome_is_taken_as_it_is(text: str) -> None:
    outcome = agent_pb2.CommandOutcome(detail=text)
    report = report_of(agent_pb2.Report(report_id=text, command_id=text, boot_id=text, outcome=outcome), 5.0)
    assert_checked(report)
