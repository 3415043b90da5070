"""Agents' messages as they come in: how many parts of one are taken, and how much of one host's in what time.

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


# What one host may say for as long as it likes, and how much at once: more than an agent keeps for a controller that
# was away. Beyond it the stream is read more slowly; nothing is lost.
_BYTES_A_SECOND: Final = 1 << 20
_BYTES_AT_ONCE: Final = 32 << 20
_MESSAGES_A_SECOND: Final = 200.0
_MESSAGES_AT_ONCE: Final = 4000.0


@dataclass(slots=True, kw_only=True)
class Allowance:
    """How much one host may still say at this moment (a token bucket for bytes, and one for messages)."""

    # Seconds, of any clock that does not go back.
    at: float
    bytes_left: float = _BYTES_AT_ONCE
    messages_left: float = _MESSAGES_AT_ONCE

    def pause_s(self, now: float, size_bytes: int) -> float:
        """Take one message of so many bytes off; return how long to wait before the next is read."""
        passed_s = max(0.0, now - self.at)
        self.at = now
        self.bytes_left = min(_BYTES_AT_ONCE, self.bytes_left + passed_s * _BYTES_A_SECOND) - size_bytes
        self.messages_left = min(_MESSAGES_AT_ONCE, self.messages_left + passed_s * _MESSAGES_A_SECOND) - 1
        return max(0.0, -self.bytes_left / _BYTES_A_SECOND, -self.messages_left / _MESSAGES_A_SECOND)
