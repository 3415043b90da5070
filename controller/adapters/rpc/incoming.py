"""Agents' messages as they come in: how many parts of one are taken, and how much of its time the controller gives.

Decoding a message takes the library one step a part, and millions of parts fit into the largest message: that would
hold up everybody else. So the parts are counted before, and what is beyond the limit is not decoded.
Source: the encoding of Protocol Buffers (tag and value; length-delimited fields hold messages).
"""

from dataclasses import dataclass
from typing import Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from controller.domain.bounds import MESSAGE_FIELDS
from protos.kernroll.v1 import agent_pb2

# What can have so many parts at the utmost needs no counting: a part takes two bytes or more.
_SURELY_FEW_BYTES: Final = 2 * MESSAGE_FIELDS
_VARINT, _FIXED_64, _DELIMITED, _FIXED_32 = 0, 1, 2, 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """One message of an agent."""

    message: agent_pb2.AgentMessage
    # Whether it had more parts than are taken; the last of them are not in `message`.
    cut: bool = False


def decoded(data: bytes) -> Incoming:
    """Return the message, cut off where it has too many parts. Raises DecodeError for what is none."""
    if len(data) <= _SURELY_FEW_BYTES:
        return Incoming(message=agent_pb2.AgentMessage.FromString(data))
    counter = _Counter(left=MESSAGE_FIELDS)
    kept = counter.kept(data, 0, len(data), agent_pb2.AgentMessage.DESCRIPTOR)
    cut = counter.left < 0
    return Incoming(message=agent_pb2.AgentMessage.FromString(kept if cut else data), cut=cut)


@dataclass(slots=True, kw_only=True)
class _Counter:
    # Parts that may still be taken; negative once there were too many.
    left: int

    def kept(self, data: bytes, start: int, end: int, of: Descriptor) -> bytes:
        """Return the parts of the message in data[start:end] up to the limit; everything where it is not reached.

        What cannot be read as parts (a group, which no version of the contract has) is cut off like what is too much.
        """
        position = start
        while position < end:
            tag, after = _varint(data, position, end)
            value = _after_value(data, after, end, tag & 7)
            self.left = -1 if value is None else self.left - 1
            if value is None or self.left < 0:
                return data[start:position]
            inner = _container(of, tag >> 3) if tag & 7 == _DELIMITED else None
            if inner is not None:
                _, begin = _varint(data, after, end)
                kept = self.kept(data, begin, value, inner)
                if self.left < 0:
                    return data[start:after] + _as_varint(len(kept)) + kept
            position = value
        return data[start:end]


def _container(of: Descriptor, number: int) -> Descriptor | None:
    """Return the kind of message that a field holds when that can have any number of parts."""
    field: FieldDescriptor | None = of.fields_by_number.get(number)
    inner: Descriptor | None = None if field is None else field.message_type
    if inner is None or not any(one.is_repeated or one.message_type for one in inner.fields):
        return None
    return inner


def _after_value(data: bytes, position: int, end: int, kind: int) -> int | None:
    """Return where a field's value ends; None for a value that does not end within the message."""
    if kind == _VARINT:
        after = _varint(data, position, end)[1]
    elif kind == _FIXED_64:
        after = position + 8
    elif kind == _FIXED_32:
        after = position + 4
    elif kind == _DELIMITED:
        size, begin = _varint(data, position, end)
        after = begin + size
    else:
        return None
    return after if after <= end else None


def _varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    """Return the number at a position and where it ends, beyond `end` when it does not."""
    value = shift = 0
    while position < end and shift < 70:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position += 1
        shift += 7
        if byte < 0x80:
            return value, position
    return value, end + 1


def _as_varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


# What a message costs at least (taking it, writing it down, answering), and what its bytes cost beside that.
_MESSAGE_S: Final = 0.002
_BYTES_A_SECOND: Final = 20e6
# How much of a controller's time one host may take: so much at once, and this share of it for as long as it likes.
# Beyond it the host's stream is read more slowly; nothing is lost, and nobody else waits for it.
_AT_ONCE_S: Final = 0.5
_SHARE: Final = 0.08
# A session costs as much as so many messages.
HELLO_MESSAGES: Final = 25


@dataclass(slots=True, kw_only=True)
class Allowance:
    """How much of the controller's time one host may still take at this moment: a token bucket of seconds."""

    # Seconds, of any clock that does not go back.
    at: float
    left_s: float = _AT_ONCE_S

    def pause_s(self, now: float, size_bytes: int, computed_s: float = 0.0, messages: int = 1) -> float:
        """Take off what was just done for the host; return how long to wait before more is done.

        `computed_s` is the processor time that the content took, as far as it was measured.
        """
        earned_s = _SHARE * max(0.0, now - self.at)
        cost_s = messages * _MESSAGE_S + size_bytes / _BYTES_A_SECOND + computed_s
        self.at = now
        self.left_s = min(_AT_ONCE_S, self.left_s + earned_s) - cost_s
        return max(0.0, -self.left_s / _SHARE)
